"""The record of an experiment: a folder named by its configuration, what a stopped run has kept in it, and the results as strict JSON.

`{out}/{digest}/` holds `config.json` (the experiment, its configuration and the runs that worked on it: commit, versions, seconds), `kept/` (the
pieces that were done) and, when all is done, `results.json` (the same, and the rows). Every file is whole or absent. In JSON a NaN is `null` (no
value: an interval of one value, a mean of none), an infinity the string "Infinity" or "-Infinity".
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import math
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jxai.files import atomic, save_arrays
from jxai.identity.versions import checkout, versions


def folder(config: Any) -> Path:
    """`{out}/{digest}`: where a configuration's record is. `out` itself does not count."""
    name, values = described(config)
    text = json.dumps({"experiment": name, "config": values}, sort_keys=True, allow_nan=False)
    return Path(config.out) / hashlib.sha256(text.encode()).hexdigest()[:12]


def described(config: Any) -> tuple[str, dict[str, Any]]:
    """The experiment's name, which is its file's, and the configuration as plain JSON, without `out`."""
    return Path(_source(config)).stem, {name: plain(value) for name, value in dataclasses.asdict(config).items() if name != "out"}


class Record:
    """The record of a configuration, for one run of its experiment.

    Args:
      config: a frozen dataclass with `out`, the folder above.
      on_progress: what `tell` tells it to, or what the experiment gives to routines that report in another way.
    """

    def __init__(self, config: Any, on_progress: Callable[[Any], None] | None = None):
        self.config, self.on_progress, self.folder = config, on_progress, folder(config)
        self._runs: list[dict[str, Any]] = []
        self._start = time.perf_counter()

    @property
    def path(self) -> Path:
        """The folder, which from the first use on is this configuration's; this run is noted in it.

        Raises:
          ValueError: it holds another configuration.
        """
        if not self._runs:
            name, values = described(self.config)
            there = self.begun()
            if there is not None and (there["experiment"], there["config"]) != (name, values):
                raise ValueError(f"{self.folder} holds another configuration than its name says: remove it")
            began = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            self._runs = [*([] if there is None else there["runs"]), {**self.identity(), "began": began, "seconds": 0.0}]
            self._note()
        return self.folder

    def identity(self) -> dict[str, Any]:
        """What runs: the `commit` of the experiment's checkout, whether it is `dirty`, and `versions`."""
        return {**checkout(_source(self.config)), "versions": versions("flax", "optax", "scipy")}

    def begun(self) -> dict[str, Any] | None:
        """What `config.json` says: `experiment`, `config` and `runs`; None where nothing was begun."""
        return _read(self.folder / "config.json")

    def has_work(self) -> bool:
        """Whether there is anything but `config.json`."""
        return self.folder.exists() and any(path.name != "config.json" for path in self.folder.iterdir())

    def results(self) -> dict[str, Any] | None:
        """What `results.json` says: as `begun`, and `seconds` and `rows`; None where they are not all there."""
        found = _read(self.folder / "results.json")
        return None if found is None else {**found, "rows": _rows(found["rows"])}

    def tell(self, text: str) -> None:
        """Says how far it is, after how many seconds."""
        if self.on_progress is not None:
            self.on_progress(f"{time.perf_counter() - self._start:.0f} s: {text}")

    def kept(self, name: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """The arrays that `make()` returns, from `kept/NAME.npz` where a run that was stopped has written them."""
        path = self.path / "kept" / f"{_file(name)}.npz"
        if not path.exists():
            save_arrays(path, **make())
            self._note()
        with np.load(path) as file:
            return dict(file)

    def kept_values(self, name: str, make: Callable[[], dict[tuple, np.ndarray]]) -> dict[tuple, np.ndarray]:
        """The same of arrays whose keys are tuples of strings and numbers."""
        found = self.kept(name, lambda: {json.dumps(key, ensure_ascii=False, allow_nan=False): value for key, value in make().items()})
        return {tuple(json.loads(key)): value for key, value in found.items()}

    def kept_rows(self, name: str, make: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
        """The rows that `make()` returns, from `kept/NAME.json` where a run that was stopped has written them."""
        path = self.path / "kept" / f"{_file(name)}.json"
        if not path.exists():
            _write(path, plain(make()))
            self._note()
        return _rows(_read(path))

    def write(self, rows: list[dict[str, Any]]) -> None:
        """Writes `results.json`: what `config.json` holds, the seconds of all runs (of one that was killed, until it last kept a piece), and the rows."""
        path = self.path / "results.json"
        self._note()
        seconds = round(sum(run["seconds"] for run in self._runs), 1)
        _write(path, {**self._content(), "seconds": seconds, "rows": plain(rows)})

    def _note(self) -> None:
        self._runs[-1]["seconds"] = round(time.perf_counter() - self._start, 1)
        _write(self.folder / "config.json", self._content())

    def _content(self) -> dict[str, Any]:
        name, values = described(self.config)
        return {"experiment": name, "config": values, "runs": self._runs}


def plain(value: Any) -> Any:
    """A value as JSON knows it: arrays and tuples become lists, NaN becomes None and an infinity a string.

    Raises:
      TypeError: a value of another type.
    """
    if isinstance(value, dict):
        if wrong := [name for name in value if not isinstance(name, str)]:
            raise TypeError(f"{wrong[0]!r} must be a string to be a name in JSON")
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if isinstance(value, (np.generic, np.ndarray, jax.Array)):
        return plain(np.asarray(value).tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{value!r} of type {type(value).__name__} has no place in JSON: give numbers, strings, arrays, lists or dictionaries")


def _rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows as they were before they became JSON: where a mean or an end of its interval is null, it was NaN; infinities are numbers again."""
    known = {"Infinity": math.inf, "-Infinity": -math.inf}
    number = lambda name, value: math.nan if value is None and name in ("mean", "low", "high") else known.get(value, value) if isinstance(value, str) else value
    return [{name: number(name, value) for name, value in row.items()} for row in rows]


def _source(config: Any) -> str:
    return sys.modules[type(config).__module__].__file__


def _file(name: str) -> str:
    """A file's name for a piece: letters, digits and `._-` as they are; where others were replaced, with a digest that keeps names apart."""
    short = re.sub(r"[^A-Za-z0-9._-]+", "_", name)
    return short if short == name else f"{short}.{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def _read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def _write(path: Path, content: Any) -> None:
    with atomic(path) as part:
        part.write_text(json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n", "utf-8")
