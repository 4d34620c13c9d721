# SPDX-License-Identifier: GPL-2.0-only
"""What bsync knows of each kind of filesystem.  Pure."""
