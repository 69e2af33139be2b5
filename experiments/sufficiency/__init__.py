"""Experiments on sufficient subsets. `pixel_subsets` and `subset_training` belong to `overinterpretation`, `two_labels` and `verdicts` to `disambiguation`."""
