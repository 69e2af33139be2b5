"""Networks for tests of relevance, of one image `[8, 8, 3]` or a vector, with weights and biases of both signs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

CLASSES = 4


def normal(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> jax.Array:
    return jnp.asarray(scale * rng.normal(size=shape), jnp.float32)


def conv(x, w, stride=1, groups=1, dilation=1, padding="SAME"):
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x[None], w, (stride, stride), padding, rhs_dilation=(dilation, dilation), dimension_numbers=numbers, feature_group_count=groups
    )[0]


def batch_norm(x, p):
    return (x - p["mean"]) / jnp.sqrt(p["var"] + 1e-3) * p["scale"] + p["shift"]


def layer_norm(x, p):
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + 1e-5) * p["scale"] + p["shift"]


def norm_params(rng, c):
    return {"mean": normal(rng, c, scale=0.2), "var": jnp.abs(normal(rng, c)) + 0.5, "scale": normal(rng, c), "shift": normal(rng, c, scale=0.2)}


def attention(x, p):
    """One head over the positions of a map."""
    tokens = x.reshape(-1, x.shape[-1])
    q, k, v = (tokens @ p[name] for name in "qkv")
    return (jax.nn.softmax(q @ k.T / np.sqrt(q.shape[-1])) @ v).reshape(x.shape)


def lstm(x, p):
    """Over the positions of a map, in rows; the last state, spread over the map."""
    width = p["h"].shape[0]

    def step(state, token):
        h, c = state
        i, f, g, o = jnp.split(token @ p["x"] + h @ p["h"] + p["b"], 4)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), None

    (h, _), _ = jax.lax.scan(step, (jnp.zeros(width), jnp.zeros(width)), x.mean(0))
    return jnp.broadcast_to(h, (*x.shape[:2], width))


def pooled(x, kind):
    if kind == "max":
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (2, 2, 1), (2, 2, 1), "VALID")
    return jax.lax.reduce_window(x, 0.0, jax.lax.add, (2, 2, 1), (2, 2, 1), "VALID") / 4


def layer(kind: str, rng: np.random.Generator, c: int) -> tuple[dict, Callable]:
    """Parameters and `apply(p, x [h, w, c]) -> [h, w, c]` (a pool halves h and w)."""
    half = np.sqrt(2 / (9 * c))
    both = {"w": normal(rng, 3, 3, c, c, scale=half), "b": normal(rng, c, scale=0.2)}
    kinds: dict[str, tuple[dict, Callable]] = {
        "conv": (both, lambda p, x: jax.nn.relu(conv(x, p["w"]) + p["b"])),
        "dilated": (both, lambda p, x: jax.nn.gelu(conv(x, p["w"], dilation=2) + p["b"])),
        "grouped": ({"w": normal(rng, 3, 3, c // 2, c, scale=half), "b": both["b"]}, lambda p, x: jax.nn.silu(conv(x, p["w"], groups=2) + p["b"])),
        "batch_normed": ({**both, **norm_params(rng, c)}, lambda p, x: jax.nn.relu(batch_norm(conv(x, p["w"]), p))),
        "residual": ({**both, **norm_params(rng, c)}, lambda p, x: jax.nn.relu(x + batch_norm(conv(x, p["w"]), p))),
        "concatenated": (
            {**both, "m": normal(rng, 1, 1, 2 * c, c, scale=0.3)},
            lambda p, x: conv(jnp.concatenate([x, jax.nn.relu(conv(x, p["w"]) + p["b"])], -1), p["m"]),
        ),
        "max": ({}, lambda p, x: pooled(x, "max")),
        "mean": ({}, lambda p, x: pooled(x, "mean")),
        "excited": ({"s": normal(rng, c, c), "b": both["b"]}, lambda p, x: x * jax.nn.sigmoid(x.mean((0, 1)) @ p["s"] + p["b"])),
        "layer_normed": (norm_params(rng, c), lambda p, x: layer_norm(x, p)),
        "attended": ({n: normal(rng, c, c, scale=0.5) for n in "qkv"}, lambda p, x: x + attention(x, p)),
        "scanned": (
            {"x": normal(rng, c, 4 * c, scale=0.5), "h": normal(rng, c, 4 * c, scale=0.5), "b": normal(rng, 4 * c, scale=0.2)},
            lambda p, x: x + lstm(x, p),
        ),
    }
    return kinds[kind]


KINDS = ("conv", "dilated", "grouped", "batch_normed", "residual", "concatenated", "max", "mean", "excited", "layer_normed", "attended", "scanned")


def net(kinds: Sequence[str], seed: int = 0, c: int = 4) -> Partial:
    """Pixels normalised, a stem, these layers, the mean over positions, logits."""
    rng = np.random.default_rng(seed)
    made = [layer(kind, rng, c) for kind in kinds]
    params = {
        "stem": normal(rng, 3, 3, 3, c, scale=0.3),
        "stem_bias": normal(rng, c, scale=0.2),
        "layers": [p for p, _ in made],
        "head": normal(rng, c, CLASSES),
        "head_bias": normal(rng, CLASSES),
    }
    applied = [apply for _, apply in made]

    def f(params, x):
        h = jax.nn.relu(conv((x - 0.4) / 0.25, params["stem"]) + params["stem_bias"])
        for apply, p in zip(applied, params["layers"]):
            h = apply(p, h)
        return h.mean((0, 1)) @ params["head"] + params["head_bias"]

    return Partial(f, params)


def image(seed: int = 3, size: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).uniform(size=(size, size, 3)).astype(np.float32)
