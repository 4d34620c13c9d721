# SPDX-License-Identifier: GPL-2.0-only
"""Parts of the benchmark: child processes, disks, contenders, checks and the report."""
