"""Data sets, episodes, networks, recipes, evaluation and export."""
