"""Counterfactual runs: what every example of a data set would have to become for the model to say something else."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jxai import counterfactual
from jxai.callables import fresh, partition, plainly
from jxai.counterfactual.search import begin
from jxai.data import Source
from jxai.evaluate.examples import Examples, traced
from jxai.evaluate.growth import Places, blocks
from jxai.evaluate.loop import Tell, work
from jxai.evaluate.store import Run
from jxai.identity.values import described, summed
from jxai.identity.versions import versions
from jxai.typing import Model
from jxai.views.progress import Progress

TARGETS = ("second", "all", "none")


class Found(NamedTuple):
    """Of a counterfactual run, so far."""

    examples: int
    failed: int
    """Examples that cannot be read, or are none."""
    searches: int
    """Searches on the others, without those whose example was of the target class as it is."""
    valid: int
    """Of these, those that reached their target."""
    steps: float
    """Their mean number of steps."""


@plainly
def counterfactuals(
    f: Model,
    source: Source,
    out: str | Path,
    *,
    method: str,
    options: Mapping[str, Any] | None = None,
    target: str | int = "second",
    preprocess: Callable | None = None,
    model_name: str = "",
    generator_name: str = "",
    limit: int | None = None,
    sample: str = "stratified",
    seed: int = 0,
    block: int = 100,
    lanes: int | None = None,
    anew: bool = False,
    shared: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> Run:
    """Searches counterfactuals of every example of a data set, and keeps them in the folder `out`; `found` sums it up.

    The same call goes on where a killed one stopped, and several processes share the work, as for `jxai.evaluate.run`.

    Args:
      f: the model. source: the data set. out: the run's folder.
      method: a name of `jxai.counterfactual.METHODS`. options: of it, `generator` and all.
      target: a class; "second", the one that the model gives the second highest logit; "all", one search for each class but the predicted one; or "none", for
        methods that search for certainty and not for a class (CLUE).
      preprocess, model_name, limit, sample, anew, shared, on_progress: as in `jxai.evaluate.run`. generator_name: for the record. seed: of the searches' draws.
      block: examples that are searched and written together. lanes: searches at once, see `jxai.counterfactual.run`.

    Returns:
      The run. Its table has, beside `PER_EXAMPLE`, for each of m targets of an example `to` (the class; without a target the one predicted there), `reached`,
      `steps`, `probability` (of the class, there), `l0` and `l1` `[n, m]`; its maps are the counterfactuals, `run.maps("counterfactual")`, `[m, *shape of x]`.
      A method that finds sets of k has m · k columns.

    Raises:
      ValueError: an empty data set, an unknown method, a bad option or target, a folder that holds another configuration.
      OSError: it cannot be written.
    """
    search = searched(method, options)
    places, examples = Places(source, limit, sample, False, seed), Examples(f, source, preprocess, block)
    _check_target(target, examples.classes)
    _check(search, f, examples, target)
    config = {
        "seed": seed,
        **examples.describe(places.first(), model_name),
        "counterfactual": {"method": method, "options": {k: _described(v) for k, v in sorted(_complete(method, options).items())}, "generator": generator_name},
        **{"target": target, "block": block, "keep_maps": True, "versions": versions()},
    }
    check = functools.partial(examples.answers, places.chosen)
    with Run.writing(out, config, check, anew=anew, shared=shared or jax.process_count() > 1) as record:
        examples.go_on(record)
        key = jax.random.key(seed)
        work(record, blocks([places.chosen], examples.block), lambda _, indices, tell: _block(examples, search, target, key, lanes, indices, tell), on_progress)
    return record


def searched(method: str, options: Mapping[str, Any] | None) -> counterfactual.Search:
    """The search of a method by its name; ValueError for an unknown one, or bad options."""
    if method not in counterfactual.METHODS:
        raise ValueError(f"unknown method {method!r}; known: {', '.join(counterfactual.METHODS)}")
    try:
        return getattr(counterfactual, method).search(**(options or {}))
    except TypeError as error:
        needed = [name for name, p in inspect.signature(getattr(counterfactual, method).search).parameters.items() if p.default is p.empty]
        missing = [name for name in needed if name not in (options or {})]
        raise ValueError(f"{method} needs the option {', '.join(missing)}" if missing else f"{method}: {error}") from None


def found(run: Run) -> Found:
    """What a counterfactual run has found so far.

    Raises:
      ValueError: a run of another kind.
    """
    if "counterfactual" not in run.config:
        raise ValueError(f"{run.path} is no run of counterfactuals")
    table = run.table()
    if not table:
        return Found(0, 0, 0, 0, float("nan"))
    same = (table["to"] == table["predicted"][:, None]) & (run.config["target"] != "none")
    tried = table["valid"][:, None] & ~same
    steps = float(table["steps"][tried].mean()) if tried.any() else float("nan")
    return Found(len(tried), int((~table["valid"]).sum()), int(tried.sum()), int(table["reached"][tried].sum()), steps)


def _block(
    examples: Examples, search: counterfactual.Search, target: str | int, key: jax.Array, lanes: int | None, indices: np.ndarray, tell: Tell
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    batch, predicted, confidence = examples.predict(indices)
    columns = examples.columns(batch, predicted, predicted, confidence)
    wanted = _targets(examples, batch.x, predicted, target)
    m = 1 if wanted is None else wanted.shape[1]
    places = batch.index[:, None] * m + np.arange(m)
    told = lambda progress: tell("searching", progress.done / progress.total)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\d+ of \d+ searches are for the class")  # `found` leaves them out
        got = counterfactual.run(search, examples.f, batch.x, wanted, key, index=places, batch_size=lanes, on_progress=told)
    flat = columns_of(got, batch.x, wanted)
    p = np.take_along_axis(np.asarray(jax.nn.softmax(flat.logits)), flat.to[..., None], -1)[..., 0]
    change = (flat.x - batch.x[:, None]).reshape(*flat.to.shape, -1)
    keep = columns["valid"][:, None]
    numbers = {"probability": p, "l0": (np.abs(change) > 1e-5).sum(-1), "l1": np.abs(change).sum(-1)}
    columns |= {name: np.where(keep, v, np.nan).astype(np.float32) for name, v in numbers.items()}
    columns |= {"to": flat.to, "reached": flat.valid & keep, "steps": flat.steps}
    return columns, {"counterfactual": flat.x}


class Columns(NamedTuple):
    """Counterfactuals of n examples side by side: of every target, and of a set every one."""

    x: np.ndarray
    """`[n, c, *shape]`."""
    logits: np.ndarray
    """`[n, c, K]`."""
    valid: np.ndarray
    steps: np.ndarray
    to: np.ndarray
    """`[n, c]`: the classes that were searched for; without a target the one that is predicted there."""


def columns_of(found: counterfactual.Counterfactual, x: np.ndarray, target: np.ndarray | None) -> Columns:
    """What `jxai.counterfactual.run` found for x `[n, *shape]` and targets `[n, m]` (or none), sets laid flat."""
    n, m = len(x), 1 if target is None else target.shape[1]
    logits = found.logits.reshape(n, -1, found.logits.shape[-1])
    size = logits.shape[1] // m
    to = logits.argmax(-1) if target is None else np.repeat(target, size, 1)
    steps = np.repeat(found.steps.reshape(n, -1), size, 1)
    return Columns(found.x.reshape(n, -1, *x.shape[1:]), logits, found.valid.reshape(n, -1), steps, to.astype(np.int32))


def _targets(examples: Examples, x: np.ndarray, predicted: np.ndarray, target: str | int) -> np.ndarray | None:
    """`[n, m]`: the classes that are searched for; None without."""
    if target == "none":
        return None
    if isinstance(target, int):
        return np.full((len(x), 1), target)
    if target == "all":
        others = np.arange(examples.classes - 1)
        return others + (others >= predicted[:, None])
    logits = np.array(jax.jit(jax.vmap(fresh(examples.f)))(x))
    logits[np.arange(len(x)), predicted] = -np.inf
    return logits.argmax(1)[:, None]


def _check_target(target: str | int, classes: int) -> None:
    if isinstance(target, int):
        if not 0 <= target < classes:
            raise ValueError(f"{target=} must be a class in [0, {classes})")
    elif target not in TARGETS:
        raise ValueError(f"{target=} must be a class or one of {', '.join(map(repr, TARGETS))}")
    if classes < 2:
        raise ValueError("f(x) must have two classes or more for there to be another")


def _check(search: counterfactual.Search, f: Model, examples: Examples, target: str | int) -> None:
    """Traces everything once, so that whatever is wrong is said before any work."""
    arrays, static = partition((f, search))

    def first(arrays, key, x, label):
        f, search = static.combine(arrays)
        return begin(search, f, x, label, key)

    x, label = jax.ShapeDtypeStruct(examples.shape, np.float32), None if target == "none" else jax.ShapeDtypeStruct((), np.int32)
    traced(first, arrays, jax.random.key(0), x, label)


def _complete(method: str, options: Mapping[str, Any] | None) -> dict[str, Any]:
    """The options with the defaults of those that are not given."""
    parameters = inspect.signature(getattr(counterfactual, method).search).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty} | dict(options or {})


def _described(value: Any) -> Any:
    """An option for the record: a number or a name as it is, a generator by what it is made of and a digest of its weights."""
    found = summed(value)
    return found if isinstance(found["made_of"], dict) else described(value)
