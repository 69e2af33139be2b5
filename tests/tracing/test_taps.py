"""Layers of any traced function: listed, found, read, replaced; what their axes mean."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jxai import taps
from jxai.tracing import axes, interpret

X = jax.random.normal(jax.random.key(0), (16, 16, 3))


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
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.blocks = nnx.List([nnx.Conv(3, 4, (3, 3), rngs=rngs), nnx.Conv(4, 6, (3, 3), strides=2, rngs=rngs)])
        self.norm, self.head = nnx.BatchNorm(6, use_running_average=True, rngs=rngs), nnx.Linear(6, 5, rngs=rngs)

    def __call__(self, x):
        for block in self.blocks:
            x = nnx.relu(block(x))
        return self.head(self.norm(x).mean((-3, -2)))


def bound(module):
    return jax.tree_util.Partial(module.apply, module.init(jax.random.key(1), X))


def scanned():
    kernels = jax.random.normal(jax.random.key(1), (3, 3, 3, 3, 3)) * 0.3

    def step(x, kernel):
        y = jax.lax.conv_general_dilated(x[None], kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))[0]
        return jax.nn.relu(y), y.mean()

    return jax.tree_util.Partial(lambda kernels, x: jax.lax.scan(step, x, kernels)[0].mean((0, 1)), kernels)


MODELS = {
    "nnx": Net(),
    "vit": bound(ViT(True)),
    "scan": scanned(),
    "remat": jax.tree_util.Partial(lambda f, x: jax.checkpoint(lambda f, x: f(x))(f, x), Net()),
    "jit": jax.tree_util.Partial(lambda f, x: jax.jit(lambda f, x: f(x))(f, x), Net()),
    "channels first": jax.tree_util.Partial(
        lambda w, x: jax.nn.relu(jax.lax.conv_general_dilated(x.transpose(2, 0, 1)[None], w, (2, 2), "SAME"))[0].mean((1, 2)),
        jax.random.normal(jax.random.key(2), (5, 3, 3, 3)),
    ),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name == "vit" else ()) for name in MODELS])
def test_every_cut_gives_the_function_back_and_its_gradient(name):
    f = MODELS[name]
    found = taps.layers(f, X)
    assert [layer.index for layer in found] == list(range(len(found)))
    expected, slope = f(X), jax.grad(lambda x: f(x)[1])(X)
    for layer in found[:: max(1, len(found) // 6)] + [taps.find(f, X)]:
        cut = taps.split(f, X, layer.index)
        assert cut.value.shape == layer.shape
        assert np.allclose(cut.head(cut.value), expected, atol=1e-5)
        through = jax.grad(lambda x, n=layer.index: taps.replace(f, x, n, lambda v: v)[1])(X)
        assert np.allclose(through, slope, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_the_gradient_at_a_layer_is_vjps(name):
    """Adding d to the layer's value changes the output by `vjp(head)` — against a finite step through `replace`."""
    f = MODELS[name]
    layer = taps.find(f, X)
    value, head = taps.split(f, X)[1:]
    g = jax.grad(lambda v: head(v)[1])(value)
    direction = jax.random.normal(jax.random.key(3), value.shape)
    step = 1e-2
    up, down = (taps.replace(f, X, layer.index, lambda v, s=s: v + s * direction)[1] for s in (step, -step))
    assert np.allclose((up - down) / (2 * step), jnp.vdot(g, direction), rtol=0.05, atol=1e-3)


def test_the_last_spatial_layer_of_convolutional_nets():
    assert taps.find(MODELS["nnx"], X).shape == (8, 8, 6)
    assert taps.find(MODELS["nnx"], X).name.split() == ["norm.bias"]
    layer = taps.find(MODELS["channels first"], X)
    assert layer.shape[-3:] == (5, 8, 8) and layer.primitive in ("relu", "squeeze", "slice")
    assert taps.to_map(taps.read(MODELS["channels first"], X), layer).shape == (8, 8, 5)
    assert taps.find(MODELS["scan"], X).primitive == "relu"


@pytest.mark.parametrize("registers", [0, 3])
def test_a_class_token_transformer_is_read_before_its_last_attention(registers):
    f = bound(ViT(True, registers))
    layer = taps.find(f, X)
    # What comes after the last attention reaches the output by the class token alone.
    assert "block1/LayerNorm_0" in layer.name and layer.shape == (1, 17 + registers, 8)
    value, head = taps.split(f, X)[1:]
    g = jax.grad(lambda v: head(v)[0])(value)
    grid = taps.to_map(g, layer)
    assert grid.shape == (4, 4, 8) and jnp.abs(grid).min() > 0
    assert np.array_equal(grid.reshape(16, 8), g[0, 1 + registers :])


def test_a_pooled_transformer_is_read_at_its_end():
    assert "ViT/final" in taps.find(bound(ViT(False)), X).name


