"""What the contract test needs to know of each attribution method: small options, and the inputs it takes.

A method that is not listed here is tried with its defaults.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai import fills
from jxai.testing import CLASSES, SHAPES, attentive, example, network, segments

__all__ = ["CASES", "CLASSES", "SHAPES", "Case", "example", "network", "options", "said", "segments"]


@dataclasses.dataclass(frozen=True)
class Case:
    """`options`: small ones to run with. `shapes`: the inputs it takes. `passes`: forward passes for these options, where stated.

    `keyed`, `blind`, `black_box`, `scalar`, `smooth`, `tolerance`, `untargeted`: see `jxai.testing.check_method`. `other`: values that must each change the
    result. `model`: a network that has what it needs. `inert`: options without effect on the result (chunk) or only together with others.
    """

    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    shapes: tuple[str, ...] = ("vector", "image", "video")
    keyed: bool | None = False
    passes: int | None = None
    other: dict[str, Any] = dataclasses.field(default_factory=dict)
    inert: tuple[str, ...] = ()
    blind: bool = False
    black_box: bool = False
    scalar: bool = True
    smooth: bool = True
    tolerance: float = 2e-5
    untargeted: bool = False
    model: Callable = network


def overlapping(shape: tuple[int, ...]) -> np.ndarray:
    """Three label maps whose segments overlap: stripes of period four, stripes of period three, halves."""
    first = segments(shape)
    index = np.arange(first.size).reshape(first.shape)
    return np.stack([first, index % 3, (index >= first.size // 2)]).astype(np.int32)


def baselines(shape: tuple[int, ...]) -> np.ndarray:
    """Three baselines."""
    return np.random.default_rng(1).uniform(0, 0.3, (3, *shape)).astype(np.float32)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Generator:
    """Shades of grey by three numbers, or as many as the basis `[*shape, codes]` has."""

    basis: jax.Array

    def encode(self, x):
        return jnp.tensordot(x - 0.5, self.basis, x.ndim)

    def decode(self, z):
        return jax.nn.sigmoid(self.basis @ z)


def generator(shape: tuple[int, ...], codes: int = 3) -> Generator:
    return Generator(jnp.asarray(np.random.default_rng(2).normal(size=(*shape, codes)).astype(np.float32)))


def wider_generator(shape: tuple[int, ...]) -> Generator:
    return generator(shape, 5)


def origin(shape: tuple[int, ...]) -> np.ndarray:
    """A code."""
    return np.zeros(3, np.float32)


def members(shape: tuple[int, ...]) -> jax.tree_util.Partial:
    """An ensemble of two."""
    return jax.tree_util.Partial(_both, network(shape, 8), network(shape, 9))


def _both(one, other, x):
    return jnp.stack([one(x), other(x)])


def gini(shape: tuple[int, ...]) -> Callable:
    """A score of uncertainty."""
    return lambda f, x: 1 - (jax.nn.softmax(f(x)) ** 2).sum()


def absolute_of_vectors(shape: tuple[int, ...]) -> str:
    """Vectors have no range of their own."""
    return "absolute" if len(shape) == 1 else "relative"


def entries_or_three(shape: tuple[int, ...]) -> int | None:
    """A grid of three cells along every axis; the entries themselves of a vector."""
    return None if len(shape) == 1 else 3


def some_coalitions(shape: tuple[int, ...]) -> int:
    """Too few to take all coalitions of the entries or cells, enough to determine the values well."""
    return 60 if len(shape) == 1 else 120


_SPATIAL = ("image", "video")
UNKNOWN = Case(keyed=None)
"""A method that is not listed."""

CASES: dict[str, Case] = {
    "ablation_cam": Case(shapes=_SPATIAL, other={"layer": 2}, black_box=True),
    "attention_rollout": Case(shapes=_SPATIAL, other={"discard": 0.5, "start": 1}, blind=True, passes=1, model=attentive),
    "blur_integrated_gradients": Case({"steps": 4, "max_sigma": 2.0}, shapes=_SPATIAL, other={"steps": 7, "max_sigma": 1.0}),
    "chefer": Case(shapes=_SPATIAL, other={"start": 1}, passes=1, model=attentive),
    "deconvnet": Case(passes=1),
    "deep_lift": Case(other={"baseline": 0.3, "rule": "reveal_cancel"}),
    "deep_shap": Case({"baselines": baselines}, other={"rule": "reveal_cancel"}),
    "eigen_cam": Case(shapes=_SPATIAL, other={"layer": 2, "center": True}, blind=True, smooth=False),  # where singular values coincide
    "eva": Case(
        {"grid": 2, "radius": 0.2, "bound": "crown_ibp"},
        other={"radius": 0.1, "p": 2, "clip": (0.0, 1.0), "adversary": 2, "layer": 2, "grid": 3},
        inert=("num_samples",),
        scalar=False,  # an overlap is between classes
    ),
    "expected_gradients": Case({"baselines": baselines, "num_samples": 5}, keyed=True, other={"num_samples": 7}),
    "extremal_perturbation": Case(
        tolerance=1e-3,  # iterated optimisation amplifies rounding
        smooth=False,
        options={"steps": 4, "spacing": 2, "sigma": 2.0, "blur": 2.0, "levels": 3},
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
        tolerance=1e-4,  # a fit to few samples amplifies rounding
        options={"grid": 2, "num_samples": 12},
        keyed=True,
        other={"grid": 3, "num_samples": 15, "p": 0.3, "kernel_width": 2.0, "regularization": 3.0, "fill": 0.3},
        black_box=True,
    ),
    "lrp": Case(
        other={"composite": "epsilon_gamma_box", "epsilon": 0.01, "init": "one"},
        inert=("gamma", "low", "high"),
        passes=1,
    ),
    "meaningful_perturbation": Case(
        tolerance=1e-3,
        smooth=False,
        options={"steps": 3, "mask_scale": 2, "sigma": 1.0, "fill": fills.Blur(1.0), "jitter": 1, "init": "random"},
        shapes=("image",),
        keyed=True,
        other={"steps": 6, "fill": 0.5, "mask_scale": 4, "sigma": 0.5, "l1": 0.1, "l2": 1.0, "tv_beta": 2.0, "jitter": 3},
    ),
    "occlusion": Case({"window": 3, "stride": 2}, other={"window": 2, "stride": 1, "fill": 0.3}, black_box=True),
    "rise": Case({"num_masks": 6, "grid": 2}, keyed=True, other={"num_masks": 9, "grid": 3, "p": 0.3, "fill": 0.3}, black_box=True, passes=6),
    "score_cam": Case(shapes=_SPATIAL, other={"layer": 2, "fill": 0.3}, black_box=True),
    "shapley_sampling": Case({"grid": 3, "num_samples": 5}, keyed=True, other={"grid": 2, "num_samples": 3, "fill": 0.3}, black_box=True),
    "sidu": Case(shapes=_SPATIAL, other={"layer": 2, "threshold": 0.5, "sigma": 0.1, "fill": 0.3}, black_box=True, scalar=False),  # it looks at all logits
    "smoothgrad": Case({"num_samples": 4, "sigma": 0.6, "noise": absolute_of_vectors}, keyed=True, other={"num_samples": 6, "sigma": 0.2}, passes=4),
    "sobol": Case({"grid": 2, "num_designs": 4}, other={"grid": 3, "num_designs": 8, "fill": 0.3}, black_box=True),
    "squaregrad": Case({"num_samples": 4, "sigma": 0.6, "noise": absolute_of_vectors}, keyed=True, other={"num_samples": 6, "sigma": 0.2}, passes=4),
    "uncertainty_path": Case(
        {"generator": generator, "steps": 5, "search_steps": 3},
        other={
            "generator": wider_generator,
            "uncertainty": gini,
            "members": members,
            "fiducial": origin,
            "code": origin,
            "steps": 7,
            "weight": 0.001,
            "prior": 9.0,
            "search_steps": 5,
            "learning_rate": 0.1,
        },
        inert=("tolerance",),  # asked for after twenty steps at the soonest
        scalar=False,  # an uncertainty is of all logits
        untargeted=True,
        tolerance=1e-3,  # iterated optimisation amplifies rounding
    ),
    "vargrad": Case({"num_samples": 4, "sigma": 0.6, "noise": absolute_of_vectors}, keyed=True, other={"num_samples": 6, "sigma": 0.2}, passes=4),
    "xgrad_cam": Case(shapes=_SPATIAL, other={"layer": 2}, passes=1),
    "xrai": Case({"segments": overlapping, "method_options": {"steps": 3}}, shapes=_SPATIAL, other={"min_area": 30}, smooth=False),
}


def options(name: str, shape: tuple[int, ...], **changes: Any) -> dict[str, Any]:
    """The case's options for an input of this shape, arrays made for it."""
    merged = {**CASES.get(name, UNKNOWN).options, **changes}
    return {key: value(shape) if isinstance(value, types.FunctionType) else value for key, value in merged.items()}


def said(name: str) -> dict[str, Any]:
    """What `check_method` is told of a method, but for the inputs that it takes."""
    case = CASES.get(name, UNKNOWN)
    fields = ("keyed", "passes", "blind", "black_box", "scalar", "smooth", "tolerance", "untargeted", "model")
    return {field: getattr(case, field) for field in fields} | {"options": lambda shape: options(name, shape)}
