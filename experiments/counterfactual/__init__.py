"""Experiments on counterfactuals. `every_class`, `searching`, `lenet`, `scenes`, `leaning`, `nontrivial` and `edit_judge` are shared; `deduce_*` belong to `deduce`."""
