"""Uncertainty runs: of every example of data sets every score, from one forward pass where they need no more, and how right the model is."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jxai.callables import fresh, partition, plainly
from jxai.data import Source
from jxai.data.sources import NO_LABEL
from jxai.evaluate.examples import Examples, shown_as, traced
from jxai.evaluate.growth import Places, blocks
from jxai.evaluate.loop import Tell, work
from jxai.evaluate.store import PICTURE
from jxai.evaluate.uncertain.fitting import Fitting, Layer, fitted
from jxai.evaluate.uncertain.names import FIT, FITS, KIND, RIGHT, SCORE, note_left_out
from jxai.evaluate.uncertain.plan import ALL, Given, Task, needed, tasks
from jxai.evaluate.uncertain.result import UncertaintyRun
from jxai.evaluate.uncertain.sets import Sets, refuse_other_shape, shape_of
from jxai.identity.versions import versions
from jxai.scores import wide
from jxai.typing import Array, Model
from jxai.uncertainty.heads import answers, linear_head
from jxai.views.progress import Progress

FIT_LIMIT = 5000
_THUMB = 96
"""Pixels a side of the pictures that are kept."""


@plainly
def uncertainty(
    f: Model,
    source: Source,
    out: str | Path,
    *,
    against: Mapping[str, Source] | None = None,
    scores: Given = ALL,
    strict: bool | None = None,
    fit_on: Source | None = None,
    fit_limit: int | None = FIT_LIMIT,
    label: str = "",
    preprocess: Callable | None = None,
    model_name: str = "",
    limit: int | None = None,
    sample: str = "stratified",
    seed: int = 0,
    block: int | None = None,
    batch_size: int | None = None,
    keep_pictures: bool = True,
    anew: bool = False,
    shared: bool = False,
    devices: Sequence[jax.Device] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> UncertaintyRun:
    """Asks how unsure a model is of every example of a data set and of others, and keeps the answers in the folder `out`; `jxai.evaluate.report` says what they tell.

    The same call goes on where a killed one stopped, and several processes share the work, as for `jxai.evaluate.run`. All scores that read logits and features
    share one forward pass. What must be fitted is fitted on `fit_on` first, in blocks of its own (`out/fit`), and kept (`out/fits`).

    Args:
      f: the model, `x -> logits [K]`, K >= 2. source: the data set that it is made for. out: the run's folder.
      against: by label, other data sets, of the same shape of x: out of distribution, or shifted (`jxai.data.corrupted`). Where one has the classes of `source`, it is told how right the model is on it, too.
      scores: `"all"` of `jxai.uncertainty` that can be had of this model, those left out with the reason in `out/left_out.json`; names; or labels with a score and, where
        it has any, options of it and of its `fit_NAME`: `{"knn_10": (uncertainty.knn, {"num_neighbours": 10})}`.
      strict: whether a score that cannot be had is an error; False leaves it out as `"all"` does, None is False of `"all"` alone.
      fit_on: labelled examples, as a rule those that the model was trained on; None leaves out what must be fitted. fit_limit: how many at most, of every class its share; None takes all.
      label: of `source` in tables; by default its name.
      preprocess, model_name, limit, sample, seed, block, batch_size, anew, shared, devices, on_progress: as in `jxai.evaluate.run`, limit and sample of each data set.
      keep_pictures: whether to keep images, at most 96 pixels a side, for a report to show the most and the least certain.

    Returns:
      The run, which a notebook shows by its numbers in short. Its table has, beside `PER_EXAMPLE`, `set` (the number of the data set: 0 is `source`), `log_likelihood` (of the label, NaN without one), `brier`, and
      `uncertainty/LABEL` for each score; `index` counts through all data sets.

    Raises:
      ValueError: an empty data set, examples of another shape, an unknown score or option, a score that this model cannot have or that needs `fit_on`, a folder that
        holds another configuration. OSError: it cannot be written.
    """
    first = label or source.name
    planned, optional = tasks(scores), scores == ALL if strict is None else not strict
    sets = Sets({first: source, **_against(against, first)}, limit, sample, seed)
    sets.check(preprocess)
    places, examples = Places(sets, None, "first", False, seed), Examples(f, sets, preprocess, block, batch_size, devices)
    if examples.classes < 2:
        raise ValueError("f(x) must be two logits or more: of one nothing is uncertain here (stack it with 0)")
    planned, left_out = _possible(examples, planned, optional, fit_on is not None)
    layers: list[Layer] = list(dict.fromkeys(task.layer for task in planned.values() if task.needs_fit))
    shared = shared or jax.process_count() > 1
    options = dict(preprocess=preprocess, seed=seed, block=block, batch_size=batch_size, devices=devices)
    fitting = None
    if fit_on is not None and layers:
        refuse_other_shape(fit_on.name, shape_of(fit_on, preprocess), first, examples.shape)
        fitting = Fitting(f, fit_on, fit_limit, layers, **options)
    config = {
        "seed": seed,
        **examples.describe(places.first(), model_name),
        KIND: {
            "sets": sets.describe(),
            "scores": {name: task.describe() for name, task in planned.items()},
            "fit_on": None if fitting is None else fitting.describe(),
        },
        **{"block": examples.block, "batch_size": batch_size, "keep_maps": keep_pictures, "versions": versions()},
    }
    check = functools.partial(examples.answers, places.chosen)
    with UncertaintyRun.writing(out, config, check, anew=anew, shared=shared) as record:
        examples.go_on(record)
        found = {} if fitting is None else fitting.answers(record.path / FIT, model_name, shared=shared, on_progress=on_progress)
        with record.claims.alone():
            judge = _Judge(examples, sets, planned, found, record.path / FITS, seed, optional)
            note_left_out(record.path, left_out | judge.left_out)
        done = functools.partial(record.is_done, names=[SCORE + name for name in judge.planned])
        work(record, blocks([places.chosen], examples.block), lambda _, indices, tell: judge.block(indices, tell), on_progress, done)
    return record


class _Shared(NamedTuple):
    """A score of the shared pass: all of it is static."""

    label: str
    formula: Callable
    reads_features: bool
    layer: Layer
    options: tuple


class _Judge:
    """What is computed of a block."""

    def __init__(self, examples: Examples, sets: Sets, planned: Mapping[str, Task], found: Mapping[str, np.ndarray], path: Path, seed: int, optional: bool):
        self.examples, self.sets, self.seed, self.left_out = examples, sets, seed, {}
        self.planned, self.fitted = dict(planned), {}
        head = linear_head(examples.f, examples.probe.x[0]) if any(_wants_head(task) for task in planned.values()) else None
        for name, task in planned.items():
            try:
                given = task.options.get("fitted")
                made = fitted(task, found, head, path, task.key(seed)) if task.needs_fit else head if task.head and given is None else given
                _trace(examples, task, made, seed)
            except ValueError as error:
                if not optional:
                    raise ValueError(str(error) if str(error).startswith(f"{name}:") else f"{name}: {error}") from None
                self.left_out[name] = str(error)
                del self.planned[name]
                continue
            self.fitted[name] = made
        if not self.planned:
            raise ValueError("no score can be had: " + "; ".join(f"{name}: {why}" for name, why in self.left_out.items()))
        own = {name: task for name, task in self.planned.items() if task.formula is not None}
        self.plan = tuple(_Shared(name, t.formula, t.reads_features, t.layer, tuple(sorted(_plain(t).items()))) for name, t in own.items())
        self.apart = {name: task for name, task in self.planned.items() if task.formula is None}

    def block(self, indices: np.ndarray, tell: Tell) -> tuple[dict[str, np.ndarray], ...]:
        batch = self.examples.load(indices)
        tell("forward passes", 0)
        shared = {name: self.fitted[name] for name in (one.label for one in self.plan)}
        found = self.examples.each(_judge, _judge, batch, {}, None, batch.x, self.examples.shown(batch.label), fitted=shared, plan=self.plan)
        scores = found.pop("scores")
        for n, (name, task) in enumerate(self.apart.items()):
            tell(name, (n + 1) / (len(self.apart) + 1))
            options = _plain(task) | ({} if self.fitted[name] is None else {"fitted": self.fitted[name]})
            scores[name] = self.examples.each(task.score, task.score, batch, {}, task.key(self.seed), batch.x, **options)
        predicted = found["predicted"].astype(np.int32)
        unlabelled = batch.label == NO_LABEL
        table = self.examples.columns(batch, np.where(unlabelled, predicted, batch.label), predicted, found["confidence"])
        table["set"] = self.sets.number(batch.index)
        numbers = {name: np.where(unlabelled, np.nan, found[name]) for name in RIGHT} | {SCORE + name: scores[name] for name in self.planned}
        table |= {name: np.where(table["valid"], value, np.nan).astype(np.float32) for name, value in numbers.items()}
        return table, {}, {PICTURE: _thumbs(batch.x)}


def _judge(f: Model, x: Array, label: Array, *, fitted: Mapping[str, Any], plan: tuple[_Shared, ...]) -> dict[str, Any]:
    """Every score of the shared pass, and what is told of the model's answer."""
    found = {layer: answers(f, x, layer) for layer in dict.fromkeys(one.layer for one in plan if one.reads_features)}
    logits = next(iter(found.values())).logits if found else wide(fresh(f)(x))
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
    p, own = jnp.exp(log_p), log_p[label]
    scores = {}
    for one in plan:
        arrays = found[one.layer] if one.reads_features else (logits, None)
        scores[one.label] = one.formula(*arrays, fitted[one.label], **dict(one.options))
    brier = ((p - jax.nn.one_hot(label, p.size)) ** 2).sum()
    return {"predicted": logits.argmax(), "confidence": p.max(), "log_likelihood": own, "brier": brier, "scores": scores}


