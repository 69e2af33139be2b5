"""The mnistfc benchmark of the verification competition VNN-COMP 2021: three networks, thirty properties to prove of each."""

import os
from typing import NamedTuple

import numpy as np
from flax import nnx

from jxai.adapters import weight_files
from jxai.models import weights
from jxai.models.layers import linear
from jxai.models.simple import MLP

__all__ = ["DEPTHS", "Properties", "mnistfc", "mnistfc_properties"]

DEPTHS = (2, 4, 6)
NAME = "mnistfc.npz"


class Properties(NamedTuple):
    """Property i holds of a network if the logit of `label[i]` exceeds every other on the whole box `lower[i] <= x <= upper[i]`."""

    lower: np.ndarray
    """`[30, 784]`, pixels in [0, 1]."""
    upper: np.ndarray
    label: np.ndarray
    """`[30]`, int32."""
    radius: np.ndarray
    """`[30]`, .03 or .05: the box around a test image, cut to [0, 1]."""
    name: tuple[str, ...]


def mnistfc(depth: int = 2, path: str | os.PathLike | None = None) -> MLP:
    """Returns the network `f(x [784] in [0, 1]) -> logits [10]` of `depth` hidden layers of 256 ReLUs.

    Args:
      depth: 2, 4 or 6.
      path: the file `mnistfc.npz` or its folder; None looks into `vnncomp` beside the folder that `weights.find` searches.

    Raises:
      ValueError: another depth, or weights that do not fit. FileNotFoundError: no such file.
    """
    if depth not in DEPTHS:
        raise ValueError(f"{depth=} must be one of {DEPTHS}")
    arrays = weight_files.read(_find(path))
    model = nnx.eval_shape(lambda: MLP(784, (256,) * depth, 10, rngs=nnx.Rngs(0)))
    for index, layer in enumerate(model.layers):
        name = f"net256x{depth}/layer{index}"
        linear(layer, arrays[f"{name}/kernel"].T, arrays[f"{name}/bias"])
    return model


def mnistfc_properties(path: str | os.PathLike | None = None) -> Properties:
    """Returns the properties, the same for each network; `path` and errors are those of `mnistfc`."""
    arrays = weight_files.read(_find(path))
    lower, upper, label, radius, name = (arrays[f"property/{field}"] for field in ("lower", "upper", "label", "eps", "name"))
    return Properties(lower, upper, label.astype(np.int32), radius, tuple(name.tolist()))


def _find(path: str | os.PathLike | None) -> os.PathLike:
    return weights.find(os.path.join("..", "vnncomp", NAME)) if path is None else weights.find(NAME, path)
