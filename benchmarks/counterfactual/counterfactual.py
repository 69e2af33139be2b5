"""Counterfactuals in lanes that make room when done, beside the same search without that, one at a time, and over the floor of its passes.

    python benchmarks/counterfactual/counterfactual.py                            # 100 digits × 9 targets, about 15 minutes on 2 cores
    python benchmarks/counterfactual/counterfactual.py --quick                    # 20 digits

Needs the data set mnist and the weights mnist_vae, and with `--robust` robust_mnist in place of an ordinary network, trained on the spot. The search is ascent in a
VAE's codes to a probability of .99 within 500 steps (`jxai.counterfactual.diffeomorphic`). All in one process and one run, by turns; every call
is timed after one that compiles, and its compilation is shown apart.

Rows: `run` as it is; the pure method under `vmap`, in batches as wide, which do not make room (each runs until its slowest lane is done); a loop of single jitted searches (on a part of them, scaled); and the floor: the forward and backward passes that were needed, at
the speed of bare passes at the best batch size. Columns: seconds, searches a second, lane-steps computed, over the floor.

Then benchmarks/counterfactual/counterfactual_peer.py sets Wachter's search in pixels beside alibi's, which has none in codes, on the same network and digits: `--peer` of
its searches, 20 images × 9 of ours. Where alibi is not installed (`make build/alibi/.done`), one line says so.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.counterfactual import counterfactual_peer
from experiments.counterfactual.every_class import cases
from jxai import counterfactual
from jxai.counterfactual import Progress
from jxai.models import available, generators
from jxai.models.ordinary import mnist, ordinary

THRESHOLD, STEPS = 0.99, 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--quick", action="store_true", help="20 images")
    parser.add_argument("--robust", action="store_true", help="the provably robust network in place of one that is trained as usual")
    parser.add_argument("--lanes", type=int, default=64)
    parser.add_argument("--singles", type=int, default=30, help="single searches that are timed")
    parser.add_argument("--peer", type=int, default=20, help="searches by alibi; 0: no peer")
    args = parser.parse_args()
    count = 20 if args.quick else args.images
    f = available()["robust_mnist"].build().model if args.robust else ordinary(0)
    generator = generators()["mnist_vae"]()
    x, target = cases([f], *mnist("test", 2 * count), count)
    search = counterfactual.diffeomorphic.search(generator=generator, threshold=THRESHOLD, steps=STEPS)
    print(
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {target.size} searches, {args.lanes} lanes; jax {jax.__version__} on {jax.default_backend()}"
    )

    passes: list[int] = []

    def packed():
        last: list[Progress] = []
        out = counterfactual.run(search, f, x, target, batch_size=args.lanes, on_progress=last.append)
        passes[:] = [last[-1].passes]
        return out

    whole = jax.jit(jax.vmap(lambda v, t: counterfactual.diffeomorphic(f, v, t, generator=generator, threshold=THRESHOLD, steps=STEPS)))

    def unpacked():
        """Batches of lanes, each until its slowest is done."""
        flat, wanted = np.repeat(x, 9, 0), target.ravel()
        rows = [slice(s, s + args.lanes) for s in range(0, len(wanted), args.lanes)]
        done = [jax.block_until_ready(whole(flat[r], wanted[r])) for r in rows]
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *done), rows

    one = jax.jit(lambda v, t: counterfactual.diffeomorphic(f, v, t, generator=generator, threshold=THRESHOLD, steps=STEPS))
    at = np.random.default_rng(0).choice(target.size, min(args.singles, target.size), replace=False)

    def singles():
        return [jax.block_until_ready(one(x[i // 9], target.ravel()[i])) for i in at]

    cold, (found, seconds) = timed(packed)
    needed = int(found.steps.sum()) + target.size  # a last look at the point that the last step led to
    cold_whole, ((all_, rows), slow) = timed(unpacked)
    wasted = sum(args.lanes * (int(all_.steps[r].max()) + 1) for r in rows)
    cold_one, (some, single) = timed(singles)
    single *= (found.steps.sum() + target.size) / sum(int(s.steps) + 1 for s in some)
    best = floor(f, generator, x[0], (16, 32, 64, 128, 256))
    bare = min(best.values()) * needed
    print(
        f"reached {found.valid.mean():.3f}, {found.steps.mean():.1f} steps on average (median {np.median(found.steps):.0f}), {needed / target.size:.1f} forward and backward passes each"
    )
    print(
        f"a pass in batches of {', '.join(f'{b}: {1e6 * s:.0f}' for b, s in best.items())} µs; first calls take {cold:.1f}, {cold_whole:.1f}, {cold_one:.1f} s more\n"
    )
    print("| | s | a second | lane-steps | over the floor | / run |\n|---|---|---|---|---|---|")
    for name, spent, steps in (
        ("run", seconds, passes[0]),
        ("without making room", slow, wasted),
        ("one at a time, jitted", single, needed),
        ("floor", bare, needed),
    ):
        print(f"| {name} | {spent:.2f} | {target.size / spent:.0f} | {steps} | {spent / bare:.2f} | {spent / seconds:.2f} |")
    agree = np.abs(all_.x.reshape(found.x.shape) - found.x).max((2, 3, 4)) < 1e-3
    print(f"\n{agree.mean():.1%} of the counterfactuals of both agree to 1e-3", flush=True)
    if args.peer:
        print("\n" + counterfactual_peer.table(f, x[:20], target[:20], THRESHOLD, args.peer, args.lanes))


def timed(call: Callable) -> tuple[float, tuple]:
    """How much longer the first call takes, and the result and the seconds of the second."""
    start = time.perf_counter()
    call()
    middle = time.perf_counter()
    out = call()
    end = time.perf_counter()
    return (middle - start) - (end - middle), (out, end - middle)


def floor(f: Callable, generator, x: np.ndarray, batches: tuple[int, ...]) -> dict[int, float]:
    """Seconds of a forward and backward pass of generator and model, one of a batch, by batch size; best of five."""

    def loss(z):
        return jax.nn.log_softmax(f(generator.decode(z)))[0]

    found = {}
    for b in batches:
        z = jnp.broadcast_to(generator.encode(jnp.asarray(x)), (b, generator.encode(jnp.asarray(x)).size))
        many = jax.jit(lambda z: jax.lax.scan(lambda v, _: (v + 1e-6 * jax.vmap(jax.grad(loss))(v), None), z, None, length=10)[0])
        jax.block_until_ready(many(z))
        times = []
        for _ in range(5):
            start = time.perf_counter()
            jax.block_until_ready(many(z))
            times.append(time.perf_counter() - start)
        found[b] = min(times) / 10 / b
    return found


if __name__ == "__main__":
    main()
