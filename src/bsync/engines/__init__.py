"""How contents get from one side to the other, one file an engine."""
