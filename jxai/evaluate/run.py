"""Evaluation runs: methods explain the examples of a data set, metrics judge every explanation."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import jax

from jxai.callables import plainly
from jxai.data import Source
from jxai.data.sources import NO_LABEL
from jxai.evaluate import columns, tasks
from jxai.evaluate.evaluation import TARGETS, Evaluation, Plan
from jxai.evaluate.examples import Examples
from jxai.evaluate.growth import Places, blocks
from jxai.evaluate.loop import work
from jxai.evaluate.selection import select
from jxai.evaluate.store import Run
from jxai.identity.versions import versions
from jxai.scores import one_of
from jxai.typing import Model
from jxai.views.progress import Progress

WHERE = ("all", "correct")
_SEEDS = 2**32
"""More give no other random numbers: JAX takes the last 32 bits of a seed."""


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
    seeds: Sequence[int] | None = None,
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

    A run grows: a later call may name more methods, metrics, seeds and examples (a larger `limit`; never fewer than are there), and computes what is missing alone:
    every method, and every metric on it, is a column with an identity of its own, and what the run holds is to the bit what one call for all of it makes. A call for
    less finds its part there. Scores of a map that is there are taken of the map in the folder; with `keep_maps=False` methods explain again for a new metric.

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
      seed: of the sample and, where there are no `seeds`, of all random numbers. seeds: several of the latter: what draws random numbers is computed for each,
        and a report averages over them within an example first; the columns of another seed than `seed` are those of `METHOD@seed=SEED`.
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
    seeds = _seeds(seed, seeds)
    places, examples = Places(source, limit, sample, shuffle, seed), Examples(f, source, preprocess, block, batch_size, devices, scalar=target is None)
    probe = examples.probe
    explainers = tasks.methods(methods, source, examples.shape, preprocess)
    judges = tasks.judges(metrics, explainers, examples.shape, seed)
    if (target == "label" or where == "correct") and probe.label[0] == NO_LABEL:
        raise ValueError(f"the examples of {source.name} have no labels, which {target=}, {where=} asks for")
    if examples.classes == 1 and where == "correct":
        raise ValueError(f"{where=} needs a model of two or more logits: one logit gives no class")
    if probe.mask is None and (needs := [label for label, by in judges.items() if next(iter(by.values())).needs_mask]):
        raise ValueError(f"the examples of {source.name} have no masks, which the metric {needs[0]} asks for")
    plan = Plan(explainers, judges, seeds, seed, examples)
    config = {
        "seed": seed,
        **examples.describe(places.first(), model_name),
        **plan.describe(),
        **{"target": target, "where": where, "block": examples.block, "batch_size": batch_size, "keep_maps": keep_maps},
        "versions": versions(),
    }
    columns.refuse_alike(config)
    check, shared = functools.partial(examples.answers, places.chosen), shared or jax.process_count() > 1
    with Run.writing(out, config, check, grow=places.grown, anew=anew, shared=shared) as record:
        examples.go_on(record)
        evaluation, parts = Evaluation(examples, target, plan, keep_maps), places.parts(record.config)
        if where == "correct":
            parts = select(record, parts, evaluation.is_correct, examples.block)
        done = functools.partial(record.is_done, names=evaluation.names, methods=plan.labels)
        work(record, blocks(parts, examples.block), lambda n, indices, tell: evaluation.block(record.block(n), indices, tell), on_progress, done)
    return record


def _seeds(seed: int, seeds: Sequence[int] | None) -> tuple[int, ...]:
    if not 0 <= seed < _SEEDS:
        raise ValueError(f"{seed=} must be in [0, 2**32)")
    if seeds is None:
        return (seed,)
    if isinstance(seeds, (str, int)) or not len(seeds) or not all(isinstance(s, int) and not isinstance(s, bool) and 0 <= s < _SEEDS for s in seeds):
        raise ValueError(f"{seeds=} must be integers from 0 and below 2**32, one at least")
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"{seeds=} names {next(s for s in seeds if list(seeds).count(s) > 1)} twice")
    return tuple(seeds)
