"""What both benchmarks do: workers that take turns, passes at the best batch size, and times on one of two clocks."""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

from benchmarks.measuring.measure import Worker

CLOCKS = ("wall", "processor")


class Turns:
    """The workers of one run and the batch sizes that they are best at. `backends` says what works for each library."""

    def __init__(self, backends: dict[str, str], rounds: int, clock: str, environment: dict[str, str]):
        self.backends, self.environment = backends, environment
        self.rounds, self.clock = rounds, CLOCKS.index(clock)
        self.workers, self.best = {}, {}
        for library in backends:
            say(f"starting {library}")
            self.workers[library] = self.start(library)

    def start(self, library: str) -> Worker:
        return Worker(library, self.backends[library], self.environment)

    def close(self) -> None:
        for worker in self.workers.values():
            worker.close()

    def find_best_batches(self, batches, seconds: float) -> dict:
        """Seconds of one pass by library, kind and batch size, in turns; remembers the fastest batch size of each."""
        floors = {library: {kind: {} for kind in ("forward", "backward")} for library in self.workers}
        for kind in ("forward", "backward"):
            for batch in batches:
                for library, worker in self.workers.items():
                    floors[library][kind][batch] = worker.ask(ask="floor", batch=batch, backward=kind == "backward", seconds=seconds)[self.clock]
        for library, kinds in floors.items():
            self.best[library] = {kind: min(times, key=times.get) for kind, times in kinds.items()}
        return floors

    def alternate(self, ids: dict[str, str], kinds: list[str]) -> tuple[dict[str, list], dict[str, float]]:
        """Rounds of calls in turns: wall and processor seconds of every call by key, and the fastest pass of ours by kind.

        Args:
          ids: the library that makes each call, by the call's id: one call in every round, three where it is short.
          kinds: of passes, "forward" or "backward".
        """
        times, floors, us = {id: [] for id in ids}, {kind: [] for kind in kinds}, self.workers["jxai"]
        for turn in range(self.rounds):
            for kind, seen in floors.items():
                batch = self.best["jxai"][kind]
                seen.append(us.ask(ask="floor", batch=batch, backward=kind == "backward", seconds=0.3)[self.clock])
            for id, seen in times.items():
                seen.append(self.workers[ids[id]].ask(ask="again", id=id, seed=turn))
                for _ in range(2 if seen[-1][0] < 0.5 else 0):  # short calls are noisier
                    seen.append(self.workers[ids[id]].ask(ask="again", id=id, seed=turn))
        return times, {kind: min(seen) for kind, seen in floors.items()}

    def summary(self, seen: list, count: int = 1) -> dict:
        """The fastest and the median call on both clocks, in seconds for each of `count`; `seconds` and `median` on the chosen clock."""
        result = {clock: {"fastest": min(each) / count, "median": statistics.median(each) / count} for clock, each in zip(CLOCKS, zip(*seen))}
        result["seconds"], result["median"] = result[CLOCKS[self.clock]].values()
        return result


def add_options(parser: argparse.ArgumentParser, rounds: tuple[int, int], few: str) -> None:
    """What all benchmarks beside peers can be told; `rounds`: usually, and with `--quick`, which takes few of what `few` says."""
    usual, quick = rounds
    parser.add_argument("--rounds", type=int, default=None, help=f"alternating calls of every library ({usual}; with --quick {quick})")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="what times are: wall, or processor time shared out over the cores")
    parser.add_argument("--memory", action=argparse.BooleanOptionalAction, default=None, help="measure peak memory (yes; with --quick no)")
    parser.add_argument("--quick", action="store_true", help=f"few {few}, for a check")
    parser.add_argument("--out", type=Path, help="writes OUT.json and OUT.md")
    parser.set_defaults(choices={"rounds": rounds, "memory": (True, False)})


def settled(arguments: argparse.Namespace, **choices: tuple) -> argparse.Namespace:
    """The arguments, with what was left open as is usual, or as `--quick` has it: `name=(usual, quick)` beside those of `add_options`."""
    for name, (usual, quick) in {**arguments.choices, **choices}.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, quick if arguments.quick else usual)
    del arguments.choices
    return arguments


def names(known):
    """An argument type: names of `known` with commas between."""

    def parse(text: str) -> list[str]:
        found = [name for name in text.split(",") if name]
        if unknown := [name for name in found if name not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(known)}")
        return found

    return parse


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
