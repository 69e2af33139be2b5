"""Experiments on metrics: which can be trusted. `planted` belongs to `metric_validity`."""
