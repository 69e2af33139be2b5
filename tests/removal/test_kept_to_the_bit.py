"""What is kept is x to the bit and what is removed is the fill to the bit, in every method and metric that removes; only searches and smooth masks mix."""

import inspect

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from metrics import metric_cases

from jxai import attribution, fills, metrics, sufficiency

KEY = jax.random.key(0)
X = np.float32([[[0.0012], [-0.0]], [[3.1234567], [np.nan]]])
CODE = np.float32(-1e8)
"""What a model may know for "missing": beside it, 0.0012 has no digits in a sum."""

MIXING = {"extremal_perturbation", "meaningful_perturbation", "rise", "score_cam", "sidu", "sobol"}
MIXING |= {"average_drop", "average_gain", "average_increase"}
"""Masks between 0 and 1."""


def takers(family):
    return [name for name in family.__all__ if "fill" in inspect.signature(getattr(family, name)).parameters]


def bits(v):
    return lax.bitcast_convert_type(v, jnp.uint32)


def spy(v):
    """Two logits that see every entry, and are NaN where one is neither that of X nor the code."""
    pure = (bits(v) == bits(jnp.asarray(X))) | (bits(v) == bits(jnp.asarray(CODE)))
    present = jnp.where((v == CODE) | jnp.isnan(v), 0, 1) * jnp.arange(1.0, 5).reshape(v.shape)
    logits = jnp.stack([jnp.tanh(present.sum() / 4), 0.1 * present.max()])
    return jnp.where(pure.all(), logits, jnp.nan)


def run(family, name, table):
    options = {**table.options(name, X.shape), "fill": CODE}
    options = {k: v for k, v in options.items() if k not in ("window", "stride", "grid", "shares", "sizes")}
    given = () if family is attribution else (jnp.float32([[[0.4], [0.1]], [[-0.3], [0.2]]]),)
    options |= {"grid": 2} if "grid" in inspect.signature(getattr(family, name)).parameters else {}
    return getattr(family, name)(spy, jnp.asarray(X), 0, *given, KEY, **options)


@pytest.mark.parametrize(("family", "table"), [(attribution, cases), (metrics, metric_cases)])
def test_every_method_and_metric_shows_x_and_the_fill_alone(family, table):
    names = [name for name in takers(family) if name not in MIXING and name != "performance_information_curve"]
    assert len(names) > 5
    found = jax.jit(lambda: {name: run(family, name, table) for name in names})()
    assert dict.fromkeys(names, True) == {name: bool(np.isfinite(jax.tree.leaves(found[name])[-1]).all()) for name in names}


@pytest.mark.parametrize("name", sorted(MIXING))
def test_what_mixes_refuses_to_mix_with_nan(name):
    family, table = (attribution, cases) if name in attribution.__all__ else (metrics, metric_cases)
    shape = (6, 6, 1)
    image = jnp.ones(shape) / 3
    given = () if family is attribution else (image,)
    f = lambda x: jnp.stack([x.sum(), 0.0])
    if name in ("score_cam", "sidu"):
        f = lambda x: jax.nn.relu(lax.conv_general_dilated(x[None], jnp.ones((3, 3, 1, 2)), (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))).mean(
            (0, 1, 2)
        )
    with pytest.raises(ValueError, match="fill must be finite: .* mixes x"):
        getattr(family, name)(f, image, 0, *given, KEY, **table.options(name, shape, fill=jnp.nan))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_removal_is_exact_at_both_ends_and_mixes_between(dtype):
    x, fill = np.array([0.0012, np.nan, -0.0, 6e4], dtype), np.array([-9999, 1, np.inf, -6e4], dtype)
    kept, gone, half = jax.jit(jax.vmap(lambda m: fills.remove(jnp.asarray(x), m, jnp.asarray(fill))))(jnp.float32([[1], [0], [0.5]]))
    assert np.asarray(kept).tobytes() == x.tobytes() and np.asarray(gone).tobytes() == fill.tobytes()
    assert np.allclose(half[jnp.array([0, 3])], [-4999.5, 0], rtol=1e-3)
    assert fills.remove(x, jnp.array([True, False, False, True]), fill).tolist() == [x[0], 1, np.inf, x[3]]


def test_a_removal_has_the_slopes_of_a_mixture_and_none_of_what_is_not_shown():
    x, fill, m = np.float32([2, 2, 2, np.nan, 5]), np.float32([5, 5, 5, 1, np.nan]), np.float32([0, 0.25, 1, 0, 1])
    # A model whose own slope is NaN wherever it is shown a NaN: nothing of it may come back to what was not shown.
    score = lambda x, m, fill: (3 * fills.remove(x, m, fill)).sum()
    by_x, by_m, by_fill = map(np.asarray, jax.jit(jax.grad(score, (0, 1, 2)))(x, m, fill))
    assert by_x.tolist() == [0, 0.75, 3, 0, 3]
    assert by_fill.tolist() == [3, 2.25, 0, 3, 0]
    assert by_m.tolist() == [-9, -9, -9, 0, 0]
    shown = jax.jit(jax.grad(lambda x, m: (fills.remove(x, m, jnp.nan) ** 2).sum()))(x[:3], jnp.float32([0, 1, 1]))
    assert np.asarray(shown).tolist() == [0, 4, 4]


def test_paths_and_words_are_errors_that_say_what_there_is():
    f = lambda x: jnp.stack([x.sum(), 0.0])
    with pytest.raises(ValueError, match="baseline must be finite: integrated_gradients goes from"):
        attribution.integrated_gradients(f, jnp.ones(3), 0, baseline=jnp.nan)
    with pytest.raises(ValueError, match="x must be finite: guided_integrated_gradients"):
        attribution.guided_integrated_gradients(lambda x: f(jnp.nan_to_num(x)), jnp.float32([1, jnp.nan]), 0)
    with pytest.raises(ValueError, match="fill must be finite: batched_gradient_sis"):
        sufficiency.batched_gradient_sis(f, jnp.ones(3), 0, threshold=0.5, fill=jnp.inf)
    with pytest.raises(ValueError, match=r"fill='mean' must be a number, .* Mean\(\), Blur\(\), Uniform\(\), Neighbours\(\)"):
        attribution.occlusion(f, jnp.ones(3), 0, fill="mean")
