"""Verified bounds beside auto_LiRPA: one convolutional network, the same weights, images and radius, all ten logits.

    python benchmarks/bounds/bounds.py --out out/bounds                   # about 15 minutes on 2 cores
    python benchmarks/bounds/bounds.py --quick                            # a few minutes: 16 images, no memory
    python benchmarks/bounds/bounds.py --settings random --methods interval,crown
    OMP_WAIT_POLICY=PASSIVE python benchmarks/bounds/bounds.py --clock processor      # on a machine that others use, too

Needs the extra `bench` and, for the peer, `pip install --no-deps auto-LiRPA==0.3 appdirs` (its newest release on PyPI, of 2022, whose
requirements end at PyTorch 1.12; benchmarks/bounds/bound_lirpa.py says what it is given on a newer one). Without it our columns stand alone. The column
"0.7.1" quotes seconds that the version of its repository took for 128 images on 2 quiet cores of 257 GFLOP/s, in its best mode.

The network is conv16 (4, stride 2) – conv32 (4, stride 2) – 100 – 10 on MNIST, `random` weights and those trained to be provably robust;
ℓ∞ radius .03. Each library works in a process of its own while the other sleeps; calls alternate, at the batch size that is best for
each method and library (found by trying). Ours is one `jax.jit` of `lax.map(…, batch_size=…)`, from the images to the numbers.

Columns: images; batch sizes of ours and of the peer; seconds for all images, best and median; peer/ours (above 1: ours is faster); the speed
of a product of 2048 × 2048 float32 matrices in the same minute; the floors at that speed, by arithmetic (multiplications and additions that
`bound_data.work` counts, and with it our time over the floor) and by memory (coefficients written and read once at 10 GB/s); the first call,
compilation included; peak memory, the growth of the process in MiB, for 128 images and for 512; the mean width of the bounds and the
peer's over ours; ends that are looser than the peer's by more than 1e-5 of the greatest end, and the largest relative difference of ends.
Ours are cut to looser bounds that they contain: CROWN to CROWN-IBP's, which changes nothing here, forward bounds layer by layer to IBP's, which does.
α-CROWN has 20 steps, of the output's lines alone or (`intermediate`) of those of all layers; the peer optimises those of every neuron
by themselves, ours a layer's together.

Wanted on 2 quiet cores: 128 images in .02 s (interval), .1 s (CROWN-IBP), 1 s (CROWN), 4 s (forward); no end looser than the peer's; flat
memory; EVA of one image with 14 × 14 groups from a single pass in 50 ms.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bounds import bound_data, bound_report
from benchmarks.measuring.bench import Turns, add_options, names, say, settled
from benchmarks.measuring.report import write

BACKENDS = {"jxai": "benchmarks.bounds.bound_ours:Jxai", "auto_LiRPA": "benchmarks.bounds.bound_lirpa:AutoLirpa"}
PATIENCE = 60.0
"""Seconds that the repetitions of a peer's call may take in all; two are made in any case."""
SEEN = (128, 512)
"""Images of the measurements of memory."""


@dataclasses.dataclass(frozen=True)
class Row:
    """A bound: ours with `options`, the peer's with `peer`; the batch sizes to try for both; what 0.7.1 took for 128 images."""

    name: str
    method: str
    images: int
    options: dict[str, Any]
    batches: tuple[int, ...]
    peer: dict[str, Any] | None
    peer_batches: tuple[int, ...] = ()
    quoted: float | None = None

    @property
    def groups(self) -> int:
        return self.options.get("grid", 0) ** 2


