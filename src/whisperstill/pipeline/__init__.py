"""Recipes: parsing and running a chain of stages, stage records and cache keys, sweeps, cost estimates."""
