"""A map's sign is its method's: what is said to have none dips below 0 by no more than a resize does."""

import functools

import jax
import numpy as np
import pytest
from drawn import drawn

from jxai import attribution as A
from jxai import plot
from jxai.attribution.signs import UNSIGNED
from jxai.models import CNN
from jxai.testing import attentive

F = drawn(lambda rngs: CNN(1, (4,), 3, rngs=rngs))
X = np.random.default_rng(0).uniform(size=(8, 8, 1)).astype(np.float32)
SMALL = {
    "attention_rollout": {},
    "chefer": {},
    "extremal_perturbation": {"steps": 3, "spacing": 2, "sigma": 2.0, "blur": 2.0},
    "hsic": {"grid": 4, "num_designs": 16},
    "meaningful_perturbation": {"steps": 3, "mask_scale": 2},
    "rise": {"num_masks": 16, "grid": 4, "score": "probability"},
    "sidu": {},
    "sobol": {"grid": 4, "num_designs": 8},
    "squaregrad": {"num_samples": 3},
    "vargrad": {"num_samples": 3},
}


def test_the_table_is_of_methods_of_jxai():
    assert {fn.__name__ for fn in UNSIGNED} == set(SMALL) <= set(A.__all__)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in ("sobol", "vargrad"))) for n in SMALL])
def test_what_has_no_sign(name):
    f = attentive(X.shape) if name in ("attention_rollout", "chefer") else F
    a = np.asarray(jax.jit(functools.partial(getattr(A, name), **SMALL[name]))(f, X, 1, jax.random.key(0)))
    assert A.is_signed(getattr(A, name)) is False and a.min() >= -0.1 * np.abs(a).max()
    assert not plot.normalize(a).signed


def test_what_has_one():
    assert A.is_signed(A.gradient) and A.is_signed(A.occlusion) and A.is_signed(A.eigen_cam)
    assert not A.is_signed(A.grad_cam) and A.is_signed(A.grad_cam, {"relu": False})
    assert A.is_signed(lambda f, x, target, key=None: x) is None


def test_the_page_draws_a_map_by_its_methods_sign():
    dipping = X - 0.02
    page = plot.explanations(X, {"a": dipping[None], "b": dipping[None]}, signed={"a": True, "b": False})
    pictures = [np.asarray(axes.images[0].get_array()) for axes in page.axes if axes.images]
    assert not np.allclose(pictures[1], pictures[2])
    ticks = [[t.get_text() for t in axes.get_xticklabels()] for axes in page.axes if axes.images][3:]
    assert ["against", "0", "for the class"] in ticks and ["least", "most important"] in ticks