def rows(images: int = 128, few: int = 4) -> list[Row]:
    """Those of the benchmark, with so many images, and so few for what takes long."""
    alpha = {"steps": 20}
    return [
        Row("interval", "interval", images, {}, (8, 32, 128), {}, (32, 128), 0.076),
        Row("crown_ibp", "crown_ibp", images, {}, (1, 8, 32, 128), {}, (16, 128), 0.21),
        Row("crown", "crown", images, {}, (1, 2, 4, 8), {}, (4, 16, 128), 6.2),
        Row("forward", "forward", images, {}, (1, 2, 4), {}, (1, 4, 16), 13.0),
        Row("alpha_crown", "alpha_crown", few, alpha, (1, 4), alpha, (4,)),
        Row("alpha_crown_intermediate", "alpha_crown", 1, {**alpha, "intermediate": True}, (1,), {**alpha, "intermediate": True}, (1,)),
        Row("eva_single_pass", "eva", 1, {"grid": 14, "per_group": False}, (1,), None),
        Row("eva_per_group", "eva", 1, {"grid": 14, "per_group": True}, (1,), None),
    ]


class Bench(Turns):
    """One setting: its workers, and the folder where results lie."""

    def __init__(self, peers: list[str], rounds: int, clock: str, folder: Path, data: Path):
        self.folder = folder
        super().__init__({name: BACKENDS[name] for name in ["jxai", *peers]}, rounds, clock, {"JXAI_BENCHMARK_DATA": str(data)})
        self.best = {"jxai": {"forward": 1}}  # the "pass" that alternates with the calls is a product of matrices

    def run(self, row: Row) -> dict:
        result = {"name": row.name, "method": row.method, "images": row.images, "options": row.options, "groups": row.groups, "quoted": row.quoted}
        wanted = {"jxai": (row.options, row.batches)}
        if row.peer is not None:
            wanted |= {name: (row.peer, row.peer_batches) for name in self.workers if name != "jxai"}
        result["libraries"] = {}
        for library, (options, batches) in wanted.items():
            try:
                result["libraries"][library] = self.meet(library, row, options, batches)
            except RuntimeError as error:
                say(str(error))
                result["libraries"][library] = {"error": str(error)}
        met = [library for library, found in result["libraries"].items() if "error" not in found]
        times, products = {library: [] for library in met}, []
        rounds, self.rounds = self.rounds, 1
        for turn in range(rounds):
            patient = [name for name in met if turn < 2 or name == "jxai" or sum(wall for wall, _ in times[name]) < PATIENCE]
            seen, floors = self.alternate({name: name for name in patient}, ["forward"])
            products.append(floors["forward"])
            for library, calls in seen.items():
                times[library] += calls
        self.rounds = rounds
        for library, seen in times.items():
            result["libraries"][library] |= {**self.summary(seen), "calls": len(seen)}
            self.workers[library].ask(ask="forget", id=library)
        result["gflops"] = 2 * 2048**3 / min(products) / 1e9
        if row.method != "eva" and "jxai" in met:
            needs = bound_data.work(row.method, row.options)
            result |= {"gflop": needs.gflop * row.images, "gigabytes": needs.gigabytes * row.images}
            result["agreement"] = {name: compare(self.load("jxai"), self.load(name)) for name in met if name != "jxai"}
            ends = self.load("jxai")
            result["width"] = float((ends[:, 1] - ends[:, 0]).mean())
        result["load"] = os.getloadavg()[0]
        return result

    def meet(self, library: str, row: Row, options: dict, batches: tuple[int, ...]) -> dict:
        """The best batch size, by the time of an image in one call of few, then the first call on all images."""
        worker, seen = self.workers[library], {}
        sizes = sorted({min(batch, row.images) for batch in batches})
        for batch in sizes if len(sizes) > 1 else ():
            images = min(row.images, max(batch, 8))
            worker.ask(ask="first", id="search", name=row.method, images=images, batch=batch, options=options)
            calls = [worker.ask(ask="again", id="search", seed=0)[self.clock]]
            calls += [worker.ask(ask="again", id="search", seed=0)[self.clock] for _ in range(2 if calls[0] < 1 else 0)]
            seen[batch] = min(calls) / images
        worker.ask(ask="forget", id="search")
        batch = min(seen, key=seen.get) if seen else sizes[0]
        first = worker.ask(ask="first", id=library, name=row.method, images=row.images, batch=batch, options=options, out=self.path(library))
        return {"batch": batch, "searched": seen, "first": first}

    def memory(self, row: Row, result: dict) -> dict:
        """Peak growth for few and for many images at the best batch size, in a fresh process for each library."""
        peaks = {}
        for library, found in result["libraries"].items():
            if "error" in found:
                continue
            options = row.options if library == "jxai" else row.peer
            counts = [images for images in SEEN if library == "jxai" or images == SEEN[0] or found["median"] < PATIENCE / 10]
            try:
                worker = self.start(library)
                peaks[library] = worker.ask(ask="memory", name=row.method, batch=found["batch"], options=[{**options, "images": images} for images in counts])
                worker.close()
            except RuntimeError as error:
                say(str(error))
        return peaks

    def path(self, name: str) -> str:
        return str(self.folder / f"{name}.npy")

    def load(self, name: str) -> np.ndarray:
        return np.load(self.path(name)).astype(np.float64)


