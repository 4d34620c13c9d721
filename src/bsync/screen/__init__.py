# SPDX-License-Identifier: GPL-2.0-only
"""What people see: text as wide as the screen, and what moves on it."""
