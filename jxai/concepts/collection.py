"""Runs that keep what every channel of a layer did for every example of a data set."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jxai.callables import partition, plainly
from jxai.concepts.channels import REDUCTIONS, by_channel, shares, sizes
from jxai.data import Source
from jxai.data.sources import NO_LABEL
from jxai.evaluate import Run
from jxai.evaluate.evaluation import TARGETS
from jxai.evaluate.examples import Examples, traced
from jxai.evaluate.growth import Places, blocks
from jxai.evaluate.loop import Tell, work
from jxai.identity.values import described
from jxai.identity.versions import versions
from jxai.relevance import Composite, propagate
from jxai.scores import one_of
from jxai.tracing import taps
from jxai.typing import Array, Model
from jxai.views.progress import Progress

BY = ("relevance", "activation")
VALUE, POSITION = "channel/value", "channel/position"
"""Columns of such a run, `[n, C]`: shares, and where a channel is largest."""


class Vectors(NamedTuple):
    """What every channel did for n examples, those that count."""

    value: np.ndarray
    """`[n, C]`: shares of the sum of magnitudes over channels."""
    target: np.ndarray
    """`[n]`: the class that was explained."""
    index: np.ndarray  # type: ignore[assignment]  # a tuple has a method of this name
    """`[n]`: places in the data set."""


@plainly
def collect(
    f: Model,
    source: Source,
    layer: int | str | None,
    out: str | Path,
    *,
    by: str = "relevance",
    reduction: str = "sum",
    target: str = "label",
    composite: str | Composite = "epsilon_plus_flat",
    options: Mapping[str, Any] | None = None,
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
    """Computes what every channel of a layer does for every example of a data set, and keeps it in the folder `out`.

    The same call goes on where a killed one stopped, and several processes share the work, as for `jxai.evaluate.run`: what is in the folder does not depend, to the bit, on blocks,
    interruptions or the number of processes. `strongest`, `class_means` and `vectors` read it.

    Args:
      f: the model. source: the data set. layer: which, as `jxai.taps.find` takes it. out: the run's folder.
      by: `"relevance"` of the channel for the class, or its `"activation"`.
      reduction: over positions, `"sum"` or `"max"`.
      target: the class that is explained, the example's `"label"` or the one `"predicted"`; `class_means` groups by it.
      composite: a name or a `jxai.relevance.Composite`. options: others of `jxai.relevance.propagate`. Both say nothing by activation.
      preprocess, model_name, limit, sample, seed, block, batch_size, anew, shared, devices, on_progress: as in `jxai.evaluate.run`.

    Returns:
      The run. Its table has, beside `PER_EXAMPLE`, `channel/value` `[n, C]`, shares `v_c / (Σ_c |v_c| + 1e-10)` of the channels' sums (or maxima) over positions, and
      `channel/position` `[n, C]`, where a channel is largest: a place in the layer's map, row by row.

    Raises:
      ValueError: an empty data set, no labels where they are asked for, no such layer, an unknown option, a folder that holds another configuration.
      OSError: it cannot be written.
    """
    one_of("by", by, BY)
    one_of("reduction", reduction, REDUCTIONS)
    one_of("target", target, TARGETS)
    places, examples = Places(source, limit, sample, False, seed), Examples(f, source, preprocess, block, batch_size, devices)
    if target == "label" and examples.probe.label[0] == NO_LABEL:
        raise ValueError(f"the examples of {source.name} have no labels, which {target=} asks for; target='predicted' needs none")
    found = taps.find(f, examples.probe.x[0], layer)
    task: dict[str, Any] = {"layer": found.index if layer is None else layer, "by": by, "reduction": reduction}
    if "composite" in (options or {}):
        raise ValueError(f"options={dict(options or {})} must not name composite, which is an option of its own: {composite=}")
    if by == "relevance":
        task |= {"composite": composite, **(options or {})}
    elif options:
        raise ValueError(f"by='activation' propagates nothing, but options={dict(options)} are of a propagation")
    _check(f, examples, task)
    (shape, channels), axes = sizes(found), [] if found.grid is None else list(found.grid.axes)
    config = {
        "seed": seed,
        **examples.describe(places.first(), model_name),
        "concepts": {**described(task), "layer": str(found), "axes": axes, "map": list(shape), "channels": channels, "classes": examples.classes},
        **{"target": target, "block": examples.block, "batch_size": batch_size, "keep_maps": False},
        "versions": versions(),
    }
    check = functools.partial(examples.answers, places.chosen)
    with Run.writing(out, config, check, anew=anew, shared=shared or jax.process_count() > 1) as record:
        examples.go_on(record)
        work(record, blocks([places.chosen], examples.block), lambda _, indices, tell: (_block(examples, target, task, indices, tell), {}), on_progress)
    return record


@plainly
def vectors(run: Run) -> Vectors:
    """The channel vectors of all examples of a run that count, in the order of the data set: what prototypes and clusters are made of.

    Raises:
      ValueError: a run of another kind.
    """
    told(run)
    table = run.table()
    keep = table["valid"]
    return Vectors(table[VALUE][keep], table["target"][keep], table["index"][keep])


def kept_blocks(run: Run) -> Iterator[dict[str, np.ndarray]]:
    """The columns of each of a run's blocks, one at a time, without examples that do not count; ValueError for a run of another kind."""
    told(run)
    for columns in run.blocks():
        keep = columns["valid"]
        yield {name: columns[name][keep] for name in ("index", "target", VALUE, POSITION)}


def told(run: Run) -> dict[str, Any]:
    """What a run's record says of its layer; ValueError for a run of another kind."""
    if "concepts" not in run.config:
        raise ValueError(f"{run.path} is no run of concepts")
    return run.config["concepts"]


def _block(examples: Examples, target: str, task: Mapping[str, Any], indices: np.ndarray, tell: Tell) -> dict[str, np.ndarray]:
    batch, predicted, confidence = examples.predict(indices)
    columns = examples.columns(batch, batch.label if target == "label" else predicted, predicted, confidence)
    tell(task["by"], 0)
    value, position = examples.each(_channels, _channels, batch, {}, None, batch.x, examples.shown(columns["target"]), **task)
    finite = np.isfinite(value).all(1)
    lost = columns["valid"] & ~finite
    columns["error"] = np.where(lost, f"its {task['by']} at the layer is not finite", columns["error"])
    columns["valid"] = columns["valid"] & finite
    keep = columns["valid"][:, None]
    return {**columns, VALUE: np.where(keep, value, np.nan).astype(np.float32), POSITION: np.where(keep, position, -1).astype(np.int32)}


def _channels(f: Model, x: Array, target: Array, *, layer: int | str, by: str, reduction: str, **options: Any) -> tuple[Array, Array]:
    """Shares by channel, and where each is largest."""
    if by == "activation":
        found, value, _ = taps.split(f, x, layer)
    else:
        found = taps.find(f, x, layer)
        value = propagate(f, x, target, at=(layer,), **options).at[layer]
    one = by_channel(value, found, reduction)
    return shares(one.value), one.position


def _check(f: Model, examples: Examples, task: Mapping[str, Any]) -> None:
    """Traces everything once, so that whatever is wrong is said before any work."""
    arrays, static = partition(f)
    x, target = (jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in ((examples.shape, jnp.float32), ((), jnp.int32)))
    traced(lambda arrays, x, target: _channels(static.combine(arrays), x, target, **task), arrays, x, target)
