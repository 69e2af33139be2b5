"""Certification runs: of every example of a data set, whether a bound proves its class within a radius, and whether an attack changes it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jxai.bounds.attack import attack
from jxai.bounds.certify import least
from jxai.bounds.region import ball
from jxai.bounds.specification import margins
from jxai.callables import partition, plainly
from jxai.data import Batch, Source
from jxai.data.sources import NO_LABEL
from jxai.evaluate.evaluation import TARGETS
from jxai.evaluate.examples import Examples, traced
from jxai.evaluate.growth import Places, blocks
from jxai.evaluate.loop import Tell, work
from jxai.evaluate.store import Run
from jxai.identity.values import described
from jxai.identity.versions import versions
from jxai.scores import one_of
from jxai.typing import Array, Model
from jxai.views.progress import Progress


class Counts(NamedTuple):
    """Of how many examples what is known. `certified + attacked + unknown + failed` are all of them."""

    certified: int
    """No change within the radius changes the class."""
    attacked: int
    """A change that does was found, or none was needed."""
    unknown: int
    """Neither."""
    misclassified: int
    """Those of the attacked ones that needed no change: the model gives x itself another class."""
    failed: int
    """They cannot be read, or are no examples."""


@plainly
def certify(
    f: Model,
    source: Source,
    out: str | Path,
    *,
    radius: float,
    p: float = math.inf,
    clip: tuple[float, float] | None = (0.0, 1.0),
    method: str = "crown",
    options: Mapping[str, Any] | None = None,
    steps: int = 40,
    restarts: int = 2,
    target: str = "label",
    preprocess: Callable | None = None,
    model_name: str = "",
    limit: int | None = None,
    sample: str = "stratified",
    seed: int = 0,
    block: int | None = None,
    batch_size: int | None = None,
    anew: bool = False,
    shared: bool = False,
    devices: Sequence[jax.Device] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Run:
    """Certifies and attacks every example of a data set, and keeps what was found in the folder `out`; `counts` sums it up.

    The same call goes on where a killed one stopped, and several processes share the work, as for `jxai.evaluate.run`.

    Args:
      f: the model. source: the data set. out: the run's folder.
      radius, p, clip: as in `jxai.bounds.ball`. method: of `jxai.bounds.margins`. options: more of its options; rounding is "outward"
        where they do not say.
      steps, restarts: of `jxai.bounds.attack`. target: the class that must not change, the "label" or the one "predicted".
      preprocess, model_name, limit, sample, block, batch_size, anew, shared, devices, on_progress: as in `jxai.evaluate.run`. seed: of the attack's starts.

    Returns:
      The run. Its table has, beside `PER_EXAMPLE`, `margin` and `attack`, the least margin proved and the least found (NaN where it failed),
      and `certified` and `attacked`.

    Raises:
      ValueError: an empty data set, no labels where they are asked for, a bad option, a folder that holds another configuration.
      OSError: it cannot be written. RuntimeError: an example is both certified and attacked, so that the bounds are wrong.
    """
    one_of("target", target, TARGETS)
    places, examples = Places(source, limit, sample, False, seed), Examples(f, source, preprocess, block, batch_size, devices)
    if target == "label" and examples.probe.label[0] == NO_LABEL:
        raise ValueError(f"the examples of {source.name} have no labels, which {target=} asks for")
    bound = tuple(sorted({"rounding": "outward", **(options or {}), "method": method}.items()))
    task = {"radius": radius, "p": p, "clip": clip, "bound": bound, "steps": steps, "restarts": restarts}
    ball(examples.probe.x[0], radius, p, clip)
    _check(f, examples, task)
    config = {
        "seed": seed,
        **examples.describe(places.first(), model_name),
        "certification": {**task, "p": str(p), "clip": None if clip is None else list(clip), "bound": described(dict(bound))},
        **{"target": target, "block": examples.block, "batch_size": batch_size, "keep_maps": False},
        "versions": versions(),
    }
    check = functools.partial(examples.answers, places.chosen)
    with Run.writing(out, config, check, anew=anew, shared=shared or jax.process_count() > 1) as record:
        examples.go_on(record)
        work(record, blocks([places.chosen], examples.block), lambda _, indices, tell: (_block(examples, target, seed, task, indices, tell), {}), on_progress)
    return record


def counts(run: Run) -> Counts:
    """The counts of what a certification run has done so far.

    Raises:
      ValueError: a run of another kind.
    """
    if "certification" not in run.config:
        raise ValueError(f"{run.path} is no certification run")
    table = run.table()
    if not table:
        return Counts(0, 0, 0, 0, 0)
    valid, certified, attacked = (table[name] for name in ("valid", "certified", "attacked"))
    wrong = valid & (table["predicted"] != table["target"])
    return Counts(*(int(part.sum()) for part in (certified, attacked, valid & ~certified & ~attacked, wrong, ~valid)))


def _block(examples: Examples, target: str, seed: int, task: Mapping[str, Any], indices: np.ndarray, tell: Tell) -> dict[str, np.ndarray]:
    batch, predicted, confidence = examples.predict(indices)
    columns = examples.columns(batch, predicted if target == "predicted" else batch.label, predicted, confidence)
    _mark_outside(columns, batch, task["clip"])
    tell("bounds and attack", 0)
    shown = examples.shown(columns["target"])
    proved, found = examples.each(_judge, _judge, batch, {}, jax.random.key(seed), batch.x, shown, **task)
    valid = columns["valid"]
    certified, attacked = valid & (proved > 0), valid & ((found < 0) | (predicted != columns["target"]))
    if (certified & attacked).any():
        row = int(np.argmax(certified & attacked))
        raise RuntimeError(
            f"example {indices[row]} is certified (its margin is at least {proved[row]}) and attacked (it falls to {found[row]}): "
            f"the bounds by {dict(task['bound'])} are wrong for this model"
        )
    shown_margins = {name: np.where(valid, v, np.nan).astype(np.float32) for name, v in (("margin", proved), ("attack", found))}
    return {**columns, **shown_margins, "certified": certified, "attacked": attacked}


def _judge(
    f: Model, x: Array, label: Array, key: Array, *, radius: float, p: float, clip: tuple[float, float] | None, bound: tuple, steps: int, restarts: int
) -> tuple[Array, Array]:
    """The least margin that is proved, and the least that is found."""
    region = ball(x, radius, p, clip)
    return least(margins(f, region, label, **dict(bound)), label), attack(f, region, label, key, steps=steps, restarts=restarts).margin


def _check(f: Model, examples: Examples, task: Mapping[str, Any]) -> None:
    """Traces everything once, so that whatever is wrong is said before any work."""
    arrays, static = partition(f)
    x, label = (jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in ((examples.shape, np.float32), ((), np.int32)))
    traced(lambda arrays, key, x, label: _judge(static.combine(arrays), x, label, key, **task), arrays, jax.random.key(0), x, label)


def _mark_outside(columns: dict[str, np.ndarray], batch: Batch, clip: tuple[float, float] | None) -> None:
    """Marks examples outside of the valid range as failed, whose regions would not be balls around them."""
    if clip is None:
        return
    flat = batch.x.reshape(len(batch.x), -1)
    outside = columns["valid"] & ((flat < clip[0]) | (flat > clip[1])).any(1)
    columns["error"] = np.where(outside, f"its entries must lie in [{clip[0]}, {clip[1]}]", columns["error"])
    columns["valid"] = columns["valid"] & ~outside
