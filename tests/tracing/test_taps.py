"""Layers of any traced function: listed, found, read, replaced; what their axes mean."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import drawn, numbers
from flax import nnx

from jxai import taps

RNG = np.random.default_rng(0)
X = RNG.normal(size=(16, 16, 3)).astype(np.float32)


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = nn.LayerNorm()(x)
        x = x + nn.MultiHeadDotProductAttention(2)(y, y)
        return x + nn.Dense(8)(nn.gelu(nn.Dense(16)(nn.LayerNorm()(x))))


class ViT(nn.Module):
    token: bool
    registers: int = 0

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (4, 4), strides=4, name="embed")(x[None])
        x = x.reshape(1, -1, 8)
        if self.token:
            extra = self.param("extra", nn.initializers.normal(1.0), (1, 1 + self.registers, 8))
            x = jnp.concatenate([extra, x], 1)
        for n in range(2):
            x = Block(name=f"block{n}")(x)
        x = nn.LayerNorm(name="final")(x)
        return nn.Dense(5, name="head")(x[:, 0] if self.token else x.mean(1))[0]


class Net(nnx.Module):
    def __init__(self, rngs):
        self.blocks = nnx.List([nnx.Conv(3, 4, (3, 3), rngs=rngs), nnx.Conv(4, 6, (3, 3), strides=2, rngs=rngs)])
        self.norm, self.head = nnx.BatchNorm(6, use_running_average=True, rngs=rngs), nnx.Linear(6, 5, rngs=rngs)

    def __call__(self, x):
        for block in self.blocks:
            x = nnx.relu(block(x))
        return self.head(self.norm(x).mean((-3, -2)))


def bound(module):
    return jax.tree_util.Partial(module.apply, numbers(jax.eval_shape(module.init, jax.random.key(1), X)))


def scanned():
    kernels = 0.3 * RNG.normal(size=(3, 3, 3, 3, 3)).astype(np.float32)

    def step(x, kernel):
        y = jax.lax.conv_general_dilated(x[None], kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))[0]
        return jax.nn.relu(y), y.mean()

    return jax.tree_util.Partial(lambda kernels, x: jax.lax.scan(step, x, kernels)[0].mean((0, 1)), kernels)


NET = drawn(Net)
MODELS = {
    "nnx": NET,
    "vit": bound(ViT(True)),
    "scan": scanned(),
    "remat": jax.tree_util.Partial(lambda f, x: jax.checkpoint(lambda f, x: f(x))(f, x), NET),
    "jit": jax.tree_util.Partial(lambda f, x: jax.jit(lambda f, x: f(x))(f, x), NET),
    "channels first": jax.tree_util.Partial(
        lambda w, x: jax.nn.relu(jax.lax.conv_general_dilated(x.transpose(2, 0, 1)[None], w, (2, 2), "SAME"))[0].mean((1, 2)),
        RNG.normal(size=(5, 3, 3, 3)).astype(np.float32),
    ),
}


EACH = pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in ("vit", "jit", "channels first"))) for name in MODELS])


@EACH
def test_every_cut_gives_the_function_back_and_its_gradient(name):
    f = MODELS[name]
    found = taps.layers(f, X)
    assert [layer.index for layer in found] == list(range(len(found)))
    some = {*(layer.index for layer in found[:: max(1, len(found) // 4)]), taps.find(f, X).index}

    @jax.jit
    def cuts(x):
        """The function and its gradient, and both through each cut."""
        every = []
        for index in some:
            cut = taps.split(f, x, index)
            assert cut.value.shape == found[index].shape
            every.append((cut.head(cut.value), jax.grad(lambda x, n=index: taps.replace(f, x, n, lambda v: v)[1])(x)))
        return (f(x), jax.grad(lambda x: f(x)[1])(x)), every

    (expected, slope), every = cuts(X)
    for value, through in every:
        assert np.allclose(value, expected, atol=1e-5) and np.allclose(through, slope, atol=1e-5)


@EACH
def test_the_gradient_at_a_layer_is_vjps(name):
    """Adding d to the layer's value changes the output by `vjp(head)` — against a finite step through `replace`."""
    f = MODELS[name]
    layer, step = taps.find(f, X), 1e-2

    @jax.jit
    def measure(x, key):
        _, value, head = taps.split(f, x)
        direction = jax.random.normal(key, value.shape)
        up, down = (taps.replace(f, x, layer.index, lambda v, s=s: v + s * direction)[1] for s in (step, -step))
        return up, down, jnp.vdot(jax.grad(lambda v: head(v)[1])(value), direction)

    up, down, slope = map(float, measure(X, jax.random.key(3)))
    assert np.allclose((up - down) / (2 * step), slope, rtol=0.05, atol=1e-3)


def test_the_last_spatial_layer_of_convolutional_nets():
    assert taps.find(MODELS["nnx"], X).shape == (8, 8, 6)
    assert taps.find(MODELS["nnx"], X).name.split() == ["norm.bias"]
    layer = taps.find(MODELS["channels first"], X)
    assert layer.shape[-3:] == (5, 8, 8) and layer.primitive in ("relu", "squeeze", "slice")
    assert jax.eval_shape(lambda x: taps.to_map(taps.read(MODELS["channels first"], x), layer), X).shape == (8, 8, 5)
    assert taps.find(MODELS["scan"], X).primitive == "relu"


