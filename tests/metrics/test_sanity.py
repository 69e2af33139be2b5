"""What published sanity checks found, on a network that was trained on the spot."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

from jxai import each
from jxai.attribution import gradient, guided_backprop
from jxai.metrics import parameter_randomization
from jxai.models.digits import TRAINED_ON, digits_cnn

SHARED = jax.random.key(1)


@pytest.mark.slow
def test_gradients_pass_and_guided_backprop_fails_as_published():
    """A trained CNN on digits that it has not seen: under random weights, guided backpropagation still draws the digit."""
    f = digits_cnn(steps=120)
    xs = jnp.asarray(load_digits().images[TRAINED_ON : TRAINED_ON + 24, ..., None] / 16, jnp.float32)
    targets = jnp.argmax(jax.vmap(f)(xs), -1)
    mean = {}
    for method in (gradient, guided_backprop):
        maps = each(method, f, xs, targets)
        curves = each(parameter_randomization, f, xs, targets, maps, weights_key=SHARED, method=method, direction="top_down", absolute=True)
        mean[method] = np.asarray(curves.y).mean(0)
    # Over six keys, gradients lie between 0.10 and 0.41, guided backpropagation between 0.56 and 0.78.
    assert mean[gradient].max() < 0.5 < mean[guided_backprop].min(), mean
