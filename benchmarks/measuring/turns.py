"""Calls within one process that take turns, and what is said of their times."""

from __future__ import annotations

import os
import statistics
import time

CORES = len(os.sched_getaffinity(0))


def now(clock: str) -> float:
    """Seconds on one of the clocks: wall, or processor time shared out over the cores."""
    return time.perf_counter() if clock == "wall" else time.process_time() / CORES


def turns(calls: dict, rounds: int, clock: str) -> dict[object, list[float]]:
    """Seconds of every call, `rounds` times by turns, after a round that does not count."""
    times = {label: [] for label in calls}
    for _ in range(rounds + 1):
        for label, call in calls.items():
            start = now(clock)
            call()
            times[label].append(now(clock) - start)
    return {label: seen[1:] for label, seen in times.items()}


def both(seen: list[float]) -> str:
    """The fastest and the median."""
    return f"{min(seen):.3g} ({statistics.median(seen):.3g})"


def over(seen: list[float], base: list[float]) -> str:
    """How many times as long as others, by the fastest and by the medians."""
    return f"{min(seen) / min(base):.2f} ({statistics.median(seen) / statistics.median(base):.2f})"


def table(head: tuple, rows: list[tuple]) -> str:
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in (head, ("---",) * len(head), *rows))
