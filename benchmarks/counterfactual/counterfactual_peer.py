"""Wachter's counterfactuals beside alibi's: the same digits, targets and network, the same loss and distance; run by benchmarks/counterfactual/counterfactual.py.

Both minimise `λ (1 − p(target))² + |x' − x|₁` (alibi writes 1/λ before the distance) by Adam in pixels cut to [0, 1], and both take x' where p(target) is the
threshold or more. They differ in how they find λ. Ours (`jxai.counterfactual.wachter`, its defaults) moves it at every step of one search of at most 1000.
alibi's `Counterfactual` sweeps ten values, max_iter / 10 steps each, then bisects in up to ten searches of at most max_iter steps, each ended by 50 steps in a
row that all reach the target or all do not. It runs with max_iter 1000, the library's default (11,000 steps at most), and with 100 (1100 steps, about our
budget); its learning rate falls from .1 to 0 in max_iter steps.

alibi lives in an environment of its own (`make build/alibi/.done`), see benchmarks/counterfactual/alibi_wachter.py. It takes one image at a time, so ours stands there in
lanes and one at a time. Ours is measured before and after alibi, in lanes on all images × 9 targets; alibi, which is slow, on some of those, drawn at random.

Columns: searches n; searches a second on the wall clock; processor seconds of a search, and over those of `run`; gradient steps of a search; the share of the
drawn ones that reached, as our model judges all of them; the mean L1 distance over those that every row reached; processor seconds of the first call beyond
another (of alibi: until the graph that each class needs is made and has run a few steps).
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from jxai import counterfactual

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / "build" / "alibi"
BUDGETS = (1000, 100)
"""alibi's max_iter."""


def table(f: nnx.Module, x: np.ndarray, target: np.ndarray, threshold: float, count: int, lanes: int) -> str:
    """Markdown: ours on images `[n, 28, 28, 1]` × targets `[n, 9]`, and both on `count` of those; one line where alibi is not there.

    Raises:
      RuntimeError: alibi's process failed, or its network is not ours.
    """
    if not (HOME / ".done").exists():
        return "alibi is left out: `make build/alibi/.done` has not installed it"
    at = np.sort(np.random.default_rng(0).choice(target.size, min(count, target.size), replace=False))
    few, wanted = x[at // 9], target.ravel()[at]
    search = counterfactual.wachter.search(threshold=threshold)
    one = jax.jit(lambda v, t: counterfactual.wachter(f, v, t, threshold=threshold))

    def run() -> counterfactual.Counterfactual:
        return counterfactual.run(search, f, x, target, batch_size=lanes)

    def singles() -> counterfactual.Counterfactual:
        return jax.tree.map(lambda *leaves: np.stack(leaves), *(jax.block_until_ready(one(v, t)) for v, t in zip(few, wanted)))

    calls = {"jxai, `run`": (run, target.size), "jxai, one at a time, jitted": (singles, len(at))}
    cold = {name: clocked(call)[1][1] for name, (call, _) in calls.items()}
    before = {name: clocked(call) for name, (call, _) in calls.items()}
    theirs = {max_iter: alibi(f, few, wanted, threshold, max_iter) for max_iter in BUDGETS}
    after = {name: clocked(call)[1] for name, (call, _) in calls.items()}

    rows = []
    for name, (_, n) in calls.items():
        found, spent = before[name]
        wall, used = np.mean([spent, after[name]], 0) / n
        points, steps = found.x.reshape(-1, *x.shape[1:]), found.steps.ravel()
        rows.append((name, points[at] if n == target.size else points, n, wall, used, steps.mean(), cold[name] - used * n))
    for max_iter, found in theirs.items():
        means = (found[column].mean() for column in ("wall", "processor", "steps", "graphs"))
        rows.append((f"alibi, max_iter {max_iter}", found["x"], len(at), *means))
    return _markdown(f, rows, few, wanted, threshold) + f"\n\n{theirs[BUDGETS[0]]['versions']}; load {os.getloadavg()[0]:.1f}"


def alibi(f: nnx.Module, x: np.ndarray, target: np.ndarray, threshold: float, max_iter: int) -> dict[str, np.ndarray]:
    """What benchmarks/counterfactual/alibi_wachter.py found for images `[n, 28, 28, 1]` and their targets `[n]`."""
    # |p − 1| <= tol is p >= threshold; all else is the library's default.
    options = {"target_proba": 1.0, "tol": 1 - threshold, "feature_range": [0.0, 1.0], "max_iter": max_iter}
    weights = {".".join(path): np.asarray(value[...]) for path, value in nnx.to_flat_state(nnx.state(f, nnx.Param))}
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
    with tempfile.TemporaryDirectory() as folder:
        task, found = Path(folder, "task.npz"), Path(folder, "found.npz")
        np.savez(task, x=x, target=target, options=json.dumps(options), **weights)
        program = Path(__file__).with_name("alibi_wachter.py")
        done = subprocess.run([HOME / "bin" / "python", program, task, found], env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"alibi: {done.stderr.strip()[-600:]}")
        with np.load(found) as arrays:
            result = dict(arrays)
    apart = np.abs(np.asarray(jax.vmap(f)(x)) - result["logits"]).max()
    if apart > 1e-4:
        raise RuntimeError(f"alibi's network gives logits that differ from ours by {apart}")
    return result


def clocked(call: Callable) -> tuple:
    """What a call returns, and its wall and processor seconds."""
    wall, used = time.perf_counter(), time.process_time()
    out = call()
    return out, (time.perf_counter() - wall, time.process_time() - used)


def _markdown(f: nnx.Module, rows: list[tuple], x: np.ndarray, target: np.ndarray, threshold: float) -> str:
    p = jax.jit(lambda points: jax.nn.softmax(jax.vmap(f)(points))[np.arange(len(target)), target])
    reached = [np.asarray(p(points)) >= threshold - 1e-5 for _, points, *_ in rows]  # NaN, where none was found, is not
    every = np.all(reached, 0)
    lines = [f"| {len(x)} searches of each, {every.sum()} reached by all | n | a second | processor s | / run | steps | reached | L1 | first call s |"]
    lines.append("|" + "---|" * 9)
    for (name, points, n, wall, used, steps, cold), ok in zip(rows, reached):
        far = np.abs(points - x)[every].sum((1, 2, 3)).mean() if every.any() else np.nan
        lines.append(f"| {name} | {n} | {1 / wall:.2g} | {used:.2g} | {used / rows[0][4]:.1f} | {steps:.0f} | {ok.mean():.2f} | {far:.1f} | {cold:.1f} |")
    return "\n".join(lines)
