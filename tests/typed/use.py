"""A user's program, which a type checker reads (`make lint`): what is right has no error, and each marked line has the error that it must have."""

from __future__ import annotations

import jax
import jax.numpy as jnp

import jxai
from jxai import attribution, bounds, counterfactual, evaluate, fills, metrics, sufficiency, taps, train
from jxai.typing import Method


def f(x: jax.Array) -> jax.Array:
    return x.sum((0, 1))


x, key = jnp.ones((8, 8, 3)), jax.random.key(0)
a: jax.Array = attribution.sobol(f, x, 1, grid=4, fill=fills.Blur(2.0))
b: jax.Array = attribution.smoothgrad(f, x, 1, key, num_samples=4, method=attribution.input_x_gradient)
method: Method = attribution.integrated_gradients
curve = metrics.deletion(f, x, 1, a, steps=4)
area: jax.Array = curve.auc
region = bounds.Box(x, x + 0.1)
low: jax.Array = bounds.interval(f)(region).lower
layers: list[taps.Layer] = taps.layers(f, x)
found: jax.Array = counterfactual.wachter(f, x, 1).x
search = counterfactual.wachter.search(steps=5)
maps = jxai.each(attribution.rise, f, x[None], jnp.arange(1), key=key, num_masks=4)
subset = sufficiency.sis(f, x, 1, threshold=0.9)
run, fit = evaluate.run, train.train

attribution.sobol(f, x, 1, grid="4")  # type: ignore[arg-type]
attribution.sobol(f, x, 1, grids=4)  # type: ignore[call-arg]
attribution.gradient(f, x)  # type: ignore[call-arg]
metrics.deletion(f, x, 1)  # type: ignore[call-arg]
wrong: str = attribution.gradient(f, x, 1)  # type: ignore[assignment]
