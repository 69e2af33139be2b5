"""What the contract test needs to know of each metric: small options, and the inputs it takes.

A metric that is not listed here is tried with its defaults.
"""

from __future__ import annotations

import dataclasses
import types
from typing import Any

import jax
import numpy as np

from jxai import fills
from jxai.attribution import gradient, input_x_gradient
from jxai.masks import regular
from jxai.testing import mask


@dataclasses.dataclass(frozen=True)
class Case:
    """`options`: small ones to run with; a function makes the value for a shape. `shapes`: the inputs it takes.

    `keyed`, `blind`, `curve`, `predicted`, `tolerance`: see `jxai.testing.check_metric`; `passes` too, for these options on an image, as its Cost line has it.
    `mask`: it needs one. `other`: values that must each change the result. `equal`: options whose values need not
    change the result here, with the reason. `under`: other options that an option needs to matter.
    """

    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    shapes: tuple[str, ...] = ("vector", "image", "video")
    keyed: bool | None = False
    curve: bool | None = False
    mask: bool = False
    passes: int | None = None
    other: dict[str, Any] = dataclasses.field(default_factory=dict)
    blind: bool = False
    predicted: bool = False
    tolerance: float = 2e-5
    equal: dict[str, str] = dataclasses.field(default_factory=dict)
    under: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)


def mosaic(shape: tuple[int, ...]) -> np.ndarray:
    """Four labels over the positions, as blocks: halves of the last two position axes, or quarters of a vector."""
    positions = shape[:-1] if len(shape) > 1 else shape
    return np.broadcast_to(regular(positions[-2:], 2 if len(positions) > 1 else 4), positions).astype(np.int32)


def cells(shape: tuple[int, ...]) -> int | None:
    """A grid of three cells along every axis; the entries themselves of a vector."""
    return None if len(shape) == 1 else 3


def noise(shape: tuple[int, ...]) -> fills.Uniform:
    """The default of pictures, said for vectors."""
    return fills.Uniform(0.0, 1.0) if len(shape) == 1 else fills.Uniform()


def blurred(shape: tuple[int, ...]) -> float | fills.Blur:
    """The default of pictures, a number for vectors."""
    return 0.4 if len(shape) == 1 else fills.Blur(5.0)


def averaged(shape: tuple[int, ...]) -> float | fills.Mean:
    """The default of pictures, a number for vectors."""
    return 0.4 if len(shape) == 1 else fills.Mean()


def own_noise(shape: tuple[int, ...]) -> float | np.ndarray:
    """A share of a picture's range, each feature's own of a vector."""
    return np.full(shape, 0.1, np.float32) if len(shape) == 1 else 0.1


def _removal(options: dict[str, Any] | None = None, other: dict[str, Any] | None = None, **rest: Any) -> Case:
    """A metric that removes features: every position, or those of a label map or a grid."""
    return Case(options or {}, other={"segments": mosaic, "grid": 2, "fill": 0.3, **(other or {})}, **rest)


def _steps(**rest: Any) -> Case:
    return _removal({"steps": 5, **rest.pop("options", {})}, {"steps": 3, "max_fraction": 0.6}, passes=6, **rest)


def _uncertain(**rest: Any) -> Case:
    return _removal({"steps": 5, "fill": blurred}, {"steps": 3}, passes=6, curve=True, **rest)


def _again(options: dict[str, Any], other: dict[str, Any], **rest: Any) -> Case:
    """A metric that explains again."""
    return Case({"method": gradient, **options}, other={"method": input_x_gradient, "method_options": {"score": "probability"}, **other}, **rest)


def _noisy(passes: int, shapes: tuple[str, ...] = ("vector", "image", "video"), **other: Any) -> Case:
    """A metric that explains noisy copies again."""
    return _again({"num_samples": 6, "radius": 0.05}, {"num_samples": 150, "radius": 0.3, **other}, keyed=True, passes=passes, shapes=shapes)


