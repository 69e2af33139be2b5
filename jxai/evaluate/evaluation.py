"""What an evaluation run does with a block: explains its examples by every method, and judges every explanation by every metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jxai.callables import partition
from jxai.data import Batch
from jxai.evaluate import blank, tasks, told
from jxai.evaluate.blocks import MAPS, PICTURE, Block
from jxai.evaluate.columns import BLANK, CURVE, PER_EXAMPLE, SCORE, TIED, of_seed
from jxai.evaluate.examples import Examples, program_of, shown_as
from jxai.evaluate.loop import Tell
from jxai.tracing.reads import read
from jxai.typing import Curve, PyTree

TARGETS = ("predicted", "label")
Columns = dict[str, np.ndarray]


class Score(NamedTuple):
    """A column of scores."""

    name: str
    """`METHOD/METRIC`."""
    judge: tasks.Task
    seed: int


class Column(NamedTuple):
    """The explanations of a method by a seed, and the scores that are taken of them."""

    label: str
    task: tasks.Task
    seed: int
    scores: tuple[Score, ...]

    def names(self) -> list[str]:
        """The columns of the table that it makes; a curve's points stand beside its score."""
        return [TIED + self.label, *(SCORE + score.name for score in self.scores)]


class Plan:
    """What a call asks for.

    Args:
      explainers, judges: methods, and metrics by method. seeds: of the random numbers. base: the run's own seed, whose columns have plain names.
      examples: traces everything once, so that whatever is wrong with an option is said before any work, and sees what draws random numbers: the rest is not
        computed again for another seed.
    """

    def __init__(self, explainers: Sequence[tasks.Task], judges: Mapping[str, Mapping[str, tasks.Task]], seeds: Sequence[int], base: int, examples: Examples):
        self.explainers, self.judges, self.seeds, self.base = explainers, judges, tuple(seeds), base
        self._draws = _checked(explainers, judges, examples)
        self.columns = [column for task in explainers for column in self._of(task)]
        self.blanks = blank.of_tasks([*explainers, *(task for by in judges.values() for task in by.values())])
        self.labels = [column.label for column in self.columns]
        self.names = [*PER_EXAMPLE, *(name for column in self.columns for name in column.names())]

    def describe(self) -> dict[str, Any]:
        """What of a run's configuration is about methods and metrics."""
        methods = {task.label: {**task.describe(), "seeds": self._seeds(task.label)} for task in self.explainers}
        metrics = {}
        for label, by in self.judges.items():
            metrics[label] = tasks.judged_by(by)
            for method, how in metrics[label]["on"].items():
                how["seeds"] = self._seeds(method, (method, label))
        return {"methods": methods, "metrics": metrics}

    def _seeds(self, *drawing: Any) -> list[int]:
        """The seeds that make a difference to any of these; else the run's own."""
        return list(self.seeds) if any(self._draws[one] for one in drawing) else [self.base]

    def _of(self, task: tasks.Task) -> list[Column]:
        columns = []
        for seed in self._seeds(task.label):
            scores = []
            for metric, by in self.judges.items():
                for s in [seed] if self._draws[task.label] else self._seeds((task.label, metric)):
                    scores.append(Score(f"{of_seed(task.label, s, self.base)}/{metric}", by[task.label].at(s), s))
            columns.append(Column(of_seed(task.label, seed, self.base), task, seed, tuple(scores)))
        return columns


