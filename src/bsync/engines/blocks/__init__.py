# SPDX-License-Identifier: GPL-2.0-only
"""The blocks engine: ext2, ext3 and ext4 read and written by their blocks, never mounted."""
