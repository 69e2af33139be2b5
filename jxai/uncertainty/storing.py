"""What was fitted, kept in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jxai import certificates
from jxai.callables import plainly

__all__ = ["load", "save"]

FITTED = {
    "Boundaries": "jxai.uncertainty.formulas.directions",
    "Dice": "jxai.uncertainty.formulas.weights",
    "Dirichlet": "jxai.uncertainty.calibration.scaling",
    "Dissector": "jxai.uncertainty.formulas.dissector",
    "DistanceSurprise": "jxai.uncertainty.formulas.surprise",
    "GaussianDensity": "jxai.uncertainty.density",
    "Guide": "jxai.uncertainty.formulas.neighbours",
    "Head": "jxai.uncertainty.heads",
    "Histogram": "jxai.uncertainty.calibration.steps",
    "Isotonic": "jxai.uncertainty.calibration.steps",
    "Laplace": "jxai.uncertainty.laplace",
    "LikelihoodSurprise": "jxai.uncertainty.formulas.surprise",
    "Mahalanobis": "jxai.uncertainty.formulas.gaussians",
    "MahalanobisSurprise": "jxai.uncertainty.formulas.surprise",
    "MatrixScaling": "jxai.uncertainty.calibration.scaling",
    "Neighbours": "jxai.uncertainty.formulas.neighbours",
    "NeuralCollapse": "jxai.uncertainty.formulas.directions",
    "Patterns": "jxai.uncertainty.formulas.templates",
    "React": "jxai.uncertainty.formulas.activations",
    "RelationGraph": "jxai.uncertainty.formulas.relations",
    "RelativeMahalanobis": "jxai.uncertainty.formulas.gaussians",
    "SNGPPosterior": "jxai.uncertainty.sngp",
    "TemperatureScaling": "jxai.uncertainty.calibration.scaling",
    "Templates": "jxai.uncertainty.formulas.templates",
    "Typicality": "jxai.uncertainty.generative",
    "VectorScaling": "jxai.uncertainty.calibration.scaling",
    "VirtualLogit": "jxai.uncertainty.formulas.residual",
    "Vra": "jxai.uncertainty.formulas.activations",
}
"""By name, the module of everything that a `fit_…` of this room returns, and of what is within it."""


@plainly
def save(path: str | Path, fitted: Any) -> None:
    """Writes what a `fit_…` of this room returned as one `.npz` file, atomically.

    Args:
      path: ends in `.npz`. fitted: a dataclass of arrays.

    Raises:
      ValueError: no dataclass of this room, traced arrays, or a path that does not end in `.npz`.
    """
    if FITTED.get(type(fitted).__name__) != type(fitted).__module__:
        raise ValueError(f"fitted must be one of {', '.join(FITTED)}, got a {type(fitted).__qualname__} of {type(fitted).__module__}")
    certificates.write(path, fitted, "fitted")


@plainly
def load(path: str | Path) -> Any:
    """Reads what `save` wrote, equal to the bit.

    Raises:
      ValueError: a file that is damaged, or of something else. OSError: it cannot be opened.
    """
    return certificates.read(path, "fit", FITTED)
