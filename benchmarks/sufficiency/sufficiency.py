"""What sufficient subsets cost over the bare passes that they need, whether their memory is flat, and exact selection beside a loop on the host.

    python benchmarks/sufficiency/sufficiency.py                                # all of it, 11 minutes on 2 quiet cores
    python benchmarks/sufficiency/sufficiency.py --quick                        # fewer images, steps and rounds: 3 minutes on busy cores
    python benchmarks/sufficiency/sufficiency.py --models cifar10_resnet20 --parts gradient --clock processor

Three parts, each on those of its models that `--models` names:

- gradient: `batched_gradient_sis` of a batch under `vmap` and `jit`, with a key (so with noise) and without one, on ResNet-20 (64 test images of CIFAR-10, 8 of
  1024 pixels a step) and EfficientNet-Lite0 (4 photographs, 500 of 50176 pixels a step). The floor: as many forward and backward passes of the same model with
  respect to the image, in a scan that carries the image, at the same batch size and at the best one.
- memory: the scratch that the same program declares, and what a process of its own grows by when it runs, at 16, 64 and 256 steps.
- exact: `sis` of 64 features (ResNet-20: 8 × 8 patches; digits_cnn: pixels) at its default chunk and others, beside the reference: at each step, for each
  feature that is left, one jitted pass of one image masked by NumPy, and an argmax on the host. The floor: n (n + 1) / 2 + 1 forward passes at the best batch
  size. How many subsets are the same is reported; the first choice that differs must be one of scores that are equal to rounding.

All in one process and one run, by turns, `--rounds` times: the fastest, in brackets the median, and the ratios of these. Compilation is shown apart. The
processor's clock counts the seconds of all threads, shared out over the cores: for a machine that others use. Needs the weights and data of ../shared or
JXAI_DATA; what is missing is one line, and the rest still runs.
"""

from __future__ import annotations

import argparse
import contextlib
import os

import jax

from benchmarks.measuring.bench import CLOCKS, names
from benchmarks.measuring.measure import Worker
from benchmarks.measuring.turns import CORES, both, now, over, table, turns
from benchmarks.sufficiency.sufficiency_calls import THRESHOLD, agreement, bare, descent, exact_calls, load
from jxai.sufficiency.sis import default_chunk

GRADIENT = {"cifar10_resnet20": (64, 8, (16, 32, 64, 128)), "efficientnet_lite0": (4, 500, (1, 2, 4, 8))}
"""Images at once, features removed at a step, and the batch sizes at which bare passes are tried."""
QUICK = {"cifar10_resnet20": (16, 32, (8, 16, 32)), "efficientnet_lite0": (2, 2000, (1, 2, 4))}
EXACT = {"cifar10_resnet20": (4, 16, 64), "digits_cnn": (16, 64, 256)}
GRID, CHUNKS, STEPS = 8, (None, 64, 16, 4), (16, 64, 256)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=names(GRADIENT | EXACT), default=list(GRADIENT | EXACT), help="with commas between")
    parser.add_argument("--parts", type=names(PARTS), default=list(PARTS), help="with commas between")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, help="5, or 2 with --quick")
    parser.add_argument("--images", type=int, help="of the exact part: 4, or 1 with --quick")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    args = parser.parse_args()
    args.rounds, args.images = args.rounds or (2 if args.quick else 5), args.images or (1 if args.quick else 4)
    print(f"{CORES} cores, load {os.getloadavg()[0]:.1f}; seconds of {args.clock} time; jax {jax.__version__} on {jax.default_backend()}", flush=True)
    for part in args.parts:
        of, measure = PARTS[part]
        for name in args.models:
            if name in of:
                try:
                    print(f"\n{measure(name, args)}", flush=True)
                except (ImportError, FileNotFoundError, ValueError, RuntimeError) as error:
                    print(f"\n{name}, {part}: left out: {str(error).splitlines()[0]}", flush=True)
    print(f"\nload {os.getloadavg()[0]:.1f} at the end")