def _random_weights(options: dict[str, Any], other: dict[str, Any], **rest: Any) -> Case:
    return _again(options, {"weights_key": lambda shape: jax.random.key(12), **other}, keyed=True, **rest)


def _localization(options: dict[str, Any] | None = None, **other: Any) -> Case:
    return Case(options or {}, mask=True, blind=True, other=other)


_SHARED = dict.fromkeys(("similarity", "order", "direction", "randomize"), "by the code of parameter_randomization")
_COUNT = dict.fromkeys(("score", "fill", "segments", "grid"), "a count of features or steps")
_POOLED = {"pooling": "positions, or cells of one area"}
_BINARY = dict.fromkeys(("score", "fill", "weights"), "0 or 1")

CASES: dict[str, Case] = {
    "aic": _uncertain(equal=_BINARY),
    "aopc": _steps(options={"grid": cells, "fill": noise}, keyed=True),
    "average_drop": Case({"fill": 0.9}, other={"fill": 0.5}, passes=2),
    "average_gain": Case(other={"fill": 0.3}, passes=2),
    "average_increase": Case(other={"fill": 0.3}, passes=2, equal=_BINARY),
    "avg_sensitivity": _noisy(6),
    "completeness_error": Case(other={"baseline": 0.3, "relative": True, "segments": mosaic, "grid": 2}, passes=2),
    "completeness_score": _removal({"steps": 4, "fill": averaged}, {"steps": 3, "alpha": 0.1, "eps": 0.9}, passes=5),
    "comprehensiveness": _removal({"fractions": (0.1, 0.4)}, {"fractions": (0.1, 0.6)}, passes=3),
    "deletion": _steps(curve=True),
    "effective_complexity": Case({"eps": 0.3}, blind=True, other={"eps": 0.5, "relative": False}),
    "efficient_parameter_randomization": _random_weights({"bins": 9}, {"bins": "sturges"}, passes=1),
    "eic": _uncertain(),
    "energy_pointing": _localization(),
    "entropy": Case(blind=True),
    "faithfulness_correlation": _removal({"num_samples": 6}, {"num_samples": 9, "subset_size": 0.5}, keyed=True, passes=6, equal=_POOLED),
    "faithfulness_estimate": _removal({"grid": cells}, passes=9, equal=_POOLED),
    "focus": _localization(),
    "infidelity": Case(
        {"sizes": 3, "num_samples": 6, "sigma": 0.2},
        other={"sizes": (2, 4), "stride": 2, "num_samples": 9, "sigma": 0.5, "scaled": True, "fill": 0.3, "segments": mosaic, "grid": 2},
        under={"num_samples": {"perturbation": "gaussian"}, "sigma": {"perturbation": "gaussian"}},
    ),
    "insertion": _steps(options={"fill": blurred}, curve=True),
    "irof": _removal({"grid": cells, "fill": averaged}, passes=10),
    "local_lipschitz": _noisy(6),
    "localization_auc": _localization(),
    "max_sensitivity": _noisy(6),
    "monotonicity": _removal({"steps": 20}, {"steps": 7}, passes=21, equal=_COUNT),
    "monotonicity_correlation": _removal(
        {"num_samples": 2, "grid": cells, "fill": noise},
        {"num_samples": 3},
        keyed=True,
        passes=19,
        equal={**_POOLED, "score": "few features: their changes have one order by the logit and by its sigmoid"},
    ),
    "mu_fidelity": _removal(
        {"num_samples": 6, "grid": cells, "correlation": "pearson"},
        {"num_samples": 9, "subset_size": 0.5},
        keyed=True,
        passes=6,
        equal=_POOLED,
    ),
    "non_sensitivity": _removal(
        {"num_samples": 2, "grid": cells, "eps": 0.3, "fill": noise},
        {"num_samples": 3, "eps": 0.1, "relative": True},
        keyed=True,
        passes=19,
        equal=_COUNT | _POOLED | {"num_samples": _COUNT["fill"]},
    ),
    "parameter_randomization": _random_weights({}, {"absolute": True}, curve=True),
    "performance_information_curve": Case(
        {"shares": (0.1, 0.3, 0.6), "num_points": 11, "fill": 0.2},
        shapes=("image",),
        other={"shares": (0.2, 0.4), "seed_share": 0.2, "num_points": 7, "fill": 0.3},
        keyed=True,
        curve=True,
        predicted=True,
        passes=5,
        equal={"fill": "NaN where the start scores above x"},
    ),
    "pointing_game": _localization(tolerance=8.0),
    "random_logit": _again({}, {"absolute": True}, keyed=True, passes=1),
    "relative_input_stability": _noisy(13, epsilon=1e4),
    "relative_output_stability": _noisy(13, epsilon=1e4),
    "relative_representation_stability": _noisy(13, shapes=("image", "video"), epsilon=1e4, layer=0),
    "relevance_mass": _localization(),
    "relevance_rank": _localization(),
    "road": _steps(options={"fill": 0.2, "score": "probability"}, curve=True),
    "robustness_sr": Case(
        {"shares": (0.2, 0.5), "rounds": 3, "steps": 4},
        tolerance=1e-3,  # descent amplifies rounding
        other={"shares": (0.2, 0.7), "rounds": 5, "steps": 2, "p": np.inf, "clip": (0.0, 1.0), "max_radius": 0.001} | {"segments": mosaic, "grid": 2},
        curve=True,
        predicted=True,
        passes=25,
        under={"clip": {"shares": (0.05, 0.1)}},
    ),
    "selectivity": _removal({"grid": cells}, curve=True, passes=10),
    "sensitivity_n": _removal(
        {"sizes": (1, 4), "num_samples": 5},
        {"sizes": (1, 9), "num_samples": 7},
        keyed=True,
        curve=True,
        passes=10,
        equal=_POOLED,
    ),
    "smooth_parameter_randomization": _random_weights(
        {"num_samples": 3, "sigma": own_noise},
        {"num_samples": 5, "sigma": 0.5, "absolute": True},
        curve=True,
        equal=_SHARED,
    ),
    "soundness_score": _removal({"steps": 4, "fill": 0.0}, {"steps": 3, "beta": 0.9}, passes=5),
    "sparseness": Case(blind=True),
    "sufficiency": _removal({"fractions": (0.1, 0.4)}, {"fractions": (0.1, 0.6)}, passes=3),
    "top_k_intersection": _localization({"k": 3}, k=0.5),
    "urc": _uncertain(),
}


