"""What scores need fitted: the model's answers on examples that it was trained on, kept in blocks as any run's, and the fits that are made of them, each a file."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jxai import uncertainty
from jxai.data import Source
from jxai.data.sources import NO_LABEL
from jxai.evaluate.examples import Examples
from jxai.evaluate.growth import Places, blocks
from jxai.evaluate.loop import Tell, work
from jxai.evaluate.store import Run
from jxai.evaluate.uncertain.plan import Task
from jxai.files import file_name
from jxai.identity.versions import versions
from jxai.typing import Array, Model
from jxai.uncertainty.heads import answers
from jxai.views.progress import Progress

LEAST = 2
"""Examples that a fit needs, whatever it is."""
Layer = int | str | None


class Fitting:
    """The examples on which scores are fitted.

    Args:
      f: the model. source: labelled examples, as a rule those that it was trained on. limit: how many at most. layers: where features are read.
      preprocess, seed, block, batch_size, devices: as in `jxai.evaluate.run`.

    Raises:
      ValueError: examples of another shape or number of classes than the model's, or without labels.
    """

    def __init__(
        self,
        f: Model,
        source: Source,
        limit: int | None,
        layers: Sequence[Layer],
        *,
        preprocess: Callable | None,
        seed: int,
        block: int | None,
        batch_size: int | None,
        devices: Sequence[jax.Device] | None,
    ):
        self.layers, self.limit = tuple(layers), limit
        self.places = Places(source, limit, "stratified", False, seed)
        self.examples = Examples(f, source, preprocess, block, batch_size, devices)
        if self.examples.probe.label[0] == NO_LABEL:
            raise ValueError(f"the examples of {source.name} have no labels, which scores are fitted by")

    def describe(self) -> dict[str, Any]:
        """For a record: which examples."""
        return {"data": {"name": self.examples.source.name, "size": len(self.examples.source), **self.places.first()}, "layers": list(self.layers)}

    def answers(self, out: Path, model_name: str, *, shared: bool, on_progress: Callable[[Progress], None] | None) -> dict[str, np.ndarray]:
        """The model's answers on all of them, as columns `logits` `[n, K]`, `label` `[n]` and, of each layer, `features…` `[n, D]`; made or gone on with."""
        config = {
            **self.examples.describe(self.places.first(), model_name),
            **{"fit": {"layers": list(self.layers)}, "block": self.examples.block, "batch_size": self.examples.batch_size, "keep_maps": False},
            "versions": versions(),
        }
        check = functools.partial(self.examples.answers, self.places.chosen)
        with Run.writing(out, config, check, shared=shared) as record:
            self.examples.go_on(record)
            work(record, blocks([self.places.chosen], self.examples.block), lambda _, places, tell: (self._block(places, tell), {}), on_progress)
            table = record.table()
        labelled = (table["label"] >= 0) & (table["label"] < self.examples.classes)
        keep = table["valid"] & labelled & np.isfinite(table["logits"]).all(1)
        if keep.sum() < LEAST:
            raise ValueError(f"{self.examples.source.name} has {keep.sum()} readable examples with labels: a fit needs {LEAST}")
        return {name: table[name][keep] for name in ("label", "logits", *map(column, self.layers))}

    def _block(self, places: np.ndarray, tell: Tell) -> dict[str, np.ndarray]:
        tell("answers to fit on", 0)
        batch = self.examples.load(places)
        found = self.examples.each(_answer, _answer, batch, {}, None, batch.x, layers=self.layers)
        errors = np.asarray([batch.errors.get(int(i), "") for i in batch.index])
        return {"index": batch.index, "label": batch.label, "valid": batch.valid, "name": np.asarray(batch.names), "error": errors, **found}


def fitted(task: Task, found: Mapping[str, np.ndarray], head: Any, path: Path, key: Array) -> Any:
    """What a score needs fitted, from its file where it is there, else made of the answers and written.

    Raises:
      ValueError: as the fit.
    """
    file = path / f"{file_name(task.label)}.npz"
    try:
        return uncertainty.load(file)
    except (OSError, ValueError):  # not there, or damaged
        pass
    assert task.fit is not None
    own = {"key": key} if "key" in inspect.signature(task.fit).parameters else {}
    arrays = found[column(task.layer)], found["logits"], found["label"]
    made = task.fit(*arrays, head if task.layer is None else None, **own, **task.fit_options)
    file.parent.mkdir(parents=True, exist_ok=True)
    uncertainty.save(file, made)
    return uncertainty.load(file)


def column(layer: Layer) -> str:
    """Where the features of a layer are."""
    return "features" if layer is None else f"features/{layer}"


def _answer(f: Model, x: Array, *, layers: tuple[Layer, ...]) -> dict[str, Array]:
    found = {layer: answers(f, x, layer) for layer in layers}
    return {"logits": found[layers[0]].logits, **{column(layer): one.features for layer, one in found.items()}}
