"""The loop of an evaluation: each process takes its share of the blocks that are not done, and its devices share a block."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jxai import batching
from jxai.callables import partition
from jxai.data import Batch, Source, load
from jxai.data.batches import number
from jxai.data.sources import NO_LABEL
from jxai.evaluate import tasks
from jxai.evaluate.identity import versions, weights_digest
from jxai.evaluate.selection import select
from jxai.evaluate.store import Run
from jxai.scores import one_of, positive
from jxai.typing import Curve, Model, PyTree

TARGETS = ("predicted", "label")
WHERE = ("all", "correct")
_PATIENCE = 60.0
"""Seconds without a new block after which the first process takes over from others, at least."""


class Progress(NamedTuple):
    """How far this process is."""

    done: int
    """Examples of its share that are done, those of earlier runs included."""
    total: int
    """Examples of its share."""
    fresh: int
    """Examples done since it started."""
    seconds: float
    """Since it started."""
    what: str
    """The method that runs."""


def run(
    f: Model,
    source: Source,
    methods: tasks.Given,
    metrics: tasks.Given,
    out: str | Path,
    *,
    preprocess: Callable | None = None,
    model_name: str = "",
    target: str = "predicted",
    where: str = "all",
    limit: int | None = None,
    shuffle: bool = False,
    seed: int = 0,
    block: int | None = None,
    batch_size: int | None = None,
    keep_maps: bool = True,
    devices: Sequence[jax.Device] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Run:
    """Explains examples by every method, judges every explanation by every metric, and keeps all of it in the folder `out`.

    A result depends on its example, the configuration and the seed alone: not on blocks, on the order, on the number of devices or of
    processes. Blocks that are there are kept, so the same call goes on where a killed one stopped. Under `jax.distributed`, process p
    of n takes the blocks p, p + n, …, on its own devices; all need to see the same folder. The first stays until all are done, and takes
    over the blocks of one that has stopped.

    Args:
      f: the model. source: the data set. preprocess: uint8 pixels to x; None divides by 255.
      methods, metrics: names, or labels with a function and its options: `["sobol", "abs:gradient"]`, `{"mine": my_method}`,
        `{"rise_1000": (rise, {"num_masks": 1000})}`. "abs:" takes the magnitudes of a map. Label maps of each image's own are asked
        for by a `jxai.segments.Segmentation`.
      out: the run's folder. model_name: for the record.
      target: which class is explained, "predicted" or "label".
      where: "all" examples, or those that the model classifies right ("correct").
      limit: the first so many examples (before `where`). shuffle: takes them in random order, by `seed`.
      block: examples that are written together (8 for large examples, up to 32 for small ones); what a killed process loses at most.
      batch_size: examples at once on a device; None is what suits each method and metric (`jxai.batching.default_batch_size`). keep_maps: whether to keep the explanations. devices: all of this process by default.
      on_progress: called after every method of every block.

    Returns:
      The run, with what all processes have done by then.

    Raises:
      ValueError: an empty data set, unknown names or options, masks or labels that are asked for and not there, a folder that holds
        another configuration. OSError: it cannot be written.
    """
    one_of("target", target, TARGETS)
    one_of("where", where, WHERE)
    count, probe = number(source, limit), _first_readable(source, preprocess)
    block = max(8, 4 * batching.default_batch_size(probe.x[0])) if block is None else block
    positive(block=block, batch_size=1 if batch_size is None else batch_size)
    explainers = tasks.methods(methods, source, probe.x.shape[1:], preprocess)
    judges = tasks.judges(metrics, explainers, probe.x.shape[1:], seed)
    if (target == "label" or where == "correct") and probe.label[0] == NO_LABEL:
        raise ValueError(f"the examples of {source.name} have no labels, which {target=}, {where=} asks for")
    if probe.mask is None and (needs := [label for label, by in judges.items() if next(iter(by.values())).needs_mask]):
        raise ValueError(f"the examples of {source.name} have no masks, which the metric {needs[0]} asks for")
    config = {
        "data": {"name": source.name, "size": len(source), "examples": count, "shuffle": shuffle, "x": list(probe.x.shape[1:])},
        "model": {"name": model_name, "weights": weights_digest(f, probe.x.shape[1:])},
        "methods": {task.label: task.describe() for task in explainers},
        "metrics": {label: next(iter(by.values())).describe() for label, by in judges.items()},
        **{"target": target, "where": where, "seed": seed, "block": block, "batch_size": batch_size, "keep_maps": keep_maps},
        "versions": versions(),
    }
    _check(f, probe, explainers, judges)
    record = Run.open(out, config)
    evaluation = _Evaluation(f, source, preprocess, target, seed, batch_size, probe, explainers, judges, devices)
    chosen = np.random.default_rng(seed).permutation(len(source))[:count] if shuffle else np.arange(count)
    if where == "correct":
        chosen = select(record, chosen, evaluation.is_correct, block)
    blocks = [chosen[start : start + block] for start in range(0, len(chosen), block)]
    _work(record, blocks, evaluation, on_progress or (lambda progress: None))
    return record


def _work(record: Run, blocks: list[np.ndarray], evaluation: _Evaluation, on_progress: Callable[[Progress], None]) -> None:
    mine = range(jax.process_index(), len(blocks), jax.process_count())
    done = {b for b in mine if record.is_done(b)}
    total, before = sum(len(blocks[b]) for b in mine), sum(len(blocks[b]) for b in done)
    fresh, start = 0, time.monotonic()

    def tell(what: str, part: float) -> None:
        on_progress(Progress(before + fresh + int(part), total, fresh + int(part), time.monotonic() - start, what))

    def work(b: int) -> None:
        scores, maps = evaluation.block(blocks[b], lambda what, share: tell(what, share * len(blocks[b])))
        record.write(b, scores, maps)

    tell("", 0)
    for b in mine:
        if b not in done:
            if not record.is_done(b):  # the first process may have taken it over meanwhile
                work(b)
            fresh += len(blocks[b])
            tell("", 0)
    if jax.process_count() > 1 and jax.process_index() == 0:
        pace = (time.monotonic() - start) / max(1, len(mine) - len(done))
        _await_others(record, len(blocks), max(_PATIENCE, 3 * pace), work, lambda: tell("waiting for other processes", 0))


def _await_others(record: Run, count: int, patience: float, work: Callable[[int], None], tell: Callable[[], None]) -> None:
    """Stays until all blocks are there, since the other processes end with the first; takes over when nothing has come for long."""
    missing, last = list(range(count)), time.monotonic()
    while missing:
        still = [b for b in missing if not record.is_done(b)]
        if len(still) < len(missing):
            missing, last = still, time.monotonic()
        elif time.monotonic() - last > patience:
            work(missing[-1])  # from the end: a live process takes its own in order
        else:
            tell()
            time.sleep(min(1.0, patience / 10))


class _Evaluation:
    """The model, the data and the tasks of a run; `block` explains and judges some examples."""

    def __init__(self, f, source, preprocess, target, seed, batch_size, probe, explainers, judges, devices):
        self.f, self.source, self.preprocess, self.target, self.seed = f, source, preprocess, target, seed
        self.batch_size, self.probe, self.explainers, self.judges = batch_size, probe, explainers, judges
        devices = jax.local_devices() if devices is None else list(devices)
        self.devices, self.mesh = len(devices), batching.device_mesh(devices) if len(devices) > 1 else None

    def block(self, indices: np.ndarray, tell: Callable[[str, float], None]) -> tuple[dict, dict]:
        """The scores and the explanations of these examples."""
        batch, predicted, confidence = self._predict(indices)
        target = predicted if self.target == "predicted" else batch.label
        errors = [batch.errors.get(int(i), "") for i in indices]
        for row in range(len(indices)):
            if not errors[row] and not np.isfinite(confidence[row]):
                errors[row] = "the model's logits are not finite"
            if not errors[row] and not 0 <= target[row] < self.classes:
                errors[row] = f"its label {target[row]} is no class in [0, {self.classes})"
        valid = np.asarray([not error for error in errors])
        columns = dict(index=batch.index, label=batch.label, target=target, predicted=predicted, confidence=confidence)
        columns |= {"valid": valid, "name": np.asarray(batch.names), "error": np.asarray(errors)}
        shown = np.where((target >= 0) & (target < self.classes), target, 0).astype(np.int32)
        maps = {}
        for number_, task in enumerate(self.explainers):
            tell(task.label, number_ / len(self.explainers))
            explanations = self._sweep(task, batch, batch.x, shown)
            maps[task.label] = explanations
            for label, by in self.judges.items():
                judged = self._sweep(by[task.label], batch, batch.x, shown, explanations)
                columns |= _columns(f"{task.label}/{label}", judged, valid)
        return columns, maps

    def is_correct(self, indices: np.ndarray) -> np.ndarray:
        """Which of these examples the model classifies right; an example that cannot be read counts, and then shows why it failed."""
        batch, predicted, _ = self._predict(indices)
        return (predicted == batch.label) | ~batch.valid

    @property
    def classes(self) -> int:
        return jax.eval_shape(lambda v: self.f(v), jax.ShapeDtypeStruct(self.probe.x.shape[1:], jnp.float32)).shape[0]

    def _predict(self, indices: np.ndarray) -> tuple[Batch, np.ndarray, np.ndarray]:
        batch = load(self.source, indices, None, self.preprocess, self.probe)
        probabilities = self._each(_probabilities, _probabilities, batch, {}, None, batch.x)
        return batch, probabilities.argmax(1).astype(np.int32), probabilities.max(1)

    def _sweep(self, task: tasks.Task, batch: Batch, *rows: np.ndarray) -> PyTree:
        own = task.per_example(batch.x, batch.mask)
        return self._each(task.fn, task.source, batch, own, task.key(self.seed), *rows, **task.options)

    def _each(
        self, fn: Callable, source: Callable, batch: Batch, own: Mapping[str, Any], key: jax.Array | None, *rows: np.ndarray, **options: Any
    ) -> PyTree:
        """`each`, always over as many examples: one program, whatever the block, so that results are equal to the bit."""
        size = self.batch_size or batching.default_batch_size(batch.x[0], source, options.get("chunk"))
        width, count = size * self.devices, len(batch.index)
        *rows, index, own = jax.tree.map(functools.partial(batching.pad, multiple=width), (*rows, batch.index, dict(own)))
        parts = []
        for start in range(0, len(index), width):
            cut = functools.partial(jax.tree.map, lambda v, at=slice(start, start + width): v[at])
            options_ = {"index": cut(index), "per_example": cut(own), "batch_size": size}
            parts.append(batching.each(fn, self.f, *cut(rows), key=key, mesh=self.mesh, **options_, **options))
        return jax.tree.map(lambda *leaves: np.concatenate([np.asarray(leaf) for leaf in leaves])[:count], *parts)


def _probabilities(f, x):
    return jax.nn.softmax(f(x).astype(jnp.float32))


def _columns(name: str, judged: PyTree, valid: np.ndarray) -> dict[str, np.ndarray]:
    n = len(valid)

    def real(values: np.ndarray) -> np.ndarray:
        keep = valid.reshape((n,) + (1,) * (values.ndim - 1))
        return np.where(keep, values.astype(np.float32), np.float32(np.nan))

    if isinstance(judged, Curve):
        return {f"score/{name}": real(judged.auc), f"curve/{name}/x": real(judged.x), f"curve/{name}/y": real(judged.y)}
    return {f"score/{name}": real(judged)}


def _first_readable(source: Source, preprocess: Callable | None) -> Batch:
    error = None
    for index in range(min(len(source), 100)):
        try:
            return load(source, [index], 1, preprocess)
        except ValueError as failure:
            error = error or failure
    raise error


def _check(f: Model, probe: Batch, explainers: Sequence[tasks.Task], judges: Mapping[str, Mapping[str, tasks.Task]]) -> None:
    """Traces everything once, so that whatever is wrong with an option is said before any work."""
    arrays, static = partition(f)
    x, target = jax.ShapeDtypeStruct(probe.x.shape[1:], jnp.float32), jax.ShapeDtypeStruct((), jnp.int32)
    out = jax.eval_shape(lambda a, v: static.combine(a)(v), arrays, x)
    if getattr(out, "ndim", None) != 1:
        raise ValueError(f"f(x) must be a vector of logits [K], got {getattr(out, 'shape', type(out).__name__)}")

    def shape(task: tasks.Task, *rows):
        own = jax.tree.map(lambda v: v[0], task.per_example(probe.x, probe.mask))

        def call(arrays, key, own, *rows):
            return task.fn(static.combine(arrays), *rows, key, **own, **task.options)

        try:
            return jax.eval_shape(call, arrays, jax.random.key(0), own, *rows)
        except (ValueError, TypeError, NotImplementedError) as error:
            raise ValueError(f"{task.label}: {str(error).strip().splitlines()[0]}") from error

    seen = set()
    for task in explainers:
        attribution = shape(task, x, target)
        for by in judges.values():
            judge = by[task.label]
            if (id(judge), attribution.shape) not in seen:
                seen.add((id(judge), attribution.shape))
                judged = shape(judge, x, target, attribution)
                if not isinstance(judged, Curve) and judged.shape != ():
                    raise ValueError(f"{judge.label} must return a scalar or a Curve, got shape {judged.shape}")
