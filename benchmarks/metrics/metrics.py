"""Every metric that a peer shares beside Quantus, Captum and Xplique: one run, the same weights, images and maps.

    python benchmarks/metrics/metrics.py --out out/metrics                 # about 30 minutes on 2 quiet cores
    python benchmarks/metrics/metrics.py --quick                           # a few minutes, few images and samples, no memory
    python benchmarks/metrics/metrics.py --settings lenet5 --metrics deletion,irof
    OMP_WAIT_POLICY=PASSIVE python benchmarks/metrics/metrics.py --clock processor      # on a machine that others use, too

Needs the extra `bench`, and the weights and data sets that `jxai.models` and `jxai.data` find. Settings: CIFAR-10's ResNet-20 (64 test images),
EfficientNet-Lite0 (4 photographs), LeNet-5 (256 MNIST digits). jxai computes one map with one channel for every image (input × gradient summed
over the channels), and every library gets those; masks are random boxes. Each library works in a process of its own while the others
sleep; calls alternate, and the fastest and the median of each are kept. A peer runs at the better of two batch sizes: that at which its model is
fastest, and all images at once. Ours run through `jxai.each` as a user calls it, from the arrays to the numbers. Processor time is shared out
over the cores: it halves what a peer does on one core alone.

Columns: passes of a forward and of a forward-and-backward kind for one image; seconds for all images; peer/ours (above 1: ours is faster);
over the floor: time divided by the passes times the cost of one pass at the best batch size, measured between the same calls (rows without
passes have none, and a call of a metric that does nothing is the measure: the first row of each table); the first call in a fresh process
with an empty compilation cache; peak memory at N and 4 N steps or samples, the growth of the process in MiB; agreement: Spearman's ρ over the values
and the largest difference over the largest value. Where both draw at random, ρ stands beside that of ours with another key, which is what
chance allows, and then the means. What is no common quantity is not compared: the notes say what differs.

Wanted on 2 quiet cores: peer/ours > 1 everywhere, ≥ 3 on deletion, sensitivity-n, localization and complexity, ≥ 10 on LeNet-5; over the floor ≤ 1.1.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from benchmarks.measuring.bench import Turns, add_options, names, say, settled
from benchmarks.measuring.measure import METRIC_BACKENDS
from benchmarks.measuring.report import write
from benchmarks.metrics import metric_report
from benchmarks.metrics.metric_data import SETTINGS
from benchmarks.metrics.metric_rows import APART, RANDOM, Peer, Row, rows

BATCHES = {"resnet20": (1, 4, 16, 64, 256), "lite0": (1, 2, 4, 8, 16), "lenet5": (16, 64, 256, 1024)}
QUICK = {"resnet20": 8, "lite0": 1, "lenet5": 32}


class Bench(Turns):
    """One setting: its workers, and the folder where results and caches lie."""

    def __init__(self, setting: str, images: int, peers: list[str], rounds: int, clock: str, folder: Path):
        self.setting, self.folder, self.data = setting, folder, folder / f"{setting}.npz"
        environment = {
            "JXAI_BENCHMARK_CACHE": str(folder / f"cache-{setting}"),
            "JXAI_BENCHMARK_DATA": str(self.data),
            "JXAI_BENCHMARK_SETTING": setting,
            "JXAI_BENCHMARK_IMAGES": str(images),
            "MPLBACKEND": "Agg",
        }
        # Ours comes first: it makes the maps that the others read.
        super().__init__({library: METRIC_BACKENDS[library] for library in ["jxai", *peers]}, rounds, clock, environment)

    def run(self, row: Row) -> dict:
        """One row: first calls, then rounds of alternating calls, then the agreement of the numbers."""
        us, name = self.workers["jxai"], row.metric or row.name
        ours = {"name": name, "images": row.images, "options": row.options, "batch": 0}
        result = {"metric": row.name, "images": row.images, "options": row.options}
        result["first_cold"] = us.ask(ask="first", id="jxai", out=self.path("jxai"), **ours)
        mine, again = self.load("jxai"), None
        result |= self.passes(row, mine)
        if row.random:
            us.ask(ask="save", id="jxai", seed=1, out=self.path("again"))
            again = self.load("again")
        result["peers"] = {label: self.meet(label, peer, row, mine, again) for label, peer in row.peers.items() if peer.library in self.workers}
        ids = {"jxai": "jxai"} | {label: row.peers[label].library for label, peer in result["peers"].items() if "error" not in peer}
        times, floors = self.alternate(ids, [kind for kind in ("forward", "backward") if result[kind]])
        for id, seen in times.items():
            (result if id == "jxai" else result["peers"][id]).update(self.summary(seen))
            self.workers[ids[id]].ask(ask="forget", id=id)
        result["floor"] = row.images * sum(result[kind] * seconds for kind, seconds in floors.items())
        result["over_floor"] = result["seconds"] / result["floor"] if floors else None
        return result

    def passes(self, row: Row, mine: np.ndarray) -> dict:
        """Passes for one image: of the features with superpixels the most that an image has, of the layers one for each."""
        with np.load(self.data) as data:
            segments = int(data["segments"].max()) + 1
        return {
            "forward": segments + 1 if row.forward < 0 else row.forward,
            "backward": mine.shape[-1] - 1 if row.backward < 0 else row.backward,
        }

    def meet(self, label: str, peer: Peer, row: Row, mine: np.ndarray, again: np.ndarray | None) -> dict:
        """A peer's first calls at both batch sizes, the better of which stays, and how its numbers agree with ours."""
        worker, kind = self.workers[peer.library], "backward" if row.backward else "forward"
        sizes = {row.images} if peer.whole else {row.images, self.best[peer.library][kind]}
        result = {"passes": peer.passes, "note": peer.note, "library": peer.library}
        request = {"ask": "first", "id": label, "name": peer.name, "images": row.images, "options": peer.options}
        seen = {}
        try:
            for batch in sorted(sizes):
                first = worker.ask(batch=batch, out=self.path("theirs"), **request)
                result.setdefault("first", first)
                seen[batch] = worker.ask(ask="again", id=label, seed=0)[self.clock] if len(sizes) > 1 else 0.0
            result["batch"] = min(seen, key=seen.get)
            if result["batch"] != batch:
                worker.ask(batch=result["batch"], **request)
        except RuntimeError as error:
            say(str(error))
            return {**result, "error": str(error)}
        return {**result, "agreement": compare(peer, mine, self.load("theirs"), again)}

    def memory(self, row: Row, result: dict) -> dict:
        """Peak growth at N and 4 N steps or samples, in a fresh process for each library."""
        peaks, wanted = {}, {"jxai": ("jxai", row.metric or row.name, list(row.sizes), 0)}
        for label, peer in row.peers.items():
            if peer.sizes and "error" not in result["peers"].get(label, {"error": ""}):
                options = [{**peer.options, **each} for each in peer.sizes]
                wanted[label] = (peer.library, peer.name, options, result["peers"][label]["batch"])
        for label, (library, name, options, batch) in wanted.items():
            worker = self.start(library)
            try:
                peaks[label] = worker.ask(ask="memory", name=name, batch=batch, options=options, images=row.images)["peaks"]
            except RuntimeError as error:
                say(str(error))
            worker.close()
        return peaks

    def path(self, name: str) -> str:
        return str(self.folder / f"{name}.npy")

    def load(self, name: str) -> np.ndarray:
        return np.load(self.path(name)).astype(np.float64)