class Evaluation:
    """The examples and the plan of a run; `block` explains and judges some examples."""

    def __init__(self, examples: Examples, target: str | None, plan: Plan, keep_maps: bool):
        self.examples, self.target, self.plan, self.keep_maps = examples, target, plan, keep_maps

    @property
    def names(self) -> list[str]:
        """The columns that a block must have."""
        return [*self.plan.names, *(BLANK + name for name in self.plan.blanks if self.target is not None)]

    def block(self, there: Block, indices: np.ndarray, tell: Tell) -> tuple[Columns, Columns, Columns]:
        """The scores, the explanations and the pictures of these examples that are not there yet; those that are there are read, not made again."""
        whole = there.names()
        known = there.columns() if whole.issuperset(PER_EXAMPLE) else {}
        batch, columns = self._read(indices, known) if known else self._predicted(indices)
        per_example, maps = {**known, **columns}, {}
        shown = self.examples.shown(per_example["target"])
        if shown is not None:
            columns |= blank.columns(self.examples, {name: fill for name, fill in self.plan.blanks.items() if BLANK + name not in whole}, batch, shown)
        todo = [column for column in self.plan.columns if not whole.issuperset([*column.names(), *([MAPS + column.label] if self.keep_maps else [])])]
        for number_, column in enumerate(todo):
            tell(column.label, number_ / len(todo))
            explanations = there.map(column.label) if MAPS + column.label in whole else None
            if explanations is None:
                explanations = maps[column.label] = self._sweep(column.task, batch, column.seed, batch.x, shown)
            if TIED + column.label not in whole:
                columns[TIED + column.label] = told.ties(explanations)
            for score in column.scores:
                if SCORE + score.name not in whole:
                    judged = self._sweep(score.judge, batch, score.seed, batch.x, shown, explanations)
                    columns |= _columns(score.name, judged, per_example["valid"])
        return columns, maps, {} if there.pictures.exists() else {PICTURE: shown_as(batch.x)}

    def is_correct(self, indices: np.ndarray) -> np.ndarray:
        """Which of these examples the model classifies right; an example that cannot be read counts, and then shows why it failed."""
        batch, predicted, _ = self.examples.predict(indices)
        return (predicted == batch.label) | ~batch.valid

    def _predicted(self, indices: np.ndarray) -> tuple[Batch, Columns]:
        batch, predicted, confidence = self.examples.predict(indices)
        target = batch.label if self.target == "label" else predicted
        return batch, self.examples.columns(batch, target, predicted, confidence)

    def _read(self, indices: np.ndarray, known: Columns) -> tuple[Batch, Columns]:
        """The examples of a block that is there; what the model says of them is in it."""
        batch = self.examples.load(indices)
        if len(lost := np.flatnonzero((known["error"] == "") & ~batch.valid)):
            place = int(indices[lost[0]])
            raise ValueError(f"example {place} ({known['name'][lost[0]]}) could be read when the run began, and now cannot: {batch.errors[place]}")
        return batch, {}

    def _sweep(self, task: tasks.Task, batch: Batch, seed: int, *rows: np.ndarray | None) -> PyTree:
        own = task.per_example(batch.x, batch.mask)
        return self.examples.each(task.fn, task.source, batch, own, task.key(seed), *rows, **task.options)


def _columns(name: str, judged: PyTree, valid: np.ndarray) -> Columns:
    n = len(valid)

    def real(values: np.ndarray) -> np.ndarray:
        keep = valid.reshape((n,) + (1,) * (values.ndim - 1))
        return np.where(keep, values.astype(np.float32), np.float32(np.nan))

    if isinstance(judged, Curve):
        return {SCORE + name: real(judged.auc), f"{CURVE}{name}/x": real(judged.x), f"{CURVE}{name}/y": real(judged.y)}
    return {SCORE + name: real(judged)}


def looked(task: tasks.Task, examples: Examples, *rows: Any) -> tuple[Any, bool]:
    """What a method, or a metric on rows after x and target, returns in shapes, and whether it draws random numbers; ValueError for whatever is wrong with it."""
    (arrays, static), probe = partition(examples.f), examples.probe
    x, target = jax.ShapeDtypeStruct(examples.shape, jnp.float32), None if examples.scalar else jax.ShapeDtypeStruct((), jnp.int32)
    own = jax.tree.map(lambda v: v[0], task.per_example(probe.x, probe.mask))

    def call(key, arrays, own, *rows):
        return task.fn(static.combine(arrays), *rows, key, **own, **task.options)

    made, out = program_of(call, jax.random.key(0), arrays, own, x, target, *rows, label=task.label)
    return out, 0 in read(made.jaxpr)


def _checked(explainers: Sequence[tasks.Task], judges: Mapping[str, Mapping[str, tasks.Task]], examples: Examples) -> dict[Any, bool]:
    """Whether each method, and each metric on a method, draws random numbers; ValueError for whatever is wrong with it."""
    draws: dict[Any, bool] = {}
    seen: dict[Any, bool] = {}
    for task in explainers:
        attribution, draws[task.label] = looked(task, examples)
        for label, by in judges.items():
            judge = by[task.label]
            at = id(judge), attribution.shape
            if at not in seen:
                judged, seen[at] = looked(judge, examples, attribution)
                if not isinstance(judged, Curve) and judged.shape != ():
                    raise ValueError(f"{judge.label} must return a scalar or a Curve, got shape {judged.shape}")
            draws[task.label, label] = seen[at] or bool(judge.of_seed)
    return draws
