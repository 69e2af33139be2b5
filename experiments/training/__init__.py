"""Trains the generators that other experiments search with. `recipes` and `bar` belong to `train`; `recipes.load` is for the others."""
