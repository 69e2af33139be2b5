"""What it costs to score ten thousand images by the training features nearest to theirs, over the forward pass and beside libraries made for the search.

    python benchmarks/uncertainty/neighbours.py                                   # 3 minutes on 2 quiet cores
    python benchmarks/uncertainty/neighbours.py --quick --clock processor         # 1000 images, a bank of 1000

ResNet-20 on CIFAR-10: a bank of training images' features (64 numbers each), and test images that are scored by `knn` (k = 50), `relation`, `nn_guide` (k = 10), `vim`
and `mahalanobis`, all of jxai as one compiled program over batches of 500. Beside them, on the same arrays, in the same process and by turns, where they are installed
(`pip install faiss-cpu scikit-learn torch`):

- knn: faiss's `IndexFlatL2`, scikit-learn's `NearestNeighbors(algorithm="brute")`, and torch's product and `topk`, 500 images at once.
- relation: torch, as OpenOOD computes it, 50 images at once, and with 500.
- vim: NumPy, as OpenOOD computes it.

The floor is the forward pass alone, which gives logits and features to all of them. How far their scores are from ours is reported, and the scratch of our programs at
a tenth of the bank and at all of it. Needs the weights and data of ../shared or JXAI_DATA.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import logsumexp

from benchmarks.measuring.bench import CLOCKS
from benchmarks.measuring.turns import CORES, both, over, table, turns
from jxai import data, uncertainty
from jxai.models import available
from jxai.uncertainty import formulas

BATCH = 500
OPTIONS = {"knn": {"num_neighbours": 50}, "relation": {}, "nn_guide": {"num_neighbours": 10}, "vim": {}, "mahalanobis": {}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, help="10000, or 1000 with --quick")
    parser.add_argument("--bank", type=int, help="10000, or 1000 with --quick")
    parser.add_argument("--rounds", type=int, help="5, or 2 with --quick")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    args = parser.parse_args()
    images, bank = ((given or (1000 if args.quick else 10_000)) for given in (args.images, args.bank))
    print(f"{CORES} cores, load {os.getloadavg()[0]:.1f}; seconds of {args.clock} time; jax {jax.__version__} on {jax.default_backend()}", flush=True)
    print(f"{images} images, a bank of {bank}\n")
    print(measured(images, bank, args.rounds or (2 if args.quick else 5), args.clock))
    print(f"\nload {os.getloadavg()[0]:.1f} at the end")


def measured(images: int, bank: int, rounds: int, clock: str) -> str:
    model = available()["cifar10_resnet20"].build()
    run = jax.jit(jax.vmap(uncertainty.answers, (None, 0)))
    train, test = (data.load(data.source("cifar10", split=split), range(n), n, model.preprocess) for split, n in (("train", bank), ("test", images)))
    answers = lambda x: jax.tree.map(lambda *parts: np.concatenate(parts), *(run(model.model, jnp.asarray(x[i : i + BATCH])) for i in range(0, len(x), BATCH)))
    known, seen = answers(train.x), answers(test.x)
    head = uncertainty.linear_head(model.model, jnp.asarray(test.x[0]))
    fits = {name: getattr(uncertainty, f"fit_{name}")(known.features, known.logits, np.asarray(train.label), head) for name in OPTIONS}
    calls: dict[tuple[str, str], Callable[[], np.ndarray]] = {}
    for name in OPTIONS:
        calls[name, "jxai"] = functools.partial(scored, name, fits[name], seen)
        calls |= {(name, peer): call for peer, call in peers(name, known, seen, fits).items()}
    scores = {label: call() for label, call in calls.items()}
    times = turns({"floor": lambda: answers(test.x), **calls}, rounds, clock)
    rows = [("the forward pass", "", both(times["floor"]), f"{images / min(times['floor']):.3g}", "", "")]
    for (name, library), seconds in ((label, times[label]) for label in calls):
        far = np.abs(scores[name, library] - scores[name, "jxai"]).max() / np.abs(scores[name, "jxai"]).max()
        share = f"{1 + min(seconds) / min(times['floor']):.3f}"
        rows.append((name, library, both(seconds), share, over(seconds, times[name, "jxai"]), f"{far:.0e}" if library != "jxai" else ""))
    sizes = (max(bank // 10, 100), bank)
    scratch = []
    for name in ("knn", "relation", "nn_guide"):
        programs = (program(name).lower(part(fits[name], n), *batch(seen, 0)).compile() for n in sizes)
        scratch.append((name, *(f"{each.memory_analysis().temp_size_in_bytes / 2**20:.2f}" for each in programs)))
    head = ("score", "by", "s", "with the pass, over it", "over ours", "difference, relative")
    rows[0] = (*rows[0][:3], f"1 ({rows[0][3]} images a second)", "", "")
    return f"{table(head, rows)}\n\n{table(('scratch, MiB', *(f'bank of {n}' for n in sizes)), scratch)}"


@functools.cache
def program(name: str) -> Callable:
    return jax.jit(jax.vmap(functools.partial(formula, name), (None, 0, 0)))


def formula(name: str, fitted, logits, features):
    return getattr(formulas, name)(logits, features, fitted, **OPTIONS[name])


def batch(seen, start: int) -> tuple[np.ndarray, np.ndarray]:
    return seen.logits[start : start + BATCH], seen.features[start : start + BATCH]


def scored(name: str, fitted, seen) -> np.ndarray:
    return np.concatenate([program(name)(fitted, *batch(seen, start)) for start in range(0, len(seen.logits), BATCH)])


def part(fitted, rows: int):
    """What was fitted with a bank of fewer rows."""
    return jax.tree.map(lambda leaf: leaf[:rows], fitted)


def peers(name: str, known, seen, fits) -> dict[str, Callable[[], np.ndarray]]:
    """Other libraries' calls for the same score, by library."""
    bank, queries = (unit(v.features) for v in (known, seen))
    found: dict[str, Callable[[], np.ndarray]] = {}
    if name == "knn":
        k = OPTIONS[name]["num_neighbours"]
        if faiss := installed("faiss"):
            index = faiss.IndexFlatL2(bank.shape[1])
            index.add(bank)
            found["faiss"] = lambda: np.sqrt(index.search(unit(seen.features), k)[0][:, -1])
        if neighbors := installed("sklearn.neighbors"):
            search = neighbors.NearestNeighbors(n_neighbors=k, algorithm="brute").fit(bank)
            found["scikit-learn"] = lambda: search.kneighbors(unit(seen.features))[0][:, -1]
        if torch := installed("torch"):
            rows = torch.tensor(bank)
            kth = lambda q: (2 - 2 * torch.topk(q @ rows.T, k).values[:, -1]).clamp(min=0).sqrt()
            found["torch"] = lambda: torch.cat([kth(q) for q in torch.tensor(unit(seen.features)).split(BATCH)]).numpy()
    if name == "relation":
        if torch := installed("torch"):
            of, p_bank = torch.tensor(bank), torch.softmax(torch.tensor(known.logits), 1)

            def related(size: int) -> np.ndarray:
                sums = []
                for q, p in zip(torch.tensor(queries).split(size), torch.softmax(torch.tensor(seen.logits), 1).split(size)):
                    graph = torch.clamp(q @ of.T, min=0) * (p @ p_bank.T)
                    kept = (graph.abs() > 0.03) * graph
                    sums.append(-(kept.sign() * kept.abs() ** 1).sum(-1))
                return torch.cat(sums).numpy()

            found |= {f"torch, {size} at once": functools.partial(related, size) for size in (50, BATCH)}
    if name == "vim":
        origin, residual, scale = (np.asarray(leaf) for leaf in jax.tree.leaves(fits["vim"]))
        found["NumPy"] = lambda: np.linalg.norm((seen.features - origin) @ residual, axis=1) * scale - logsumexp(seen.logits, axis=1)
    return found


def unit(features: np.ndarray) -> np.ndarray:
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)


def installed(name: str) -> Any:
    """The module, or None, and a line that says so."""
    try:
        return importlib.import_module(name)
    except ImportError:
        print(f"without {name.split('.')[0]}, which is not installed", flush=True)
        return None


if __name__ == "__main__":
    main()
