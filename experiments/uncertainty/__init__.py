"""Whether networks know when they do not know: what their uncertainty is good for, and what it is not. `deterministic_networks` belongs to `duq` and
`deterministic_uncertainty`."""