def gradient(name: str, args: argparse.Namespace) -> str:
    batch, per_step, batches = (QUICK if args.quick else GRADIENT)[name]
    f, x, y = load(name, max(batch, *batches))
    num = x[0, ..., 0].size
    steps = -(-num // per_step)
    best, passes = fastest_batch(f, x, y, batches, True, args.clock)
    length = -(-steps * batch // best)
    calls, compilation = {}, {}
    for label, key in (("with a key", jax.random.key(0)), ("without noise", None)):
        start = now(args.clock)
        calls[label] = descent(f, x[:batch], y[:batch], key, per_step)
        compilation[label] = now(args.clock) - start
    same, other = f"floor, batches of {batch}", f"floor, at best: of {best}"
    calls |= {same: bare(f, x[:batch], y[:batch], steps, True), other: bare(f, x[:best], y[:best], length, True)}
    times = turns(calls, args.rounds, args.clock)
    times[other] = [t * steps * batch / (length * best) for t in times[other]]
    rows = [
        (label, both(seen), f"{batch / min(seen):.3g}", steps * batch, *(over(seen, times[floor]) for floor in (same, other))) for label, seen in times.items()
    ]
    return "\n".join(
        (
            f"{name}: `batched_gradient_sis`, {batch} images at once, {steps} steps that remove {per_step} of {num} pixels (and a forward pass)",
            f"A forward and backward pass takes {listed(passes)}; compilation {', '.join(f'{s:.1f} s {label}' for label, s in compilation.items())}\n",
            table(("", "s", "images a second", "passes", f"over the floor of {batch}", "over the best floor"), rows),
        )
    )


def memory(name: str, args: argparse.Namespace) -> str:
    batch, steps = (QUICK if args.quick else GRADIENT)[name][0], STEPS[:2] if args.quick else STEPS
    with contextlib.closing(Worker(name, "benchmarks.sufficiency.sufficiency_calls:Descents")) as worker:
        found = worker.ask(ask="memory", name=name, batch=batch, images=batch, options=[{"steps": s} for s in steps])
    rows = [(label, *(f"{mib:.1f}" for mib in found[kind])) for kind, label in (("scratch", "the program's scratch"), ("peaks", "the process, up to then"))]
    return f"{name}: MiB of {batch} images at once, by the number of steps\n\n" + table(("", *steps), rows)


def exact(name: str, args: argparse.Namespace) -> str:
    f, x, y = load(name, max(args.images, *EXACT[name]))
    num = GRID**2
    needed = num * (num + 1) // 2 + 1
    best, passes = fastest_batch(f, x, y, EXACT[name], False, args.clock)
    length = -(-needed // best)
    calls = exact_calls(f, x[: args.images], y[: args.images], GRID, CHUNKS)
    calls["floor"] = bare(f, x[:best], y[:best], length, False)
    firsts = {}
    for label, call in calls.items():
        start = now(args.clock)
        result = call()
        firsts[label] = now(args.clock) - start, result
    times = {label: [t / args.images for t in seen] for label, seen in turns(calls, args.rounds, args.clock).items()}
    times["floor"] = [t * args.images * needed / (length * best) for t in times["floor"]]
    sizes = {"sis" if c is None else f"sis, chunk={c}": min(default_chunk(x[0], num) if c is None else c, num) for c in CHUNKS}
    computed = {label: 1 + sum(-(-left // size) * size for left in range(1, num + 1)) for label, size in sizes.items()}
    rows = [
        (label, both(seen), f"{1 / min(seen):.3g}", computed.get(label, needed), over(seen, times["floor"]), over(times["on the host"], seen))
        for label, seen in times.items()
    ]
    first = ", ".join(f"{label} {seconds - args.images * min(times[label]):.1f} s" for label, (seconds, _) in firsts.items() if label != "floor")
    return "\n".join(
        (
            f"{name}: `sis` of {num} features to {THRESHOLD}, {args.images} images one after another; {needed} forward passes each",
            f"A forward pass takes {listed(passes)}, at best in batches of {best}; first calls take longer by: {first}\n",
            table(("", "s an image", "images a second", "passes", "over the floor", "on the host / this"), rows),
            f"\n{agreement(firsts['sis'][1], firsts['on the host'][1])}",
        )
    )


PARTS = {"gradient": (GRADIENT, gradient), "memory": (GRADIENT, memory), "exact": (EXACT, exact)}


def fastest_batch(f, x: jax.Array, y: jax.Array, batches: tuple[int, ...], backward: bool, clock: str) -> tuple[int, dict[int, float]]:
    """The best batch size, and seconds of one pass by batch size."""
    lengths = {b: max(2, 2 * max(batches) // b) for b in batches}
    times = turns({b: bare(f, x[:b], y[:b], lengths[b], backward) for b in batches}, 5, clock)
    passes = {b: min(seen) / lengths[b] / b for b, seen in times.items()}
    return min(passes, key=passes.get), passes


def listed(passes: dict[int, float]) -> str:
    return ", ".join(f"{1e3 * s:.3g}" for s in passes.values()) + f" ms in batches of {', '.join(map(str, passes))}"


if __name__ == "__main__":
    main()
