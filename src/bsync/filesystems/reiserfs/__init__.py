# SPDX-License-Identifier: GPL-2.0-only
"""ReiserFS, version 3.  Pure."""
