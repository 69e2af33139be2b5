"""Experiments on counterfactuals. `every_class`, `scenes`, `leaning`, `nontrivial` and `edit_judge` are shared; `deduce_*` belong to `deduce`."""
