# SPDX-License-Identifier: GPL-2.0-only
"""What is on a disk, as the stages tell each other: volumes and their contents in `layout`, the
blocks in use of a filesystem in `allocation`.  Pure."""