def test_names_scopes_paths_and_word_boundaries():
    f = MODELS["nnx"]
    assert taps.find(f, X, "blocks[1].kernel").primitive == "conv_general_dilated"
    assert taps.find(f, X, "blocks[0]").shape == (1, 16, 16, 4)
    linen = MODELS["vit"]
    assert "block1" in taps.find(linen, X, "block1").name and taps.find(linen, X, "embed").shape == (1, 4, 4, 8)
    eleven = jax.tree_util.Partial(lambda w, x: jnp.tanh(x * w["conv1"]).mean((0, 1)) * w["conv10"], {"conv1": jnp.ones(3), "conv10": jnp.ones(3)})
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
        taps.find(lambda v: jnp.tanh(v), jnp.ones(5))
    with pytest.raises(ValueError, match="no value has spatial extent"):
        taps.find(lambda x: jnp.tanh(x.mean((0, 1), keepdims=True))[0, 0], X)


def test_under_jit_and_vmap_over_inputs_and_weights():
    f = MODELS["nnx"]
    xs = jnp.stack([X, X + 1])
    values = jax.jit(jax.vmap(lambda f, x: taps.read(f, x, "blocks[1]"), (None, 0)))(f, xs)
    assert np.allclose(values[1], taps.read(f, xs[1], "blocks[1]"), atol=1e-5)


def test_what_does_not_follow_the_cut_is_not_computed_again():
    f = MODELS["nnx"]
    head = taps.split(f, X, None).head
    text = str(jax.make_jaxpr(head)(taps.read(f, X)))
    assert "conv" not in text and "dot_general" in text


def test_custom_derivatives_outside_the_cut_are_kept():
    @jax.custom_vjp
    def odd(v):
        return v * 2

    odd.defvjp(lambda v: (odd(v), None), lambda _, g: (g * 7,))
    f = lambda x: jnp.tanh(odd(x).mean((0, 1)))
    slope = jax.grad(lambda x: taps.replace(f, x, len(taps.layers(f, x)) - 1, lambda v: v)[0])(X)
    assert np.allclose(slope, jax.grad(lambda x: f(x)[0])(X)) and np.abs(slope).max() > 0


def test_tokens_to_grid():
    tokens = jnp.arange(18.0)[:, None]
    assert taps.tokens_to_grid(tokens).shape == (4, 4, 1) and taps.tokens_to_grid(tokens)[0, 0, 0] == 2
    assert taps.tokens_to_grid(tokens, (2, 8), before=1)[-1, -1, 0] == 16
    for bad in (dict(grid=(5, 5)), dict(grid=(4, 4), before=3), dict(grid=(0, 3))):
        with pytest.raises(ValueError, match="grid="):
            taps.tokens_to_grid(tokens, **bad)
    with pytest.raises(ValueError, match="no square grid"):
        taps.tokens_to_grid(jnp.zeros((35, 2)))


def layout_of(fn, *others):
    """The layout of fn(x)'s last value, for an image x."""
    program = interpret.flatten(interpret.trace(lambda x: fn(x, *others), X), interpret.everywhere)
    return axes.layouts(program, X.ndim)[program.outputs[0]]


def test_what_axes_mean():
    tokens = axes.Tokens((0, 1), (16, 16))
    assert layout_of(lambda x: x.reshape(256, 3)) == (tokens, None)
    assert layout_of(lambda x: x.reshape(256, 3).reshape(16, 16, 3)) == (0, 1, None)
    assert layout_of(lambda x: x.reshape(-1)) == (None,)
    patches = lambda x: x.reshape(4, 4, 4, 4, 3).transpose(0, 2, 1, 3, 4).reshape(16, 48)
    assert layout_of(patches) == (axes.Tokens((0, 1), (4, 4)), None)
    padded = lambda x: jnp.pad(x.reshape(256, 3), ((1, 2), (0, 0)))
    assert layout_of(padded) == (axes.Tokens((0, 1), (16, 16), 1, 2), None)
    assert layout_of(lambda x: padded(x)[1:-2]) == (tokens, None)
    assert layout_of(lambda x: padded(x)[:5]) == (None, None)
    assert layout_of(lambda x: x.transpose(2, 0, 1)[None]) == (None, None, 0, 1)
    assert layout_of(lambda x: x.mean(0)) == (1, None)
    assert layout_of(lambda x: jnp.einsum("hwc,cd->dhw", x, jnp.ones((3, 5)))) == (None, 0, 1)
    assert layout_of(lambda x: x.reshape(256, 3) @ x.reshape(256, 3).T) == (tokens, tokens)
    assert layout_of(lambda x: jnp.split(x, 3, -1)[1][:4, ::2]) == (0, 1, None)
    assert layout_of(lambda x: jax.lax.cumsum(x)) == (0, 1, None)
