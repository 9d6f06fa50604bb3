"""Data only: default settings, encoder engines, support sets, recipes, schemata and the demonstration recording."""