def compare(ours: np.ndarray, theirs: np.ndarray) -> dict:
    """How the ends `[n, 2, 10]` of bounds compare, relative to the greatest end of the peer's."""
    looser = np.stack([theirs[:, 0] - ours[:, 0], ours[:, 1] - theirs[:, 1]]) / np.abs(theirs).max()
    widths = [float((ends[:, 1] - ends[:, 0]).mean()) for ends in (ours, theirs)]
    return {
        "looser": float((looser > 1e-5).mean()), "tighter": float((looser < -1e-5).mean()), "difference": float(np.abs(looser).max()),
        "loosest": float(looser.max()), "width_ratio": widths[1] / widths[0],
    }  # fmt: skip


def run(arguments: argparse.Namespace, folder: Path) -> dict:
    started = time.perf_counter()
    result = {"cores": len(os.sched_getaffinity(0)), "clock": arguments.clock, "load": os.getloadavg()[0], "settings": {}}
    for setting in arguments.settings:
        data = folder / f"{setting}.npz"
        images = bound_data.make(setting, data)
        bench = Bench(arguments.peers, arguments.rounds, arguments.clock, folder, data)
        facts = {library: worker.facts for library, worker in bench.workers.items()}
        logits = {library: np.asarray(fact.pop("logits")) for library, fact in facts.items()}
        if (apart := max(float(np.abs(value - logits["jxai"]).max()) for value in logits.values())) > 1e-4:
            raise SystemExit(f"the models differ by {apart}")
        found = {"facts": facts, "images": images, "logits_apart": apart, "rows": []}
        result["settings"][setting] = found
        for row in rows(16, 1) if arguments.quick else rows():
            if arguments.methods and row.name not in arguments.methods and row.method not in arguments.methods:
                continue
            say(f"{setting}: {row.name} ({time.perf_counter() - started:.0f} s)")
            try:
                measured = bench.run(row)
                if arguments.memory and row.method != "eva" and not row.options.get("intermediate"):
                    measured["memory"] = bench.memory(row, measured)
            except RuntimeError as error:
                say(f"left out: {error}")
                measured = {"name": row.name, "error": str(error)}
            found["rows"].append(measured)
            result["seconds"], result["load_after"] = time.perf_counter() - started, os.getloadavg()[0]
            if arguments.out:
                write(result, arguments.out, bound_report.markdown)
        bench.close()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    peers = ["auto_LiRPA"] if all(importlib.util.find_spec(name) for name in ("torch", "auto_LiRPA")) else []
    known = list(dict.fromkeys(name for row in rows() for name in (row.name, row.method)))
    parser.add_argument("--settings", type=names(bound_data.SETTINGS), default=list(bound_data.SETTINGS), help="random, robust_mnist; default: both")
    parser.add_argument("--methods", type=names(known), default=[], help="names with commas between; default: all")
    parser.add_argument("--peers", type=names(["auto_LiRPA"]), default=peers, help="auto_LiRPA, the default where it is installed, or an empty word")
    add_options(parser, rounds=(5, 2), few="images")
    arguments = settled(parser.parse_args())
    with tempfile.TemporaryDirectory() as folder:
        print(bound_report.markdown(run(arguments, Path(folder))))


if __name__ == "__main__":
    main()
