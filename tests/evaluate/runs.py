"""A small run for the tests: digits, a net with fixed weights, methods and metrics of every kind."""

import jax
import jax.numpy as jnp
import numpy as np

from jxai import data, evaluate
from jxai.segments import Segmentation

WEIGHTS = np.random.default_rng(0).normal(size=(64, 10)).astype(np.float32)
HIDDEN = np.random.default_rng(1).normal(size=(64, 64)).astype(np.float32) / 8
METHODS = {"gradient": None, "abs:gradient": None, "smoothgrad": None, "rise": None, "by segments": None}
METRICS = ("pointing_game", "sparseness", "localization_auc")


def net(weights, x):
    return jnp.tanh(x.ravel() @ weights[0]) @ weights[1]


def model(scale=1.0):
    return jax.tree_util.Partial(net, [jnp.asarray(HIDDEN), jnp.asarray(WEIGHTS) * scale])


def methods():
    from jxai.attribution import feature_ablation, gradient, rise, smoothgrad

    return {
        "gradient": gradient,
        "abs:gradient": gradient,
        "smoothgrad": (smoothgrad, {"num_samples": 5}),
        "rise": (rise, {"num_masks": 7, "grid": 2}),
        "by segments": (feature_ablation, {"segments": Segmentation("slic", (6.0,))}),
    }


def run(out, source=None, scale=1.0, metrics=METRICS, **options):
    options = {"limit": 21, "sample": "first", "block": 8, "batch_size": 2, **options}
    return evaluate.run(model(scale), source or data.Digits(), methods(), metrics, out, **options)


def same(a, b):
    """Whether two runs hold the same table, to the bit."""
    a, b = a.table(), b.table()
    assert list(a) == list(b)
    return all(a[name].tobytes() == b[name].tobytes() and a[name].dtype == b[name].dtype for name in a)


def page(*found, images=64):
    """The page of runs, whatever their folders are called."""
    from jxai.evaluate import page as paging
    from jxai.evaluate.joined import joined
    from jxai.evaluate.table import summarise

    tables, labels = [run.table() for run in found], [str(n) for n in range(len(found))]
    rows = [row for run, table, label in zip(found, tables, labels) for row in summarise(run, table, label)]
    return paging.page(found, labels, tables, rows, joined(found[:1]), images=images)
