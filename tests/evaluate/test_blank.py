"""A run says where what it removes takes nothing away, and counts a group of a map by groups once."""

import jax.numpy as jnp
import numpy as np

from jxai import attribution, data, evaluate, fills, metrics
from jxai.attribution import feature_ablation, gradient, kernel_shap
from jxai.evaluate import blank, tasks
from jxai.segments import Segmentation


def dark(x):
    """Class 0 where there is little light; on digits, where the ink is thin."""
    return jnp.stack([0.3 - x.mean(), x.mean() - 0.3])


def test_examples_whose_blank_is_of_the_class_are_counted_by_the_fill(tmp_path):
    methods = {"black": (feature_ablation, {"grid": 1}), "white": (feature_ablation, {"grid": 1, "fill": 1.0})}
    table = evaluate.run(dark, data.Arrays(np.stack([data.Digits()[i].pixels for i in range(9)])), methods, ["sparseness"], tmp_path, keep_maps=False).table()
    assert 0 < (table["predicted"] == 0).sum() < 9
    assert (table["blank/0"] == (table["predicted"] == 0)).all() and (table["blank/1"] == (table["predicted"] == 1)).all()
    counts = [int((table["predicted"] == c).sum()) for c in (0, 1)]
    (line,) = blank.lines(table)
    assert line.endswith(f"(by fill): 0: {counts[0]} of 9, 1: {counts[1]} of 9.")
    assert not blank.lines({"valid": np.ones(2, bool), "blank/0": np.zeros(2, bool)})


def test_fills_are_those_of_methods_and_of_metrics():
    explainers = tasks.methods(
        {"integrated_gradients": attribution.integrated_gradients, "grey": (feature_ablation, {"fill": 0.5})}, data.Digits(), (8, 8, 1), None
    )
    judges = tasks.judges(["insertion", "irof"], explainers, (8, 8, 1), 0)
    assert list(blank.of_tasks([*explainers, *(by["grey"] for by in judges.values())]).values()) == [0.0, 0.5, fills.Blur(5.0), fills.Mean()]


def test_a_metric_on_sums_is_told_the_groups_of_a_map_by_groups():
    slic = Segmentation("slic", (6.0,))
    given = {"slope": gradient, "cells": kernel_shap, "parts": (kernel_shap, {"segments": slic}), "grid": (kernel_shap, {"grid": 4})}
    explainers = tasks.methods(given, data.Digits(), (8, 8, 1), None)
    by = tasks.judges({"error": (metrics.completeness_error, {})}, explainers, (8, 8, 1), 0)["error"]
    assert [by[name].options.get("grid") for name in given] == [None, (8, 8), None, 4]
    assert by["parts"].segmentations == {"segments": slic} and not by["cells"].segmentations
    assert tasks.judged_by(by)["on"]["grid"]["options"]["grid"] == 4
    own = tasks.judges({"error": (metrics.completeness_error, {"grid": 2})}, explainers, (8, 8, 1), 0)["error"]
    assert {task.options["grid"] for task in own.values()} == {2}
