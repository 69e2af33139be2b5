"""The folder of a run: `config.json`, and for each block of examples its columns and, where kept, its explanations and pictures (`blocks`)."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from jxai.evaluate import columns
from jxai.evaluate.blocks import PICTURE as PICTURE
from jxai.evaluate.blocks import Block
from jxai.evaluate.locks import Claims, writing
from jxai.files import atomic
from jxai.identity.checks import contradicted
from jxai.identity.compare import differences

MAY_DIFFER = ("block", "check", "data.class_names", "model.name")
"""What of a configuration no result depends on, and what is compared by value."""
_CHECKED = {"x": "x, as it is preprocessed,", "f": "f(x)"}

Config = dict[str, Any]
Check = Callable[[Sequence[int] | None], Mapping[str, Any]]
"""What the model answers on a few examples: on those at these places, or of its own choice (`Examples.answers`)."""
Grow = Callable[[Config, Config], tuple[Config, Config, Config]]
"""Of the configuration there and here: what of both must be equal, and what the record becomes (`growth`)."""


class Run:
    """A run on disk.

    Args:
      path: its folder.

    Raises:
      ValueError: the folder holds no readable `config.json`.
    """

    PARTS: ClassVar[tuple[str, ...]] = ("blocks", "maps", "pictures")
    """The folders of what is computed, which a run that is begun anew does not keep."""

    def __init__(self, path: str | Path):
        self.path, self.claims = Path(path), Claims(None, False)
        try:
            self.config: Config = json.loads((self.path / "config.json").read_text("utf-8"))
        except FileNotFoundError:
            raise ValueError(f"{path} is no run: it has no config.json") from None
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: config.json cannot be read ({error})") from None
        if not columns.is_record(self.config):
            raise ValueError(f"{path}: config.json is not as this version of jxai writes it; choose another folder, or begin anew (anew=True, --anew)")

    @classmethod
    @contextlib.contextmanager
    def writing(
        cls,
        path: str | Path,
        config: Mapping[str, Any],
        check: Check | None = None,
        *,
        grow: Grow | None = None,
        anew: bool = False,
        shared: bool = False,
    ) -> Iterator[Self]:
        """The run of this configuration, new or begun before, to be written by this process alone, or by those that share it.

        Args:
          path: its folder. config: what JSON can hold. check: what comes out of a few examples; it is kept, and must come out again.
          grow: what a run that is there may lack; None where it must be of this very configuration.
          anew: removes a run that is there. shared: whether other processes write, too.

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
            run = cls._open(Path(path), json.loads(json.dumps(config)), check, grow, anew, claims)
            run.claims = claims
            yield run

    @classmethod
    def _open(cls, path: Path, config: Config, check: Check | None, grow: Grow | None, anew: bool, claims: Claims) -> Self:
        """The run of this configuration; one that was begun keeps its size of blocks, and what of it is here not asked for."""
        if anew or not (path / "config.json").exists():
            _refuse_other(path)
            made = {} if check is None else json.loads(json.dumps(check(None)))
            with claims.alone():
                if anew:  # the record stays until another takes its place: a process that is killed here leaves a run that can be begun anew
                    for name in cls.PARTS:
                        shutil.rmtree(path / name, ignore_errors=True)
                    (path / "selection.npz").unlink(missing_ok=True)
                if anew or not (path / "config.json").exists():
                    _write(path, {**config, "check": made})
                    return cls(path)
        run = cls(path)
        later = run._accepting(config, grow)
        if check is not None and (said := contradicted(there := run.config.get("check", {}), check(there.get("index")), _CHECKED)):
            raise ValueError(f"{path} is a run whose configuration is this one's, but not what comes out of it: {said}; {_REMEDY}")
        with claims.alone():
            if (now := cls(path).config) != run.config:  # others have added to it meanwhile
                run.config = now
                later = run._accepting(config, grow)
            if later != run.config:
                _write(path, later)
                run.config = later
        return run

    def _accepting(self, config: Config, grow: Grow | None) -> Config:
        """What the record becomes where it takes in this configuration; ValueError where it is of another one."""
        there, here, later = (self.config, config, self.config) if grow is None else grow(self.config, config)
        if found := differences(there, here, but=MAY_DIFFER):
            more = f" (and {len(found) - 1} more: {', '.join(dict.fromkeys(one.split(':')[0] for one in found[1:4]))})" if len(found) > 1 else ""
            hint = "" if grow is None else next((text for start, text in _HINTS.items() if found[0].startswith(start)), "")
            raise ValueError(f"{self.path} is a run of another configuration: {found[0]}{more}; {_REMEDY}{hint}")
        return later

    @property
    def methods(self) -> list[str]:
        """The labels of its methods; ValueError for a run that explains nothing."""
        return self._labels("methods")

    @property
    def metrics(self) -> list[str]:
        """The labels of its metrics; ValueError for a run that explains nothing."""
        return self._labels("metrics")

    def block(self, number: int) -> Block:
        """The files of a block."""
        return Block(self.path, number, self.config["keep_maps"])

    def is_done(self, block: int, names: Collection[str] = (), methods: Collection[str] | None = None) -> bool:
        """Whether a block is whole and has these columns and these methods' explanations; see `Block.is_done`."""
        return self.block(block).is_done(names, methods)

    def damaged_maps(self) -> list[int]:
        """The blocks of which explanations are missing or not those that were written; none in a run that keeps none."""
        return [block.number for block in self._blocks() if self.config["keep_maps"] and not block.is_done()]

    def blocks(self) -> Iterator[dict[str, np.ndarray]]:
        """The columns of every block that is there, in order.

        Raises:
          ValueError: a block is damaged.
        """
        return (block.columns() for block in self._blocks())

    def table(self) -> dict[str, np.ndarray]:
        """All examples so far, one row each, by their place in the data set.

        Returns:
          `PER_EXAMPLE` columns, and `score/METHOD/METRIC` `[n]` (NaN where it failed, or is not there yet: see `lacking`), `curve/METHOD/METRIC/x` and `…/y` `[n, points]`,
          `tied/METHOD` `[n]`: the share of a map's entries that equal another one, and `blank/FILL` `[n]`: whether the example is of the explained class with everything replaced.
          Of another seed than the run's, a METHOD is `METHOD@seed=SEED`.
        """
        found = list(self.blocks())
        if not found:
            return {}
        names = columns.ordered(self.config, dict.fromkeys(name for block in found for name in block))
        joined = {name: np.concatenate([_column(block, name, found) for block in found]) for name in names}
        order = np.argsort(joined["index"], kind="stable")
        return {name: column[order] for name, column in joined.items()}

    def lacking(self) -> dict[tuple[str, str], int]:
        """Of each method and metric that were asked for together, on how many examples they are not there yet; those that are whole are not in it."""
        found: dict[tuple[str, str], int] = {}
        for block in self.blocks():
            for metric in self.metrics:
                for method, cells in columns.cells(self.config, metric).items():
                    if any(columns.SCORE + cell not in block for cell in cells):
                        found[method, metric] = found.get((method, metric), 0) + len(block["index"])
        return found

    def maps(self, method: str, change: Callable[[np.ndarray], np.ndarray] | None = None) -> dict[int, np.ndarray]:
        """The explanations of a method by place in the data set; `{}` where the run kept none. ValueError where some are damaged.

        change: makes what is held of those of a block, `[n, …]`, of which all together may be large.
        """
        found = {}
        for block in self._blocks():
            if self.config["keep_maps"] and method in block.methods():
                if (maps := block.map(method)) is None:
                    raise ValueError(f"{block.explanations()} is damaged or missing; evaluating again mends it")
                found |= dict(zip(block.columns()["index"].tolist(), maps if change is None else change(maps)))
        return found

    def looked_at(self, places: Collection[int]) -> dict[int, dict[str, np.ndarray]]:
        """Of each of these places in the data set what can be looked at: explanations by method, and `PICTURE`, the example; without what was not kept or is damaged.

        Explanations by other seeds stand under `METHOD@seed=SEED`; under METHOD are those by the run's own seed or, where it was not asked for, by the first.
        """
        found: dict[int, dict[str, np.ndarray]] = {}
        first = {method: columns.first_seed(self.config, method) for method in self.config.get("methods", {})}
        for block in self._blocks():
            rows = {place: row for row, place in enumerate(block.columns()["index"].tolist()) if place in places}
            shown = block.looked_at() if rows else {}
            shown |= {method: shown[label] for method, label in first.items() if label in shown}
            found |= {place: {name: column[row] for name, column in shown.items()} for place, row in rows.items() if shown}
        return found

    def _repr_html_(self) -> str:
        from jxai.views import html

        table, config = self.table(), self.config
        count = len(table.get("index", ()))
        failed = int((~table["valid"]).sum()) if count else 0
        said = {"data": config["data"]["name"], "model": config["model"]["name"] or "a model", "examples": f"{count} done, {failed} of them failed"}
        if "methods" not in config:
            return html.table(f"run {self.path.name}", said | {name: html.value(column) for name, column in table.items() if column.dtype.kind in "bf"})
        rows = []
        for metric in self.metrics:
            asked = columns.cells(config, metric)
            there = [[table[columns.SCORE + cell] for cell in asked.get(method, ()) if columns.SCORE + cell in table] for method in self.methods]
            means = [f"{np.nanmean(scores):.4g}" if scores and np.isfinite(scores).any() else "" for scores in there]
            rows.append([metric + {1: " ↑", -1: " ↓"}.get(config["metrics"][metric].get("direction", 0), ""), *means])
        return html.table(f"run {self.path.name}", said) + html.grid(["mean of", *self.methods], rows)

    def _blocks(self) -> list[Block]:
        return [self.block(number) for number in sorted(int(path.stem) for path in (self.path / "blocks").glob("[0-9]*.npz"))]

    def _labels(self, kind: str) -> list[str]:
        if kind not in self.config:
            raise ValueError(f"{self.path} is no run of methods and metrics")
        return list(self.config[kind])


