# SPDX-License-Identifier: GPL-2.0-only
"""ext2, ext3 and ext4.  Pure."""
