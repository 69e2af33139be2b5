"""Uncertainty scores over the forward pass that they need, and beside other libraries'."""
