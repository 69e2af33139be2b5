"""Experiments on verified bounds."""