UNKNOWN = Case(keyed=None, curve=None)
"""A metric that is not listed."""


def options(name: str, shape: tuple[int, ...], **changes: Any) -> dict[str, Any]:
    """The case's options for an input of this shape, arrays made for it."""
    case = CASES.get(name, UNKNOWN)
    merged = {**({"mask": mask} if case.mask else {}), **case.options, **changes}

    def made_for(value: Any) -> Any:
        ours = isinstance(value, types.FunctionType) and (value.__module__ == __name__ or value is mask)
        return value(shape) if ours else value

    made = {key: made_for(value) for key, value in merged.items()}
    return made | {"grid": None} if made.get("segments") is not None and "grid" in made else made


def said(name: str, kind: str) -> dict[str, Any]:
    """What `check_metric` is told of a metric on this kind of input; its passes hold for the kind that it is tried on most."""
    case = CASES.get(name, UNKNOWN)
    fields = ("keyed", "blind", "curve", "predicted", "tolerance")
    passes = case.passes if kind == main_kind(name) else None
    return {field: getattr(case, field) for field in fields} | {"passes": passes, "options": lambda shape: options(name, shape)}


def main_kind(name: str) -> str:
    """The shape that a metric is tried on most: an image where it takes one."""
    shapes = CASES.get(name, UNKNOWN).shapes
    return "image" if "image" in shapes else shapes[-1]