@pytest.mark.parametrize("registers", [0, 3])
def test_a_class_token_transformer_is_read_before_its_last_attention(registers):
    f = bound(ViT(True, registers))
    layer = taps.find(f, X)
    # What comes after the last attention reaches the output by the class token alone.
    assert "block1/LayerNorm_0" in layer.name and layer.shape == (1, 17 + registers, 8)

    @jax.jit
    def slopes(x):
        value, head = taps.split(f, x)[1:]
        g = jax.grad(lambda v: head(v)[0])(value)
        return g, taps.to_map(g, layer)

    g, grid = map(np.asarray, slopes(X))
    assert grid.shape == (4, 4, 8) and np.abs(grid).min() > 0
    assert np.array_equal(grid.reshape(16, 8), g[0, 1 + registers :])


def test_a_pooled_transformer_is_read_at_its_end():
    assert "ViT/final" in taps.find(bound(ViT(False)), X).name


def test_names_scopes_paths_and_word_boundaries():
    f = MODELS["nnx"]
    assert taps.find(f, X, "blocks[1].kernel").primitive == "conv_general_dilated"
    assert taps.find(f, X, "blocks[0]").shape == (1, 16, 16, 4)
    linen = MODELS["vit"]
    assert "block1" in taps.find(linen, X, "block1").name and taps.find(linen, X, "embed").shape == (1, 4, 4, 8)
    eleven = jax.tree_util.Partial(
        lambda w, x: jnp.tanh(x * w["conv1"]).mean((0, 1)) * w["conv10"], {"conv1": np.ones(3, np.float32), "conv10": np.ones(3, np.float32)}
    )
    assert taps.find(eleven, X, "conv1").shape == (16, 16, 3)


@pytest.mark.parametrize(
    ("layer", "word"),
    [("blokcs[1]", r"nearest are .*blocks\[1\]"), (999, "layer=999"), (-1, "layer=-1"), (True, "layer=True"), (1.5, "layer=1.5"), ("", "layer=''")],
)
def test_unknown_layers(layer, word):
    with pytest.raises(ValueError, match=word) as error:
        taps.find(MODELS["nnx"], X, layer)
    assert "\n" not in str(error.value)


def test_two_streams_are_ambiguous_and_vectors_have_no_spatial_layer():
    two = lambda x: jax.nn.relu(x).mean((0, 1)) + jnp.tanh(x).sum((0, 1))
    with pytest.raises(ValueError, match="several values with spatial extent end apart.*relu.*tanh"):
        taps.find(two, X)
    with pytest.raises(ValueError, match="no value has spatial extent"):
        taps.find(lambda v: jnp.tanh(v), np.ones(5, np.float32))
    with pytest.raises(ValueError, match="no value has spatial extent"):
        taps.find(lambda x: jnp.tanh(x.mean((0, 1), keepdims=True))[0, 0], X)


def test_under_jit_and_vmap_over_inputs_and_weights():
    f = MODELS["nnx"]
    read = lambda f, x: taps.read(f, x, "blocks[1]")
    values, alone = jax.jit(lambda f, xs: (jax.vmap(read, (None, 0))(f, xs), read(f, xs[1])))(f, np.stack([X, X + 1]))
    assert np.allclose(np.asarray(values)[1], alone, atol=1e-5)


def test_what_does_not_follow_the_cut_is_not_computed_again():
    f = MODELS["nnx"]
    head = taps.split(f, X, None).head
    text = str(jax.make_jaxpr(head)(jax.eval_shape(lambda x: taps.read(f, x), X)))
    assert "conv" not in text and "dot_general" in text


def test_custom_derivatives_outside_the_cut_are_kept():
    @jax.custom_vjp
    def odd(v):
        return v * 2

    odd.defvjp(lambda v: (odd(v), None), lambda _, g: (g * 7,))
    f = lambda x: jnp.tanh(odd(x).mean((0, 1)))
    through = lambda x: taps.replace(f, x, len(taps.layers(f, x)) - 1, lambda v: v)[0]
    slope, expected = jax.jit(lambda x: (jax.grad(through)(x), jax.grad(lambda x: f(x)[0])(x)))(X)
    assert np.allclose(slope, expected) and np.abs(slope).max() > 0


def test_tokens_to_grid():
    tokens = np.arange(18, dtype=np.float32)[:, None]
    square, wide = (np.asarray(taps.tokens_to_grid(tokens, **options)) for options in ({}, {"grid": (2, 8), "before": 1}))
    assert square.shape == (4, 4, 1) and square[0, 0, 0] == 2 and wide[-1, -1, 0] == 16
    for bad in (dict(grid=(5, 5)), dict(grid=(4, 4), before=3), dict(grid=(0, 3))):
        with pytest.raises(ValueError, match="grid="):
            taps.tokens_to_grid(tokens, **bad)
    with pytest.raises(ValueError, match="no square grid"):
        taps.tokens_to_grid(np.zeros((35, 2), np.float32))
