"""What the contract test needs to know of each attribution method: small options, and the inputs it takes.

A method that is not listed here fails the contract test, so that adding one means adding a line.
"""

from __future__ import annotations

import dataclasses
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai import fills

VECTOR, IMAGE, VIDEO = (6,), (8, 8, 2), (3, 6, 6, 2)
SHAPES = {"vector": VECTOR, "image": IMAGE, "video": VIDEO}
CLASSES = 4


@dataclasses.dataclass(frozen=True)
class Case:
    """`options`: small ones to run with. `shapes`: the inputs it takes. `passes`: forward passes for these options, where stated.

    `keyed`: whether it draws random numbers. `other`: values that must each change the result. `inert`: options without
    effect on the result (chunk) or only together with others. `blind`: it does not look at the target.
    """

    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    shapes: tuple[str, ...] = ("vector", "image", "video")
    keyed: bool = False
    passes: int | None = None
    other: dict[str, Any] = dataclasses.field(default_factory=dict)
    inert: tuple[str, ...] = ()
    blind: bool = False
    black_box: bool = False


def segments(shape: tuple[int, ...]) -> np.ndarray:
    """A label map with four labels over the positions of such an input."""
    positions = shape[:-1] if len(shape) > 1 else shape
    return (np.arange(int(np.prod(positions))).reshape(positions) % 4).astype(np.int32)


