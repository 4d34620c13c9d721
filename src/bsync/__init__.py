# SPDX-License-Identifier: GPL-2.0-only
"""bsync clones and synchronises disks at the filesystem level."""

__version__ = "0.1.0"
