"""The folder of a run: `config.json`, and for each block of examples its scores and, where kept, its explanations, whole or absent."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jxai.files import atomic, save_arrays
from jxai.identity.checks import contradicted
from jxai.identity.compare import differences

PER_EXAMPLE = ("index", "label", "target", "predicted", "confidence", "valid", "name", "error")
"""The columns of a run's table: place in the data set, label (−1: none), explained class, predicted class and its probability, whether it
counts, and why not."""


_MAY_DIFFER = ("block", "check", "model.name")
"""What of a configuration no result depends on, and what is compared by value."""
_CHECKED = {"x": "x, as it is preprocessed,", "f": "f(x)"}


class Run:
    """A run on disk.

    Args:
      path: its folder.

    Raises:
      ValueError: the folder holds no readable `config.json`.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        try:
            self.config: dict[str, Any] = json.loads((self.path / "config.json").read_text("utf-8"))
        except FileNotFoundError:
            raise ValueError(f"{path} is no run: it has no config.json") from None
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: config.json cannot be read ({error})") from None

    @classmethod
    def open(cls, path: str | Path, config: Mapping[str, Any], check: Callable[[], Mapping[str, Any]] | None = None, *, anew: bool = False) -> Run:
        """The run of this configuration, new or begun before; one that was begun keeps its size of blocks.

        Args:
          path: its folder. config: what JSON can hold. check: gives what the model answers on a few examples (`Examples.answers`); it is kept, and must come
            out again. anew: removes a run that is there.

        Raises:
          ValueError: the folder holds something else, or a run of another configuration (the message says what differs).
        """
        path = Path(path)
        config = json.loads(json.dumps(config))
        if anew and (path / "config.json").exists():
            (path / "config.json").unlink()  # first, for without it the rest is no run
            for name in ("blocks", "maps"):
                shutil.rmtree(path / name, ignore_errors=True)
            (path / "selection.npz").unlink(missing_ok=True)
        made = None
        if not (path / "config.json").exists():
            if path.exists() and (not path.is_dir() or any(entry for entry in path.iterdir() if not entry.name.startswith(".config."))):
                raise ValueError(f"{path} is no run: it is not empty and has no config.json")
            made = {} if check is None else json.loads(json.dumps(check()))
            with atomic(path / "config.json") as part:
                part.write_text(json.dumps({**config, "check": made}, indent=1) + "\n", "utf-8")
        run = cls(path)
        remedy = "choose another folder, or begin anew (anew=True, --anew), which removes it"
        if found := differences(run.config, config, but=_MAY_DIFFER):
            more = f" (and {len(found) - 1} more: {', '.join(dict.fromkeys(one.split(':')[0] for one in found[1:4]))})" if len(found) > 1 else ""
            raise ValueError(f"{path} is a run of another configuration: {found[0]}{more}; {remedy}")
        if made is None and check is not None and (said := contradicted(run.config.get("check", {}), check(), _CHECKED)):
            raise ValueError(f"{path} is a run whose configuration is this one's, but not what comes out of it: {said}; {remedy}")
        return run

    @property
    def methods(self) -> list[str]:
        """The labels of its methods; ValueError for a run that explains nothing."""
        return self._labels("methods")

    @property
    def metrics(self) -> list[str]:
        """The labels of its metrics; ValueError for a run that explains nothing."""
        return self._labels("metrics")

    def scores_path(self, block: int) -> Path:
        """Where a block's scores are."""
        return self.path / "blocks" / f"{block:06d}.npz"

    def maps_path(self, block: int) -> Path:
        """Where a block's explanations are."""
        return self.path / "maps" / f"{block:06d}.npz"

    def is_done(self, block: int) -> bool:
        """Whether a block is whole: its scores by their checksums, its explanations by their table of contents."""
        if self.config["keep_maps"] and not _has_contents(self.maps_path(block)):
            return False
        try:
            with zipfile.ZipFile(self.scores_path(block)) as archive:
                return archive.testzip() is None
        except (OSError, zipfile.BadZipFile, EOFError, ValueError):
            return False

    def write(self, block: int, scores: Mapping[str, np.ndarray], maps: Mapping[str, np.ndarray]) -> None:
        """Keeps a block: the explanations first, so that scores never lack theirs. Clears what a killed process left of it."""
        for path in (self.maps_path(block), self.scores_path(block)):
            for stale in path.parent.glob(f".{path.stem}.*{path.suffix}"):
                stale.unlink(missing_ok=True)
        if self.config["keep_maps"]:
            save_arrays(self.maps_path(block), **maps)
        save_arrays(self.scores_path(block), **scores)

    def blocks(self) -> Iterator[dict[str, np.ndarray]]:
        """The scores of every block that is there, in order.

        Raises:
          ValueError: a block is damaged.
        """
        for path in sorted((self.path / "blocks").glob("[0-9]*.npz")):
            try:
                with np.load(path, allow_pickle=False) as archive:
                    yield dict(archive)
            except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
                raise ValueError(f"{path} is damaged ({error}); evaluating again mends it") from None

    def table(self) -> dict[str, np.ndarray]:
        """All examples so far, one row each, by their place in the data set.

        Returns:
          `PER_EXAMPLE` columns, and `score/METHOD/METRIC` `[n]` (NaN where it failed), `curve/METHOD/METRIC/x` and `…/y` `[n, points]`,
          and `blank/FILL` `[n]`: whether the example is of the explained class with everything replaced.
        """
        found = list(self.blocks())
        if not found:
            return {}
        joined = {name: np.concatenate([block[name] for block in found]) for name in found[0]}
        order = np.argsort(joined["index"], kind="stable")
        return {name: column[order] for name, column in joined.items()}

    def maps(self, method: str) -> dict[int, np.ndarray]:
        """The explanations of a method by place in the data set; `{}` where the run kept none."""
        found = {}
        for scores in sorted((self.path / "blocks").glob("[0-9]*.npz")):
            path = self.maps_path(int(scores.stem))
            if path.exists():
                with np.load(path, allow_pickle=False) as archive, np.load(scores, allow_pickle=False) as rows:
                    found |= dict(zip(rows["index"].tolist(), archive[method]))
        return found

    def _labels(self, kind: str) -> list[str]:
        if kind not in self.config:
            raise ValueError(f"{self.path} is no run of methods and metrics")
        return list(self.config[kind])


def _has_contents(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return bool(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False
