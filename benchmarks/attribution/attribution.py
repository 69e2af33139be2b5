"""Every attribution method beside Captum, shap, Xplique, zennit and pytorch-grad-cam: EfficientNet-Lite0, the same weights, images and passes.

    python benchmarks/attribution/attribution.py --out out/attribution      # about 12 minutes on 2 quiet cores
    python benchmarks/attribution/attribution.py --quick                    # about 2 minutes, few passes, no memory
    python benchmarks/attribution/attribution.py --methods rise,sobol --passes-scale 4
    OMP_WAIT_POLICY=PASSIVE python benchmarks/attribution/attribution.py --clock processor      # on a machine that others use, too

Needs the extra `bench`. Each library works in a process of its own while the others sleep; calls alternate (jxai, peer, peer, jxai …),
and the fastest and the median of each are kept. Peers run at the batch size that was fastest for them, on convolutions with batch norm
folded in, channels last in memory; Xplique runs twice, on a Keras model and on the PyTorch model through its wrapper. Ours run compiled
with their default `chunk`. Relevance is propagated on the same network, for Captum, which knows no skip connections, on LeNet-5. One-pass methods explain 8 images in one call, the others one.

Columns: passes of a forward and of a forward-and-backward kind for one image; s/image (fastest); peer/ours (above 1: ours is faster);
over the floor: time divided by the passes times the cost of one pass at the best batch size, measured between the same calls; the first
call in a fresh process with an empty and with a filled compilation cache; peak memory at N and 4 N masks, the growth of the process in
MiB, and the scratch that the compiled program declares; agreement: Spearman's ρ and the largest difference over the largest value. Where
both draw at random, ρ stands beside the ρ of ours with another key, which is what chance allows.

Wanted on 2 quiet cores: peer/ours ≥ 1 everywhere, ≥ 1.5 for Captum and ≥ 3 for Xplique on methods that only need forward passes, over the
floor ≤ 1.15 for perturbation methods, flat memory, ρ = 1 wherever the convention is the same.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from benchmarks.attribution.methods import Row, rows
from benchmarks.measuring import report
from benchmarks.measuring.bench import Turns, add_options, names, say, settled
from benchmarks.measuring.measure import BACKENDS

BATCHES = (1, 4, 8, 16, 32)


class Bench(Turns):
    """One run: its workers, and the folder where maps and caches lie."""

    def __init__(self, peers: list[str], rounds: int, clock: str, folder: Path):
        self.folder = folder
        backends = {library: BACKENDS[library] for library in ["jxai", *peers]}
        super().__init__(backends, rounds, clock, {"JXAI_BENCHMARK_CACHE": str(folder / "cache")})

    def batch(self, library: str, row: Row) -> int:
        return max(row.images, self.best[library]["backward" if row.backward else "forward"])

    def run(self, row: Row) -> dict:
        """One row: first calls, then rounds of alternating calls, then the agreement of the maps."""
        ours = {"name": row.ours_is, "images": row.images, "options": row.ours}
        result = {"method": row.name, "images": row.images, "forward": row.forward, "backward": row.backward, "options": row.ours}
        us = self.workers["jxai"]
        result["first_cold"] = us.ask(ask="first", id="jxai", batch=0, out=self.path("ours"), **ours)
        us.ask(ask="forget", id="jxai")
        result["first_warm"] = us.ask(ask="first", id="jxai", batch=0, **ours)
        if row.random:
            us.ask(ask="save", id="jxai", seed=1, out=self.path("again"))
            result["agreement_with_itself"] = compare(self.load("ours"), self.load("again"), "random")
        result["peers"] = {library: self.meet(library, row) for library in row.peers if library in self.workers}

        ids = {library: library for library in ["jxai", *(name for name, peer in result["peers"].items() if "error" not in peer)]}
        times, floors = self.alternate(ids, [kind for kind in ("forward", "backward") if getattr(row, kind)])
        for library, seen in times.items():
            (result if library == "jxai" else result["peers"][library]).update(self.summary(seen, row.images))
        result["floor"] = sum(getattr(row, kind) * seconds for kind, seconds in floors.items())
        result["over_floor"] = result["seconds"] / result["floor"] if result["floor"] else float("nan")
        for library in {"jxai", *row.peers} & set(self.workers):
            self.workers[library].ask(ask="forget", id=library)
        return result

    def meet(self, library: str, row: Row) -> dict:
        """A peer's first call, and how its map agrees with ours in the same convention."""
        peer = row.peers[library]
        batch = self.batch(library, row)
        result = {"batch": batch, "passes": peer.passes or row.forward + row.backward, "note": peer.note}
        try:
            request = {"name": peer.name, "images": row.images, "batch": batch, "options": peer.options}
            result["first"] = self.workers[library].ask(ask="first", id=library, out=self.path("theirs"), **request)
        except RuntimeError as error:
            say(str(error))
            return {**result, "error": str(error)}
        mine = self.load("ours")
        if peer.ours:
            request = {"name": row.ours_is, "images": row.images, "batch": 0, "options": {**row.ours, **peer.ours}}
            self.workers["jxai"].ask(ask="first", id="matched", out=self.path("matched"), **request)
            mine = self.load("matched")
        return {**result, "agreement": compare(mine, self.load("theirs"), peer.match)}

    def memory(self, row: Row) -> dict:
        """Peak growth at N and 4 N masks, in a fresh process for each library."""
        result = {}
        for library in ("jxai", *row.peers):
            if library not in self.workers or library == "xplique-torch":
                continue
            name = row.ours_is if library == "jxai" else row.peers[library].name
            options = list(row.sizes)
            if library != "jxai":
                known = row.peers[library].options
                options = [{**known, **{k: v for k, v in size.items() if k in known}} for size in row.sizes]
            worker = None
            try:
                worker = self.start(library)
                result[library] = worker.ask(ask="memory", name=name, batch=self.batch(library, row), options=options)
            except RuntimeError as error:
                say(str(error))
            finally:
                if worker:
                    worker.close()
        return result

    def path(self, name: str) -> str:
        return str(self.folder / f"{name}.npy")

    def load(self, name: str) -> np.ndarray:
        return np.load(self.path(name))


