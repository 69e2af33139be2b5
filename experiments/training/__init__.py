"""Trains the generators that other experiments search with."""
