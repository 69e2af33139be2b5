"""The examples of a data set that speak most for each channel: streamed, merged on the device, equal whatever the order."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jxai.callables import plainly
from jxai.concepts.collection import POSITION, VALUE, collect, kept_blocks, told
from jxai.data import Source
from jxai.data.batches import number
from jxai.evaluate import Run
from jxai.scores import positive
from jxai.typing import Array, Model

_NONE = np.iinfo(np.int32).max


class References(NamedTuple):
    """For each channel the examples that speak most for it, strongest first; each field `[C, count]`.

    Attributes:
      index: places in the data set; −1 where fewer examples could be read. value: shares of the sum of magnitudes over channels; NaN there.
      position: where the channel is largest, a place in the layer's map counted row by row; −1 there.
    """

    index: np.ndarray  # type: ignore[assignment]  # a tuple has a method of this name
    value: np.ndarray
    position: np.ndarray


@plainly
def references(
    f: Model, source: Source, layer: int | str | None = None, by: str = "relevance", count: int = 40, *, out: str | Path | None = None, **options: Any
) -> References:
    """The `count` examples of a data set on which each channel of a layer is most relevant for the example's own class (RelMax), or most active (ActMax).

    Of every example the channel's relevances are summed over positions and divided by the sum of magnitudes over all channels, so that an example of a large logit does not
    stand for every channel. Examples are streamed: memory is that of one block and of the references, whatever the size of the data set. Equal values are
    ordered by their place in the data set.

    Args:
      f, source, layer, by: as in `collect`. count: how many for each channel.
      out: a folder in which the run is kept (`collect`): the same call goes on where a killed one stopped, and other counts, means and vectors are read from it. None keeps nothing.
      options: others of `collect`: `reduction`, `target`, `composite`, `limit`, `preprocess` …

    Raises:
      ValueError: as `collect`; `count` below 1, or more than there are examples.

    Cost: a forward and a relevance pass (by activation: a forward pass) for each example.
    Reference: Achtibat et al. 2023, "From attribution maps to human-understandable explanations through Concept Relevance Propagation", Nature Machine Intelligence.
    """
    positive(count=count)
    _check_count(count, number(source, options.get("limit")))
    if out is not None:
        return strongest(collect(f, source, layer, out, by=by, **options), count)
    with tempfile.TemporaryDirectory(prefix="jxai-concepts-") as folder:
        return strongest(collect(f, source, layer, Path(folder) / "run", by=by, **options), count)


@plainly
def strongest(run: Run, count: int = 40) -> References:
    """The references of a run, as far as it is.

    Raises:
      ValueError: a run of another kind, or one without a finished block; `count` below 1, or more than there are examples.
    """
    positive(count=count)
    channels, examples = told(run)["channels"], run.config["data"]["examples"]
    _check_count(count, examples)
    found = ranked(((b["index"], b[VALUE], b[POSITION]) for b in kept_blocks(run)), channels, count)
    if not (found.index >= 0).any():
        raise ValueError(f"{run.path} has no example that counts yet")
    return found


def ranked(blocks: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]], channels: int, count: int) -> References:
    """The `count` largest values of each channel over blocks `(index [n], value [n, C], position [n, C])`, in any order and of any size; equal ones by index."""
    none = jnp.full((channels, count), _NONE, jnp.int32)
    best, width = (jnp.full((channels, count), jnp.inf, jnp.float32), none, none), 0
    for index, value, position in blocks:
        width = max(width, len(index))
        spare = width - len(index)  # blocks of one size are one program
        new = np.pad(-value.T, ((0, 0), (0, spare)), constant_values=np.inf)
        at = np.pad(np.broadcast_to(index, value.T.shape), ((0, 0), (0, spare)), constant_values=_NONE)
        best = _merged(best, (new.astype(np.float32), at.astype(np.int32), np.pad(position.T, ((0, 0), (0, spare))).astype(np.int32)))
    negative, index, position = map(np.asarray, best)
    there = index != _NONE
    return References(np.where(there, index, -1), np.where(there, -negative, np.nan).astype(np.float32), np.where(there, position, -1))


@jax.jit
def _merged(best: tuple[Array, Array, Array], new: tuple[Array, Array, Array]) -> tuple[Array, ...]:
    """The first so many of both, by value and then by index; `jax.lax.top_k` would go by the order of blocks among equal values."""
    joined = [jnp.concatenate(pair, 1) for pair in zip(best, new)]
    return tuple(part[:, : best[0].shape[1]] for part in jax.lax.sort(joined, num_keys=2))


def _check_count(count: int, examples: int) -> None:
    if count > examples:
        raise ValueError(f"{count=} must be at most the number of examples, {examples}")