def overlapping(shape: tuple[int, ...]) -> np.ndarray:
    """Three label maps whose segments overlap: stripes of period four, stripes of period three, halves."""
    first = segments(shape)
    index = np.arange(first.size).reshape(first.shape)
    return np.stack([first, index % 3, (index >= first.size // 2)]).astype(np.int32)


def baselines(shape: tuple[int, ...]) -> np.ndarray:
    """Three baselines."""
    return np.random.default_rng(1).uniform(0, 0.3, (3, *shape)).astype(np.float32)


def entries_or_three(shape: tuple[int, ...]) -> int | None:
    """A grid of three cells along every axis; the entries themselves of a vector."""
    return None if len(shape) == 1 else 3


def some_coalitions(shape: tuple[int, ...]) -> int:
    """Too few to take all coalitions of the entries or cells, enough to determine the values well."""
    return 60 if len(shape) == 1 else 120


def network(shape: tuple[int, ...], seed: int = 0) -> jax.tree_util.Partial:
    """A small network with ReLUs for inputs of this shape, `[CLASSES]` logits; its weights are leaves."""
    keys = jax.random.split(jax.random.key(seed), 4)
    rank = len(shape)
    if rank == 1:
        weights = [jax.random.normal(keys[0], (shape[0], 7)), jax.random.normal(keys[1], (7, CLASSES))]
        return jax.tree_util.Partial(_mlp, weights)
    spatial = rank - 1
    weights = [
        jax.random.normal(keys[0], (3,) * spatial + (shape[-1], 4)) * 0.5,
        jax.random.normal(keys[1], (3,) * spatial + (4, 5)) * 0.4,
        jax.random.normal(keys[2], (5, CLASSES)) * 2,
        jax.random.normal(keys[3], (4,)) * 0.1,
    ]
    return jax.tree_util.Partial(_conv_net, weights)


def _mlp(weights, x):
    return jax.nn.relu(x @ weights[0]) @ weights[1]


def _conv_net(weights, x):
    spatial = x.ndim - 1
    letters = "DHW"[-spatial:]
    numbers = (f"N{letters}C", f"{letters}IO", f"N{letters}C")

    def conv(v, w, stride):
        return jax.lax.conv_general_dilated(v[None], w.astype(v.dtype), (stride,) * spatial, "SAME", dimension_numbers=numbers)[0]

    v = jax.nn.relu(conv(x, weights[0], 1) + weights[3].astype(x.dtype))
    v = jax.nn.relu(conv(v, weights[1], 2))
    return v.mean(tuple(range(spatial))) @ weights[2].astype(x.dtype)


_SPATIAL = ("image", "video")

CASES: dict[str, Case] = {
    "ablation_cam": Case(shapes=_SPATIAL, other={"layer": 2}, black_box=True),
    "blur_integrated_gradients": Case({"steps": 4, "max_sigma": 2.0}, other={"steps": 7, "max_sigma": 1.0}),
    "deconvnet": Case(passes=1),
    "eigen_cam": Case(shapes=_SPATIAL, other={"layer": 2, "center": True}, blind=True),
    "eva": Case(
        {"grid": 2, "radius": 0.2, "bound": "crown_ibp"},
        other={"radius": 0.1, "p": 2, "clip": (0.0, 1.0), "adversary": 2, "layer": 2, "grid": 3},
        inert=("num_samples",),
    ),
    "expected_gradients": Case({"baselines": baselines, "num_samples": 5}, keyed=True, other={"num_samples": 7}),
    "extremal_perturbation": Case(
        {"steps": 4, "spacing": 2, "sigma": 2.0, "blur": 2.0, "levels": 3},
        shapes=("image",),
        other={"areas": (0.3,), "steps": 9, "fill": 0.0, "blur": 1.0, "levels": 5, "spacing": 3, "sigma": 3.0, "weight": 30.0, "flip": "flip"},
    ),
    "feature_ablation": Case({"grid": 3}, other={"grid": 2, "fill": 0.3}, black_box=True),
    "grad_cam": Case(shapes=_SPATIAL, other={"layer": 2}, passes=1),
    "grad_cam_plus_plus": Case(shapes=_SPATIAL, other={"layer": 2}, passes=1),
    "gradient": Case(passes=1),
    "gradient_shap": Case({"baselines": baselines, "num_samples": 5}, keyed=True, other={"num_samples": 7, "sigma": 0.2}),
    "guided_backprop": Case(passes=1),
    "guided_grad_cam": Case(shapes=_SPATIAL, other={"layer": 2}, passes=2),
    "guided_integrated_gradients": Case({"steps": 5}, other={"steps": 9, "baseline": 0.4, "fraction": 0.6, "max_dist": 0.3}),
    "hires_cam": Case(shapes=_SPATIAL, other={"layer": 2}, passes=1),
    "hsic": Case({"grid": 3, "num_designs": 13}, keyed=True, other={"grid": 2, "num_designs": 17, "width": 0.3, "fill": 0.3}, black_box=True, passes=13),
    "input_x_gradient": Case(passes=1),
    "integrated_gradients": Case({"steps": 4}, other={"steps": 2, "baseline": 0.3}, passes=4),
    "kernel_shap": Case(
        {"grid": entries_or_three, "num_samples": some_coalitions}, keyed=True, other={"grid": 2, "num_samples": 64, "fill": 0.3}, black_box=True
    ),
    "layer_cam": Case(shapes=_SPATIAL, other={"layer": 2}, passes=1),
    "lime": Case(
        {"grid": 2, "num_samples": 12},
        keyed=True,
        other={"grid": 3, "num_samples": 15, "p": 0.3, "kernel_width": 2.0, "regularization": 3.0, "fill": 0.3},
        black_box=True,
    ),
    "meaningful_perturbation": Case(
        {"steps": 3, "mask_scale": 2, "sigma": 1.0, "fill": fills.Blur(1.0), "jitter": 1, "init": "random"},
        shapes=("image",),
        keyed=True,
        other={"steps": 6, "fill": 0.5, "mask_scale": 4, "sigma": 0.5, "l1": 0.1, "l2": 1.0, "tv_beta": 2.0, "jitter": 3},
    ),
    "occlusion": Case({"window": 3, "stride": 2}, other={"window": 2, "stride": 1, "fill": 0.3}, black_box=True),
    "rise": Case({"num_masks": 6, "grid": 2}, keyed=True, other={"num_masks": 9, "grid": 3, "p": 0.3, "fill": 0.3}, black_box=True, passes=6),
    "score_cam": Case(shapes=_SPATIAL, other={"layer": 2, "fill": 0.3}, black_box=True),
    "shapley_sampling": Case({"grid": 3, "num_samples": 5}, keyed=True, other={"grid": 2, "num_samples": 3, "fill": 0.3}, black_box=True),
    "sidu": Case(shapes=_SPATIAL, other={"layer": 2, "threshold": 0.5, "sigma": 0.1, "fill": 0.3}, black_box=True),
    "smoothgrad": Case({"num_samples": 4, "sigma": 0.6}, keyed=True, other={"num_samples": 6, "sigma": 0.2}, passes=4),
    "sobol": Case({"grid": 2, "num_designs": 4}, other={"grid": 3, "num_designs": 8, "fill": 0.3}, black_box=True),
    "squaregrad": Case({"num_samples": 4, "sigma": 0.6}, keyed=True, other={"num_samples": 6, "sigma": 0.2}, passes=4),
    "vargrad": Case({"num_samples": 4, "sigma": 0.6}, keyed=True, other={"num_samples": 6, "sigma": 0.2}, passes=4),
    "xgrad_cam": Case(shapes=_SPATIAL, other={"layer": 2}, passes=1),
    "xrai": Case({"segments": overlapping, "method_options": {"steps": 3}}, shapes=_SPATIAL, other={"min_area": 30}),
}


def options(name: str, shape: tuple[int, ...], **changes: Any) -> dict[str, Any]:
    """The case's options for an input of this shape, arrays made for it."""
    merged = {**CASES[name].options, **changes}
    return {key: value(shape) if isinstance(value, types.FunctionType) else value for key, value in merged.items()}


def example(shape: tuple[int, ...], seed: int = 0, dtype: Any = jnp.float32) -> jax.Array:
    """One example in [0, 1]."""
    return jax.random.uniform(jax.random.key(100 + seed), shape).astype(dtype)