def compare(ours: np.ndarray, theirs: np.ndarray, match: str) -> dict:
    """Spearman's ρ (mean over the images), and unless both are random the largest difference over the largest value."""
    shape = np.broadcast_shapes(ours.shape, theirs.shape)
    ours, theirs = (np.broadcast_to(maps, shape).reshape(shape[0], -1).astype(np.float64) for maps in (ours, theirs))
    if match == "absolute":
        ours = np.abs(ours)
    if match == "scaled":
        ours = np.maximum(ours, 0)
        ours = (ours - ours.min(1, keepdims=True)) / np.maximum(np.ptp(ours, axis=1, keepdims=True), 1e-30)
    rho = float(np.mean([spearmanr(a, b).statistic for a, b in zip(ours, theirs)]))
    result = {"match": match, "rho": rho}
    if match != "random":
        result["difference"] = float((np.abs(ours - theirs).max(1) / np.abs(theirs).max(1)).max())
    return result


def run(arguments: argparse.Namespace, folder: Path) -> dict:
    wanted = [row for row in rows(arguments.passes_scale) if not arguments.methods or {row.name, row.ours_is} & set(arguments.methods)]
    started = time.perf_counter()
    bench = Bench(arguments.peers, arguments.rounds, arguments.clock, folder)
    facts = {library: worker.facts for library, worker in bench.workers.items()}
    logits = {library: np.asarray(fact.pop("logits")) for library, fact in facts.items()}
    apart = {library: float(np.abs(value - logits["jxai"]).max()) for library, value in logits.items()}
    if max(apart.values()) > 1e-3:
        raise SystemExit(f"the models differ: largest difference of a logit from ours {apart}")
    say(f"logits agree to {max(apart.values()):.1e}; looking for the best batch sizes")
    floors = bench.find_best_batches(BATCHES[-2:] if arguments.quick else BATCHES, 0.2 if arguments.quick else 1.0)
    result = {
        "cores": len(os.sched_getaffinity(0)),
        "clock": arguments.clock,
        "facts": facts,
        "logits_apart": apart,
        "passes": floors,
        "best": bench.best,
        "rows": [],
    }
    for row in wanted:
        say(f"{row.name} ({time.perf_counter() - started:.0f} s)")
        try:
            measured = bench.run(row)
            if arguments.memory and row.sizes:
                measured["memory"] = bench.memory(row)
            result["rows"].append(measured)
        except RuntimeError as error:
            say(f"left out: {error}")
            result["rows"].append({"method": row.name, "error": str(error)})
        result["seconds"] = time.perf_counter() - started
        if arguments.out:
            report.write(result, arguments.out)
    bench.close()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    peers = [library for library in BACKENDS if library != "jxai"]
    parser.add_argument(
        "--methods", type=names([name for row in rows() for name in (row.name, row.ours_is)]), default=[], help="names with commas between; default: all"
    )
    parser.add_argument("--peers", type=names(peers), default=peers, help=f"of {', '.join(peers)}; default: all")
    parser.add_argument("--passes-scale", type=float, default=None, help="times the usual number of passes (1; with --quick 0.2)")
    add_options(parser, rounds=(3, 1), few="passes")
    arguments = settled(parser.parse_args(), passes_scale=(1.0, 0.2))
    with tempfile.TemporaryDirectory() as folder:
        print(report.markdown(run(arguments, Path(folder))))


if __name__ == "__main__":
    main()