_HINTS = {
    "methods.": "; the method here may also take another label (NAME@OPTION=VALUE)",
    "metrics.": "; the metric here may also take another label (NAME@OPTION=VALUE)",
    "data.examples": "; a run takes more examples later, never fewer",
}
_REMEDY = "choose another folder, or begin anew (anew=True, --anew), which removes it"


def _write(path: Path, config: Config) -> None:
    """Alone; clears what a process that was killed while it wrote has left."""
    for stale in path.glob(".config.*.json"):
        stale.unlink(missing_ok=True)
    with atomic(path / "config.json") as part:
        part.write_text(json.dumps(config, indent=1) + "\n", "utf-8")


def _column(block: Mapping[str, np.ndarray], name: str, blocks: Sequence[Mapping[str, np.ndarray]]) -> np.ndarray:
    """A column of a block; NaN (False, of what holds or not) where it is not there yet."""
    if name in block:
        return block[name]
    like = next(other[name] for other in blocks if name in other)
    return np.full((len(block["index"]), *like.shape[1:]), np.nan if like.dtype.kind == "f" else 0, like.dtype)


def _refuse_other(path: Path) -> None:
    """ValueError for a folder that holds something else than a run."""
    if not path.exists():
        return
    others = not path.is_dir() or any(entry for entry in path.iterdir() if entry.name != "lock" and not entry.name.startswith(".config."))
    if others and not (path / "config.json").exists():
        raise ValueError(f"{path} is no run: it is not empty and has no config.json")
