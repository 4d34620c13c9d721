# SPDX-License-Identifier: GPL-2.0-only
"""On the host, the folder `guest` is no folder of tests: test_vm.py sends them to a guest."""

collect_ignore = ["guest"]
