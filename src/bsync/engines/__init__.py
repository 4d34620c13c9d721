# SPDX-License-Identifier: GPL-2.0-only
"""How contents get from one side to the other, one file an engine."""
