# SPDX-License-Identifier: GPL-2.0-only
"""FAT12, FAT16 and FAT32.  Pure."""
