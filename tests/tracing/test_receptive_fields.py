"""Receptive fields: what lies outside of them cannot move a place of a layer, and what lies at their ends can."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jxai import taps

pytestmark = pytest.mark.usefixtures("quick_compilation")

RANDOM = np.random.default_rng(0)
KERNELS = [jnp.asarray(RANDOM.uniform(0.1, 1, size).astype(np.float32)) for size in ((3, 3, 2, 4), (2, 3, 4, 3))]


def convolved(x, kernel, strides, padding, dilation=(1, 1)):
    names = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x[None], kernel, strides, padding, rhs_dilation=dilation, dimension_numbers=names)[0]


def strided(x, start=0.0, pool=jax.lax.add):
    h = convolved(jnp.tanh(x), KERNELS[0], (2, 1), "SAME")
    h = jnp.tanh(jax.lax.reduce_window(h, start, pool, (2, 2, 1), (2, 2, 1), "VALID"))
    return jnp.tanh(convolved(h, KERNELS[1], (1, 1), [(1, 0), (0, 1)], (1, 2))).mean((0, 1))


def greatest(x):
    return strided(x, -jnp.inf, jax.lax.max)


def cropped_and_turned(x):
    h = jnp.flip(x[1:9, 2:10], 0) * 2.0
    return jnp.tanh(jnp.roll(convolved(h, KERNELS[0], (1, 1), "SAME"), 1, 1)).mean((0, 1))


def patches(x):
    """Tokens with a class token in front, mixed within themselves only."""
    tokens = x.reshape(3, 4, 3, 4, 2).transpose(0, 2, 1, 3, 4).reshape(9, 32)
    tokens = jnp.concatenate([jnp.ones((1, 32)), tokens])
    return jnp.tanh(tokens * 0.1)[:, :5].sum(0)


def gated(x):
    h = convolved(x, KERNELS[0], (1, 1), "SAME")
    return jnp.tanh(h * jax.nn.sigmoid(h.mean((0, 1)))).mean((0, 1))


@pytest.mark.parametrize(
    ("f", "exact"), [(strided, True), pytest.param(greatest, False, marks=pytest.mark.slow), (cropped_and_turned, True), (patches, True), (gated, True)]
)
def test_what_is_outside_has_no_slope_and_the_ends_have(f, exact):
    x = jnp.asarray(RANDOM.uniform(0.1, 1, (12, 12, 2)).astype(np.float32))
    layer = [one for one in taps.layers(f, x) if one.spatial and one.primitive == "tanh"][-1]
    fields = taps.fields(f, x, layer.index)
    slopes = jax.jacobian(lambda v: taps.to_map(taps.read(f, v, layer.index), layer).sum(-1))(x)
    reached = np.asarray(slopes != 0).any(-1)
    assert [spans.shape for spans in fields] == [(size, 2) for size in layer.grid.shape]
    for i, rows in enumerate(fields[0]):
        for j, columns in enumerate(fields[1]):
            box = np.zeros((12, 12), bool)
            box[slice(*rows), slice(*columns)] = True
            assert not (reached[i, j] & ~box).any(), (i, j)
            if exact and reached[i, j].any():
                lines = np.flatnonzero(reached[i, j].any(1)), np.flatnonzero(reached[i, j].any(0))
                assert [(line[0], line[-1] + 1) for line in lines] == [tuple(rows), tuple(columns)], (i, j)


def test_a_layer_without_positions_has_none():
    with pytest.raises(ValueError, match="no spatial extent"):
        taps.fields(strided, jnp.ones((12, 12, 2)), -1 + len(taps.layers(strided, jnp.ones((12, 12, 2)))))
