"""The folder of a run: `config.json`, and for each block of examples its scores and, where kept, its explanations and pictures, whole or absent."""

from __future__ import annotations

import contextlib
import json
import shutil
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jxai.evaluate.locks import Claims, writing
from jxai.files import atomic, digest, save_arrays
from jxai.identity.checks import contradicted
from jxai.identity.compare import differences

PER_EXAMPLE = ("index", "label", "target", "predicted", "confidence", "valid", "name", "error")
"""The columns of a run's table: place in the data set, label (−1: none), explained class, predicted class and its probability, whether it
counts, and why not."""


PICTURE = "_picture"
"""Among what can be looked at: the example."""
_MAPS = "_maps"
"""In a block's file of scores: the digest of its file of explanations."""
_DAMAGE = (OSError, ValueError, EOFError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error)
_MAY_DIFFER = ("block", "check", "data.class_names", "model.name")
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
        self.path, self.claims = Path(path), Claims(None, False)
        try:
            self.config: dict[str, Any] = json.loads((self.path / "config.json").read_text("utf-8"))
        except FileNotFoundError:
            raise ValueError(f"{path} is no run: it has no config.json") from None
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: config.json cannot be read ({error})") from None

    @classmethod
    @contextlib.contextmanager
    def writing(
        cls, path: str | Path, config: Mapping[str, Any], check: Callable[[], Mapping[str, Any]] | None = None, *, anew: bool = False, shared: bool = False
    ) -> Iterator[Run]:
        """The run of this configuration, new or begun before, to be written by this process alone, or by those that share it.

        Args:
          path: its folder. config: what JSON can hold. check: gives what the model answers on a few examples (`Examples.answers`); it is kept, and must come
            out again. anew: removes a run that is there. shared: whether other processes write, too.

        Raises:
          ValueError: the folder holds something else, or a run of another configuration (the message says what differs), or another process writes
            there; anew together with shared. OSError: it cannot be written.
        """
        if anew and shared:
            raise ValueError(f"{anew=} would remove what the other processes of a {shared=} run have made: begin anew with one process alone, or remove {path}")
        if (Path(path) / "config.json").exists() and not anew:
            cls(path)  # before a lock is left there, too
        _refuse_other(Path(path))
        with writing(path, shared) as claims:
            run = cls.open(path, config, check, anew=anew)
            run.claims = claims
            yield run

    @classmethod
    def open(cls, path: str | Path, config: Mapping[str, Any], check: Callable[[], Mapping[str, Any]] | None = None, *, anew: bool = False) -> Run:
        """The run of this configuration, new or begun before; one that was begun keeps its size of blocks. Arguments and errors as in `writing`."""
        path = Path(path)
        config = json.loads(json.dumps(config))
        if anew and (path / "config.json").exists():
            (path / "config.json").unlink()  # first, for without it the rest is no run
            for name in ("blocks", "maps", "pictures"):
                shutil.rmtree(path / name, ignore_errors=True)
            (path / "selection.npz").unlink(missing_ok=True)
        made = None
        if not (path / "config.json").exists():
            _refuse_other(path)
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

    def pictures_path(self, block: int) -> Path:
        """Where a block's examples are, as they can be looked at (`jxai.evaluate.examples.shown_as`)."""
        return self.path / "pictures" / f"{block:06d}.npz"

    def is_done(self, block: int) -> bool:
        """Whether a block is whole: its scores by their checksums, its explanations by the digest that stands beside the scores."""
        try:
            with zipfile.ZipFile(self.scores_path(block)) as archive:
                if archive.testzip() is not None:
                    return False
            return not self.config["keep_maps"] or self._has_maps(block)
        except _DAMAGE:
            return False

    def damaged_maps(self) -> list[int]:
        """The blocks whose explanations are missing or not those that were written; none in a run that keeps none."""
        blocks = sorted(int(path.stem) for path in (self.path / "blocks").glob("[0-9]*.npz")) if self.config["keep_maps"] else []
        return [block for block in blocks if not self._has_maps(block)]

    def _has_maps(self, block: int) -> bool:
        with np.load(self.scores_path(block), allow_pickle=False) as archive:
            return str(archive[_MAPS]) == digest(self.maps_path(block))

    def write(self, block: int, scores: Mapping[str, np.ndarray], maps: Mapping[str, np.ndarray], pictures: Mapping[str, np.ndarray] | None = None) -> None:
        """Keeps a block: pictures and explanations first, so that scores never lack theirs. Clears what a killed process left of it."""
        for path in (self.pictures_path(block), self.maps_path(block), self.scores_path(block)):
            for stale in path.parent.glob(f".{path.stem}.*{path.suffix}"):
                stale.unlink(missing_ok=True)
        kept = {}
        if self.config["keep_maps"]:
            if pictures is not None:
                save_arrays(self.pictures_path(block), **pictures)
            save_arrays(self.maps_path(block), **maps)
            kept[_MAPS] = np.asarray(digest(self.maps_path(block)))
        save_arrays(self.scores_path(block), **scores, **kept)

    def blocks(self) -> Iterator[dict[str, np.ndarray]]:
        """The scores of every block that is there, in order.

        Raises:
          ValueError: a block is damaged.
        """
        for path in sorted((self.path / "blocks").glob("[0-9]*.npz")):
            try:
                with np.load(path, allow_pickle=False) as archive:
                    yield {name: archive[name] for name in archive.files if name != _MAPS}
            except _DAMAGE as error:
                raise ValueError(f"{path} is damaged ({error}); evaluating again mends it") from None

    def table(self) -> dict[str, np.ndarray]:
        """All examples so far, one row each, by their place in the data set.

        Returns:
          `PER_EXAMPLE` columns, and `score/METHOD/METRIC` `[n]` (NaN where it failed), `curve/METHOD/METRIC/x` and `…/y` `[n, points]`,
          `tied/METHOD` `[n]`: the share of a map's entries that equal another one, and `blank/FILL` `[n]`: whether the example is of the explained class with everything replaced.
        """
        found = list(self.blocks())
        if not found:
            return {}
        joined = {name: np.concatenate([block[name] for block in found]) for name in found[0]}
        order = np.argsort(joined["index"], kind="stable")
        return {name: column[order] for name, column in joined.items()}

    def maps(self, method: str) -> dict[int, np.ndarray]:
        """The explanations of a method by place in the data set; `{}` where the run kept none. ValueError where some are damaged."""
        found = {}
        if damaged := self.damaged_maps():
            raise ValueError(f"{self.maps_path(damaged[0])} is damaged or missing; evaluating again mends it")
        for scores in sorted((self.path / "blocks").glob("[0-9]*.npz")):
            path = self.maps_path(int(scores.stem))
            if path.exists():
                with np.load(path, allow_pickle=False) as archive, np.load(scores, allow_pickle=False) as rows:
                    found |= dict(zip(rows["index"].tolist(), archive[method]))
        return found

    def looked_at(self, places: Collection[int]) -> dict[int, dict[str, np.ndarray]]:
        """Of each of these places in the data set what can be looked at: explanations by method, and `PICTURE`, the example; without what was not kept or is damaged."""
        found: dict[int, dict[str, np.ndarray]] = {}
        for scores in sorted((self.path / "blocks").glob("[0-9]*.npz")):
            block = int(scores.stem)
            with np.load(scores, allow_pickle=False) as archive:
                rows = {int(place): row for row, place in enumerate(archive["index"].tolist()) if place in places}
                kept = [self.maps_path(block)] * (bool(rows) and _MAPS in archive and str(archive[_MAPS]) == digest(self.maps_path(block)))
            for path in [*kept, *([self.pictures_path(block)] if rows else [])]:
                try:
                    with np.load(path, allow_pickle=False) as archive:
                        columns = {name: archive[name] for name in archive.files}
                except _DAMAGE:
                    continue
                for place, row in rows.items():
                    found.setdefault(place, {}).update({name: column[row] for name, column in columns.items()})
        return found

    def _labels(self, kind: str) -> list[str]:
        if kind not in self.config:
            raise ValueError(f"{self.path} is no run of methods and metrics")
        return list(self.config[kind])


def _refuse_other(path: Path) -> None:
    """ValueError for a folder that holds something else than a run."""
    if not path.exists():
        return
    others = not path.is_dir() or any(entry for entry in path.iterdir() if entry.name != "lock" and not entry.name.startswith(".config."))
    if others and not (path / "config.json").exists():
        raise ValueError(f"{path} is no run: it is not empty and has no config.json")