def _against(against: Mapping[str, Source] | None, first: str) -> dict[str, Source]:
    if against is not None and (not isinstance(against, Mapping) or not all(isinstance(label, str) for label in against)):
        raise ValueError("against must name other data sets: {label: source}")
    if first in (against or {}):
        raise ValueError(f"against names {first!r}, which is the data set itself: give it another label")
    return dict(against or {})


def _possible(examples: Examples, planned: Mapping[str, Task], optional: bool, fits: bool) -> tuple[dict[str, Task], dict[str, str]]:
    """The scores that this model can have, and why others cannot; ValueError for one that was named."""
    x, found, wrong = examples.probe.x[0], {}, {}
    for name, task in planned.items():
        why = ""
        if missing := needed(task):
            why = f"it needs the option {', '.join(missing)}"
        elif task.needs_fit and not fits:
            why = "it is fitted, and no examples are named to fit it on (fit_on, --fit-on)"
        elif task.formula is not None and (task.reads_features or task.head):
            try:
                traced(functools.partial(answers, layer=task.layer), examples.f, x)
            except ValueError as error:
                why = str(error)
        if why and not optional:
            raise ValueError(f"{name}: {why}")
        if why:
            wrong[name] = why
        else:
            found[name] = task
    if not found:
        raise ValueError("no score can be had: " + "; ".join(f"{name}: {why}" for name, why in wrong.items()))
    return found, wrong


