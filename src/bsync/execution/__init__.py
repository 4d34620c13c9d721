# SPDX-License-Identifier: GPL-2.0-only
"""How each kind of step is done; `execute` has their order."""
