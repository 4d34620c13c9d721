# SPDX-License-Identifier: GPL-2.0-only
"""Reading and writing parts of devices in whole blocks, much at a time."""