def _trace(examples: Examples, task: Task, made: Any, seed: int) -> None:
    """Traces a score once, so that whatever is wrong is said before any work; of the shared pass it is traced with what was fitted."""
    arrays, static = partition((examples.f, made))
    layer = {} if task.layer is None else {"layer": task.layer}

    def score(arrays, key, x):
        f, made = static.combine(arrays)
        return task.score(f, x, key, **({} if made is None else {"fitted": made}), **layer, **_plain(task))

    out = traced(score, arrays, task.key(seed), jax.ShapeDtypeStruct(examples.shape, np.float32), label=task.label)
    if getattr(out, "shape", None) != ():
        raise ValueError(f"{task.label}: a score must return one number, got {getattr(out, 'shape', type(out).__name__)}")


def _plain(task: Task) -> dict[str, Any]:
    return {name: value for name, value in task.options.items() if name != "fitted"}


def _wants_head(task: Task) -> bool:
    return task.head or (task.needs_fit and task.layer is None)


def _thumbs(x: np.ndarray) -> np.ndarray:
    """The examples as they can be looked at, images no larger than need be: means over squares of pixels."""
    shown = shown_as(x)
    if shown.ndim != 4 or (side := -(-max(shown.shape[1:3]) // _THUMB)) == 1:
        return shown
    n, height, width, channels = shown.shape
    height, width = max(1, height // side), max(1, width // side)
    cut = shown[:, : height * side, : width * side].astype(np.float32)
    sized = (n, height, cut.shape[1] // height, width, cut.shape[2] // width, channels)
    return np.rint(cut.reshape(sized).mean((2, 4))).astype(np.uint8)
