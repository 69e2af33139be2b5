"""With `jax_enable_x64` and a model whose weights are wider than x, every search finds what it finds without."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from counterfactual.search_cases import CASES
from jax.tree_util import tree_map

from jxai import counterfactual

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_compilation")]


def widened(tree):
    return tree_map(lambda leaf: jnp.asarray(leaf, jnp.float64) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating) else leaf, tree)


@pytest.mark.parametrize("name", CASES)
def test_it_searches_in_the_width_of_x(name):
    case = CASES[name]
    x, key, method = jnp.asarray(case["x"]), jax.random.key(3), getattr(counterfactual, name)
    options = case["options"](x.shape) if callable(case["options"]) else case["options"]
    f = case["model"](x.shape, 0)
    target = int(np.argmin(f(x))) if case.get("targeted", True) else None
    narrow = method(f, x, target, key, **options)
    with jax.enable_x64(True):
        wide = method(widened(f), x, target, key, **options)
    assert wide.x.dtype == x.dtype == np.float32
    if not case["keyed"]:  # others draw other numbers
        np.testing.assert_allclose(wide.x, narrow.x, atol=2e-3)
        np.testing.assert_array_equal(wide.valid, narrow.valid)
