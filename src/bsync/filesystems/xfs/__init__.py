# SPDX-License-Identifier: GPL-2.0-only
"""XFS, version 5.  Pure."""
