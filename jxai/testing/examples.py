"""Small models, inputs, maps and label maps for each kind of input: what the checks are made on when nothing else is given.

They come from NumPy's generator, so that making them compiles nothing.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai.typing import Array

Shape = tuple[int, ...]

SHAPES: dict[str, Shape] = {"vector": (6,), "image": (8, 8, 2), "video": (3, 6, 6, 2)}
"""A small example of each kind of input."""
CLASSES = 4


def shape_of(kind: str | Shape) -> Shape:
    """The shape that a kind of input is tried on; a shape is itself.

    Raises:
      ValueError: no such kind.
    """
    if isinstance(kind, str) and kind not in SHAPES:
        raise ValueError(f"shapes={kind!r} must be among {', '.join(map(repr, SHAPES))}, or a shape")
    return SHAPES[kind] if isinstance(kind, str) else tuple(kind)


def example(shape: Shape, seed: int = 0, dtype: Any = jnp.float32) -> Array:
    """One example in [0, 1]."""
    return jnp.asarray(np.random.default_rng(100 + seed).uniform(size=shape).astype(dtype))


def attribution_map(shape: Shape, seed: int = 0, dtype: Any = jnp.float32) -> Array:
    """A map for such an input with all its channels, both signs, no ties."""
    return jnp.asarray(np.random.default_rng(500 + seed).normal(size=shape).astype(dtype))


def positions(shape: Shape) -> Shape:
    """The axes of an example without its channels; a vector has none."""
    return shape[:-1] if len(shape) > 1 else shape


def segments(shape: Shape) -> np.ndarray:
    """A label map with four labels over the positions of such an input."""
    where = positions(shape)
    return (np.arange(np.prod(where)).reshape(where) % 4).astype(np.int32)


def mask(shape: Shape) -> np.ndarray:
    """An object over the last positions, two fifths of them, in their order."""
    where = positions(shape)
    return (np.arange(np.prod(where)) >= np.prod(where) * 3 // 5).reshape(where)


def network(shape: Shape, seed: int = 0) -> jax.tree_util.Partial:
    """A small network with ReLUs, `[CLASSES]` logits: two dense layers for a vector, two convolutions and a mean for what has positions.

    Its weights are leaves, as a model's must be.
    """
    if len(shape) == 1:
        rng = np.random.default_rng(seed)
        return jax.tree_util.Partial(_dense, [_normal(rng, 1, shape[0], 7), _normal(rng, 1, 7, CLASSES)])
    # From 5 on, so that Grad-CAM and its kin have something to show for classes 1 and 2.
    rng, window = np.random.default_rng(5 + seed), (3,) * (len(shape) - 1)
    weights = [_normal(rng, 0.5, *window, shape[-1], 4), _normal(rng, 0.4, *window, 4, 5), _normal(rng, 2, 5, CLASSES), _normal(rng, 0.1, 4)]
    return jax.tree_util.Partial(_convolutions, weights)


def pointwise(shape: Shape, seed: int = 0) -> jax.tree_util.Partial:
    """A network of two layers, the first at every position by itself: it compiles several times faster than convolutions."""
    rng, hidden = np.random.default_rng(seed), 4
    where = int(np.prod(shape[:-1]))
    weights = {
        "first": {"kernel": _normal(rng, 1, shape[-1], hidden)},
        "second": {"kernel": _normal(rng, (30 / where) ** 0.5, where * hidden, CLASSES)},
    }
    return jax.tree_util.Partial(_pointwise, weights)


def attentive(shape: Shape, seed: int = 0) -> jax.tree_util.Partial:
    """A network of two layers of self-attention with two heads, which reads out the mean of its tokens: patches of two positions along every even axis."""
    rng, width = np.random.default_rng(seed), 4
    patch = int(np.prod([_side(size) for size in shape[:-1]]))
    where = int(np.prod(shape[:-1])) // patch
    layers = [[_normal(rng, 1, width, 3, 2, 2), _normal(rng, 0.7, 2, 2, width)] for _ in range(2)]
    return jax.tree_util.Partial(
        _attentive, [_normal(rng, 1, patch * shape[-1], width), _normal(rng, 1, where, width), layers, _normal(rng, 0.3, width, CLASSES)]
    )


def _side(size: int) -> int:
    return 1 if size % 2 else 2


def _normal(rng: np.random.Generator, scale: float, *shape: int) -> Array:
    return jnp.asarray(scale * rng.normal(size=shape), jnp.float32)


def _dense(weights: list[Array], x: Array) -> Array:
    return jax.nn.relu(x @ weights[0]) @ weights[1]


def _convolutions(weights: list[Array], x: Array) -> Array:
    spatial = x.ndim - 1
    letters = "DHW"[-spatial:]
    numbers = (f"N{letters}C", f"{letters}IO", f"N{letters}C")

    def conv(v: Array, w: Array, stride: int) -> Array:
        return jax.lax.conv_general_dilated(v[None], w.astype(v.dtype), (stride,) * spatial, "SAME", dimension_numbers=numbers)[0]

    v = jax.nn.relu(conv(x, weights[0], 1) + weights[3].astype(x.dtype))
    v = jax.nn.relu(conv(v, weights[1], 2))
    return v.mean(tuple(range(spatial))) @ weights[2].astype(x.dtype)


def _pointwise(weights: dict[str, Any], x: Array) -> Array:
    return jax.nn.relu(x @ weights["first"]["kernel"]).ravel() @ weights["second"]["kernel"]


def _attentive(weights: list[Any], x: Array) -> Array:
    embed, places, layers, head = jax.tree.map(lambda w: w.astype(x.dtype), weights)
    axes = x.ndim - 1
    patches = x.reshape(*(side for size in x.shape[:-1] for side in (size // _side(size), _side(size))), x.shape[-1])
    patches = patches.transpose(*range(0, 2 * axes, 2), *range(1, 2 * axes, 2), 2 * axes)
    tokens = patches.reshape(len(places), -1) @ embed + places
    for projections, out in layers:
        q, k, v = jnp.moveaxis(jnp.einsum("td,dnhe->tnhe", tokens, projections), 1, 0)
        probabilities = jax.nn.softmax(jnp.einsum("the,she->hts", q, k) / 2**0.5)
        tokens = tokens + jnp.einsum("hts,she,hed->td", probabilities, v, out)
    return tokens.mean(0) @ head
