"""The loop of a run: a process takes blocks that are not done and that no other one has, and keeps what it computes of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from jxai.evaluate.store import Run
from jxai.views.progress import Progress

_POLL = (0.01, 0.2)
"""Seconds between two looks at blocks that others have: a quarter of what the last block took, within these ends."""

Tell = Callable[[str, float], None]
"""`(what runs, share of the block that is done)`."""


def work(
    record: Run,
    blocks: Sequence[np.ndarray],
    compute: Callable[[int, np.ndarray, Tell], tuple[Mapping[str, np.ndarray], ...]],
    on_progress: Callable[[Progress], None] | None = None,
    is_done: Callable[[int], bool] | None = None,
) -> None:
    """Computes and keeps every block that is not there yet, and stays until all are.

    Processes that share the run each take a block that no living one has: one that dies leaves its block to the others at once, and none is made twice.

    Args:
      record: the run, opened to write. blocks: the places in the data set of each block's examples.
      compute: `(block, places, tell) -> (columns, maps)`, those that a block lacks, or `(columns, maps, pictures)`.
      on_progress: called after every block, and by `tell` within one. is_done: whether a block has all that is asked for; by default whether it is whole.
    """
    is_done = is_done or record.is_done
    missing = [b for b in record.claims.order(len(blocks)) if not is_done(b)]
    total = sum(len(places) for places in blocks)
    done, fresh, start, pause = total - sum(len(blocks[b]) for b in missing), 0, time.monotonic(), min(_POLL)

    def tell(what: str, part: float) -> None:
        if on_progress is not None:
            on_progress(Progress(done + int(part), total, fresh + int(part), time.monotonic() - start, what))

    tell("", 0)
    while missing:
        left = []
        for b in missing:
            if not record.claims.take(b):
                left.append(b)
                continue
            if not is_done(b):  # another process may have made it meanwhile
                began = time.monotonic()
                made = compute(b, blocks[b], lambda what, share, size=len(blocks[b]): tell(what, share * size))
                record.block(b).write(*made)
                pause = float(np.clip((time.monotonic() - began) / 4, *_POLL))
                fresh += len(blocks[b])
            record.claims.give(b)
            done += len(blocks[b])
            tell("", 0)
        if len(left) == len(missing):
            tell("waiting for other processes", 0)
            time.sleep(pause)
        missing = left
