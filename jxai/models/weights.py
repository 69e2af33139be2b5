"""Where downloaded weights are: in a folder beside the project, in one that JXAI_DATA names, or at a path given."""

import os
import pathlib

__all__ = ["find"]


def find(name: str, path: str | os.PathLike | None = None) -> pathlib.Path:
    """Returns the file of weights called `name`.

    Args:
      name: a file name, as `"cifar10_resnet20.npz"`.
      path: that file, or a folder that holds it. None looks into `$JXAI_DATA/weights`, or where that variable is not set
        into `../shared/weights` of the current folder and of the repository.

    Raises:
      FileNotFoundError: it is in none of the places, which the message lists.
    """
    if path is not None:
        path = pathlib.Path(path)
        candidates = [path / name if path.is_dir() else path]
    elif folder := os.environ.get("JXAI_DATA"):
        candidates = [pathlib.Path(folder) / "weights" / name]
    else:
        repository = pathlib.Path(__file__).resolve().parents[2]
        candidates = [root / ".." / "shared" / "weights" / name for root in (pathlib.Path.cwd(), repository)]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    tried = ", ".join(dict.fromkeys(str(candidate) for candidate in candidates))
    raise FileNotFoundError(f"no weights {name}: tried {tried}; set JXAI_DATA to the folder whose weights/ holds it, or pass its path")
