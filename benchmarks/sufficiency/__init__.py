"""Sufficient subsets over the bare passes that they need."""
