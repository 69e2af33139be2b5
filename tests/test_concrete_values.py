"""Every method and metric that asks f looks at what is concrete: holes that f does not know, and probabilities where logits are meant."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from jxai import attribution, counterfactual, metrics

RNG = np.random.default_rng(0)
WEIGHTS = [np.float32(RNG.normal(size=shape)) for shape in ((3, 3, 1, 4), (4, 3))]
X = RNG.uniform(size=(8, 8, 1)).astype(np.float32)
BROKEN = np.where(np.arange(64).reshape(X.shape) == 18, np.float32(np.nan), X)
BLIND = {name for name in metrics.__all__ if name in ("effective_complexity", "energy_pointing", "entropy", "focus", "localization_auc", "pointing_game")} | {
    *("relevance_mass", "relevance_rank", "sparseness", "top_k_intersection")
}
"""They look at the map alone."""
CLASSLESS = {"eigen_cam"}
"""Its map is of the layer, whatever f makes of it."""
NEEDED = {"segments": np.arange(64).reshape(8, 8) // 16, "baselines": np.zeros((1, 8, 8, 1), np.float32), "radius": 0.01, "generator": None}


def net(end, w, x):
    h = jax.lax.conv_general_dilated(x[None], w[0], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))[0]
    return end(jax.nn.relu(h).mean((0, 1)) @ w[1])


LOGITS, SOFTENED = (Partial(Partial(net, end), WEIGHTS) for end in (Partial(lambda z: z), Partial(jax.nn.softmax)))


def call(fn, f, x):
    schema = inspect.signature(fn).parameters
    options = {name: value for name, value in NEEDED.items() if name in schema and schema[name].default is inspect.Parameter.empty}
    if "attribution" not in schema:
        return fn(f, x, 1, jax.random.key(0), **options)
    again = {"method": attribution.gradient} if "method" in schema else {}
    return fn(f, x, 1, jnp.ones((8, 8, 1)), jax.random.key(0), **options, **again)


EVERY = [getattr(attribution, n) for n in attribution.__all__] + [getattr(metrics, n) for n in metrics.__all__ if n not in BLIND]
QUICK = ("gradient", "vargrad", "xrai", "eva", "grad_cam", "robustness_sr", "max_sensitivity", "average_drop")


@pytest.mark.parametrize(
    "fn", [pytest.param(fn, id=fn.__name__, marks=[pytest.mark.slow] * (fn.__name__ not in QUICK)) for fn in EVERY if inspect.isfunction(fn)]
)
def test_what_is_concrete_is_looked_at(fn):
    with pytest.raises(ValueError, match="x must be finite, but it has NaN or infinite entries"):
        call(fn, LOGITS, BROKEN)
    if fn.__name__ not in CLASSLESS:
        with pytest.raises(ValueError, match="must be logits, but it is probabilities"):
            call(fn, SOFTENED, X)


@pytest.mark.parametrize("name", ["wachter", pytest.param("growing_spheres", marks=pytest.mark.slow), pytest.param("jsma", marks=pytest.mark.slow)])
def test_searches_look_too(name):
    fn, key = getattr(counterfactual, name), jax.random.key(0)
    with pytest.raises(ValueError, match="must be logits, but it is probabilities"):
        fn(SOFTENED, X, 1, key)
    with pytest.raises(ValueError, match="must be logits, but it is probabilities"):
        counterfactual.run(fn.search(), SOFTENED, X[None], np.array([1]), key)
