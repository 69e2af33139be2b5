"""Counterfactual searches over their floor, and beside alibi."""
