"""Values: recipe, layers, report, errors, registry. Imports neither torch nor pandas."""
