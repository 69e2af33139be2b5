"""Experiments on metrics: which can be trusted."""
