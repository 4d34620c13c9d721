# SPDX-License-Identifier: GPL-2.0-only
"""Named pairs of disks in a file, cloned one after the other or several at once."""
