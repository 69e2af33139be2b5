"""Evaluation runs: methods explain the examples of a data set, metrics judge every explanation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jxai.callables import partition, plainly
from jxai.data import Batch, Source
from jxai.data.sampling import sampled
from jxai.data.sources import NO_LABEL
from jxai.evaluate import blank, tasks, told
from jxai.evaluate.examples import Examples, shown_as, traced
from jxai.evaluate.loop import Progress, Tell, work
from jxai.evaluate.selection import select
from jxai.evaluate.store import PICTURE, Run
from jxai.identity.versions import versions
from jxai.scores import one_of
from jxai.typing import Curve, Model, PyTree

TARGETS = ("predicted", "label")
WHERE = ("all", "correct")


@plainly
def run(
    f: Model,
    source: Source,
    methods: tasks.Given,
    metrics: tasks.Given,
    out: str | Path,
    *,
    preprocess: Callable | None = None,
    model_name: str = "",
    target: str | None = "predicted",
    where: str = "all",
    limit: int | None = None,
    sample: str = "stratified",
    shuffle: bool = False,
    seed: int = 0,
    block: int | None = None,
    batch_size: int | None = None,
    keep_maps: bool = True,
    anew: bool = False,
    shared: bool = False,
    devices: Sequence[jax.Device] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Run:
    """Explains examples by every method, judges every explanation by every metric, and keeps all of it in the folder `out`.

    A result depends on its example, the configuration and the seed alone: not on blocks, on the order, on the number of devices or of
    processes, to the bit, on one kind of device and one installation of JAX. Only the number of a CPU's cores shows in the last bits, since XLA divides a sum among them.
    Blocks that are there are kept, so the same call goes on where a killed one stopped; one that was damaged is made again. The record says by value and by
    code what the run is of (the data's content, preprocessing, weights, program and code of the model, methods, metrics and all their options, versions), and
    what came out of a few examples; a call of anything else is refused, and so is a second process, unless both say `shared`.

    Several processes, on this machine or on others that see the same folder, share a run by the same call with `shared=True` in each. Each takes blocks that no
    living one has, on its own devices, and stays until all are done; any of them may be killed, or come later. Where devices need a JAX cluster
    (a TPU pod), call `jxai.evaluate.join()` in each process first.

    Args:
      f: the model. source: the data set. preprocess: uint8 pixels to x; None divides by 255.
      methods, metrics: names, or labels with a function and its options: `["sobol", "abs:gradient"]`, `{"mine": my_method}`,
        `{"rise_1000": (rise, {"num_masks": 1000})}`. "abs:" takes the magnitudes of a map.
        A metric measures the score that a method explained, unless its options name another; the record says which. Label maps of each image's own are asked
        for by a `jxai.segments.Segmentation`.
      out: the run's folder. model_name: for the record.
      target: which class is explained, "predicted" or "label"; None where f(x) is a number, which then stands in the column `confidence`.
      where: "all" examples, or those that the model classifies right ("correct").
      limit: at most so many examples (before `where`), by `sample` "stratified" (of every class its share, drawn by `seed`: `jxai.data.sampled`) or the "first".
      shuffle: takes them in random order, by `seed`.
      block: examples that are written together (8 for large examples, up to 32 for small ones); what a killed process loses at most.
      batch_size: examples at once on a device; None is what suits each method and metric (`jxai.batching.default_batch_size`). keep_maps: whether to keep the explanations, and the examples as pictures, for a report to show.
      anew: removes a run that is in the folder already. shared: whether other processes take part; always in a JAX cluster.
      devices: all of this process by default.
      on_progress: called after every method of every block.

    Returns:
      The run, whole.

    Raises:
      ValueError: an empty data set, unknown names or options, masks or labels that are asked for and not there, a folder that holds
        another configuration or that another process writes. OSError: it cannot be written.
    """
    if target is not None:
        one_of("target", target, TARGETS)
    one_of("where", where, WHERE)
    chosen, examples = sampled(source, limit, sample, seed), Examples(f, source, preprocess, block, batch_size, devices, scalar=target is None)
    probe = examples.probe
    explainers = tasks.methods(methods, source, examples.shape, preprocess)
    judges = tasks.judges(metrics, explainers, examples.shape, seed)
    if (target == "label" or where == "correct") and probe.label[0] == NO_LABEL:
        raise ValueError(f"the examples of {source.name} have no labels, which {target=}, {where=} asks for")
    if examples.classes == 1 and where == "correct":
        raise ValueError(f"{where=} needs a model of two or more logits: one logit gives no class")
    if probe.mask is None and (needs := [label for label, by in judges.items() if next(iter(by.values())).needs_mask]):
        raise ValueError(f"the examples of {source.name} have no masks, which the metric {needs[0]} asks for")
    if shuffle:
        chosen = np.random.default_rng(seed).permutation(chosen)
    config = {
        "seed": seed,
        **examples.describe(chosen, model_name, sample, shuffle),
        "methods": {task.label: task.describe() for task in explainers},
        "metrics": {label: tasks.judged_by(by) for label, by in judges.items()},
        **{"target": target, "where": where, "block": examples.block, "batch_size": batch_size, "keep_maps": keep_maps},
        "versions": versions(),
    }
    _check(f, probe, explainers, judges, target is None)
    with Run.writing(out, config, lambda: examples.answers(chosen), anew=anew, shared=shared or jax.process_count() > 1) as record:
        examples.go_on(record)
        evaluation = _Evaluation(examples, target, seed, explainers, judges)
        if where == "correct":
            chosen = select(record, chosen, evaluation.is_correct, examples.block)
        work(record, examples.blocks(chosen), evaluation.block, on_progress)
    return record


class _Evaluation:
    """The examples and the tasks of a run; `block` explains and judges some examples."""

    def __init__(self, examples: Examples, target: str | None, seed: int, explainers: Sequence[tasks.Task], judges: Mapping[str, Mapping[str, tasks.Task]]):
        self.examples, self.target, self.seed, self.explainers, self.judges = examples, target, seed, explainers, judges
        self.blanks = blank.of_tasks([*explainers, *(task for by in judges.values() for task in by.values())])

    def block(self, indices: np.ndarray, tell: Tell) -> tuple[dict, dict, dict]:
        """The scores, the explanations and the pictures of these examples."""
        batch, predicted, confidence = self.examples.predict(indices)
        target = batch.label if self.target == "label" else predicted
        columns = self.examples.columns(batch, target, predicted, confidence)
        shown, maps = self.examples.shown(target), {}
        if shown is not None:
            columns |= blank.columns(self.examples, self.blanks, batch, shown)
        for number_, task in enumerate(self.explainers):
            tell(task.label, number_ / len(self.explainers))
            explanations = self._sweep(task, batch, batch.x, shown)
            maps[task.label] = explanations
            columns[told.TIED + task.label] = told.ties(explanations)
            for label, by in self.judges.items():
                judged = self._sweep(by[task.label], batch, batch.x, shown, explanations)
                columns |= _columns(f"{task.label}/{label}", judged, columns["valid"])
        return columns, maps, {PICTURE: shown_as(batch.x)}

    def is_correct(self, indices: np.ndarray) -> np.ndarray:
        """Which of these examples the model classifies right; an example that cannot be read counts, and then shows why it failed."""
        batch, predicted, _ = self.examples.predict(indices)
        return (predicted == batch.label) | ~batch.valid

    def _sweep(self, task: tasks.Task, batch: Batch, *rows: np.ndarray | None) -> PyTree:
        own = task.per_example(batch.x, batch.mask)
        return self.examples.each(task.fn, task.source, batch, own, task.key(self.seed), *rows, **task.options)


def _columns(name: str, judged: PyTree, valid: np.ndarray) -> dict[str, np.ndarray]:
    n = len(valid)

    def real(values: np.ndarray) -> np.ndarray:
        keep = valid.reshape((n,) + (1,) * (values.ndim - 1))
        return np.where(keep, values.astype(np.float32), np.float32(np.nan))

    if isinstance(judged, Curve):
        return {f"score/{name}": real(judged.auc), f"curve/{name}/x": real(judged.x), f"curve/{name}/y": real(judged.y)}
    return {f"score/{name}": real(judged)}


def _check(f: Model, probe: Batch, explainers: Sequence[tasks.Task], judges: Mapping[str, Mapping[str, tasks.Task]], scalar: bool) -> None:
    """Traces everything once, so that whatever is wrong with an option is said before any work."""
    arrays, static = partition(f)
    x, target = jax.ShapeDtypeStruct(probe.x.shape[1:], jnp.float32), None if scalar else jax.ShapeDtypeStruct((), jnp.int32)

    def shape(task: tasks.Task, *rows):
        own = jax.tree.map(lambda v: v[0], task.per_example(probe.x, probe.mask))

        def call(arrays, key, own, *rows):
            return task.fn(static.combine(arrays), *rows, key, **own, **task.options)

        return traced(call, arrays, jax.random.key(0), own, *rows, label=task.label)

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