def compare(peer: Peer, mine: np.ndarray, theirs: np.ndarray, again: np.ndarray | None) -> dict | None:
    """Spearman's ρ over all values that both have; the largest difference over the largest value, or both means, as `match` has it."""
    if peer.match == APART:
        return None
    ours, other = peer.ours(mine).ravel(), peer.theirs(theirs).ravel()
    if ours.shape != other.shape:
        return {"error": f"{ours.shape} values against {other.shape}"}
    both = np.isfinite(ours) & np.isfinite(other)
    ours, other = ours[both], other[both]
    result = {"match": peer.match, "values": int(both.sum()), "rho": _rho(ours, other), "means": [float(v.mean()) for v in (ours, other)]}
    result["difference"] = float(np.abs(ours - other).max() / max(np.abs(other).max(), 1e-30))
    if peer.match == RANDOM:
        result["again"] = _rho(ours, peer.ours(again).ravel()[both])
    return result


def _rho(a: np.ndarray, b: np.ndarray) -> float | None:
    return float(spearmanr(a, b).statistic) if len(a) > 2 and np.ptp(a) > 0 and np.ptp(b) > 0 else None


def run(arguments: argparse.Namespace, folder: Path) -> dict:
    started = time.perf_counter()
    result = {"cores": len(os.sched_getaffinity(0)), "clock": arguments.clock, "load": os.getloadavg()[0], "settings": {}}
    for setting in arguments.settings:
        images = QUICK[setting] if arguments.quick else SETTINGS[setting].images
        bench = Bench(setting, images, arguments.peers, arguments.rounds, arguments.clock, folder)
        facts = {library: worker.facts for library, worker in bench.workers.items()}
        logits = {library: np.asarray(fact.pop("logits")) for library, fact in facts.items()}
        apart = {library: float(np.abs(value - logits["jxai"]).max()) for library, value in logits.items()}
        if max(apart.values()) > 1e-3:
            raise SystemExit(f"the models differ: largest difference of a logit from ours {apart}")
        say(f"{setting}: logits agree to {max(apart.values()):.1e}; looking for the best batch sizes")
        floors = bench.find_best_batches(BATCHES[setting], 0.1 if arguments.quick else 0.5)
        found = {"images": images, "facts": facts, "logits_apart": apart, "passes": floors, "best": bench.best, "rows": []}
        result["settings"][setting] = found
        known = [Row("nothing", images, {}, {}), *rows(setting, images, 0.2 if arguments.quick else 1.0)]
        for row in known:
            if row.name != "nothing" and arguments.metrics and row.name not in arguments.metrics:
                continue
            say(f"{row.name} ({time.perf_counter() - started:.0f} s)")
            try:
                measured = bench.run(row)
                if arguments.memory and row.sizes:
                    measured["memory"] = bench.memory(row, measured)
                found["rows"].append(measured)
            except RuntimeError as error:
                say(f"left out: {error}")
                found["rows"].append({"metric": row.name, "error": str(error)})
            result["seconds"], result["load_after"] = time.perf_counter() - started, os.getloadavg()[0]
            if arguments.out:
                write(result, arguments.out, metric_report.markdown)
        bench.close()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    peers = [library for library in METRIC_BACKENDS if library != "jxai"]
    known = list(dict.fromkeys(row.name for setting in SETTINGS for row in rows(setting)))
    parser.add_argument("--settings", type=names(SETTINGS), default=list(SETTINGS), help=f"of {', '.join(SETTINGS)}; default: all")
    parser.add_argument("--metrics", type=names(known), default=[], help="names with commas between; default: all")
    parser.add_argument("--peers", type=names(peers), default=peers, help=f"of {', '.join(peers)}; default: all")
    add_options(parser, rounds=(3, 1), few="images and samples")
    arguments = settled(parser.parse_args())
    with tempfile.TemporaryDirectory() as folder:
        print(metric_report.markdown(run(arguments, Path(folder))))


if __name__ == "__main__":
    main()
