"""Where downloaded weights are: in a folder beside the project, in one that JXAI_DATA names, or at a path given."""

import os
import pathlib

from jxai import files

__all__ = ["find"]


def find(name: str, path: str | os.PathLike | None = None) -> pathlib.Path:
    """Returns the file of weights called `name`, `"cifar10_resnet20.npz"` (see `jxai.files.find`).

    Raises:
      FileNotFoundError: it is in none of the places, which the message lists.
    """
    return files.find(name, "weights", path)
