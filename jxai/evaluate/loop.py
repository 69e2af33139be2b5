"""The loop of a run: each process takes its share of the blocks that are not done, and keeps what it computes of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from jxai.evaluate.store import Run

_PATIENCE = 60.0
"""Seconds without a new block after which the first process takes over from others, at least."""

Tell = Callable[[str, float], None]
"""`(what runs, share of the block that is done)`."""


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
    """What runs."""


def work(
    record: Run,
    blocks: Sequence[np.ndarray],
    compute: Callable[[np.ndarray, Tell], tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]],
    on_progress: Callable[[Progress], None] | None = None,
) -> None:
    """Computes and keeps every block that is not there yet; under `jax.distributed` this process's share, and the first stays for all.

    Args:
      record: the run. blocks: the places in the data set of each block's examples.
      compute: `(places, tell) -> (columns, maps)` of a block. on_progress: called after every block, and by `tell` within one.
    """
    mine = range(jax.process_index(), len(blocks), jax.process_count())
    done = {b for b in mine if record.is_done(b)}
    total, before = sum(len(blocks[b]) for b in mine), sum(len(blocks[b]) for b in done)
    fresh, start = 0, time.monotonic()

    def tell(what: str, part: float) -> None:
        if on_progress is not None:
            on_progress(Progress(before + fresh + int(part), total, fresh + int(part), time.monotonic() - start, what))

    def one(b: int) -> None:
        columns, maps = compute(blocks[b], lambda what, share: tell(what, share * len(blocks[b])))
        record.write(b, columns, maps)

    tell("", 0)
    for b in mine:
        if b not in done:
            if not record.is_done(b):  # the first process may have taken it over meanwhile
                one(b)
            fresh += len(blocks[b])
            tell("", 0)
    if jax.process_count() > 1 and jax.process_index() == 0:
        pace = (time.monotonic() - start) / max(1, len(mine) - len(done))
        _await_others(record, len(blocks), max(_PATIENCE, 3 * pace), one, lambda: tell("waiting for other processes", 0))


def _await_others(record: Run, count: int, patience: float, one: Callable[[int], None], tell: Callable[[], None]) -> None:
    """Stays until all blocks are there, since the other processes end with the first; takes over when nothing has come for long."""
    missing, last = list(range(count)), time.monotonic()
    while missing:
        still = [b for b in missing if not record.is_done(b)]
        if len(still) < len(missing):
            missing, last = still, time.monotonic()
        elif time.monotonic() - last > patience:
            one(missing[-1])  # from the end: a live process takes its own in order
        else:
            tell()
            time.sleep(min(1.0, patience / 10))
