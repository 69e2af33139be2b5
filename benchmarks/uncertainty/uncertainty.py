"""What uncertainty scores cost over one forward pass, whether what they are fitted by grows with the training set, and formulas beside pytorch-ood's.

    python benchmarks/uncertainty/uncertainty.py                        # 10 000 images, about 10 minutes of processor time
    python benchmarks/uncertainty/uncertainty.py --quick                # 1000 images, fewer rounds
    python benchmarks/uncertainty/uncertainty.py --parts together,state --clock processor

Four parts, on ResNet-20 and CIFAR-10's test images; what is fitted is fitted to its training images that are here (10 000 of 50 000):

- together: one program for all scores that are formulas of one answer, with those that search a bank of training examples and without, over the bare forward pass.
- alone: each score as it is called, `each(score, f, x)`, over the bare forward pass.
- state: KiB of what each is fitted by, at growing numbers of training examples.
- peer: the formulas on the rows of logits and features, beside pytorch-ood on the same rows (where it is installed; it runs on PyTorch).

All in one process and one run, by turns, `--rounds` times: the fastest, in brackets the median, and the ratios of these, without compilation. The processor's clock counts the
seconds of all threads, shared out over the cores: for a machine that others use. Needs the weights and data of ../shared or JXAI_DATA.
"""

from __future__ import annotations

import argparse
import functools
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measuring.bench import CLOCKS, names
from benchmarks.measuring.turns import CORES, both, over, table, turns
from benchmarks.uncertainty import uncertainty_peer
from experiments.uncertainty.post_hoc import BANKS, OF_FEATURES, OF_LOGITS, POST_HOC, fitted
from jxai import data, each, uncertainty
from jxai.models import available
from jxai.uncertainty import formulas

NETWORK, DATA = "cifar10_resnet20", "cifar10"
ONE_ANSWER = (*OF_LOGITS, *OF_FEATURES)


def forward(f: Callable, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
    """The bare pass."""
    return f(x)


def together(f: Callable, x: jax.Array, key: jax.Array | None = None, *, fitted: dict[str, Any]) -> dict[str, jax.Array]:
    """All scores that what was fitted has the names of, from one answer."""
    logits, features = uncertainty.answers(f, x)
    return {name: getattr(formulas, name)(logits, features, state) for name, state in fitted.items()}


class World:
    """The network, the images, and what scores are fitted by."""

    def __init__(self, images: int, examples: int, batch: int):
        self.f, self.batch = available()[NETWORK].build().model, batch
        self.x, _ = read("test", images)
        self.train, self.labels = read("train", examples)
        self.known = tuple(np.asarray(v) for v in each(uncertainty.answers, self.f, self.train, batch_size=batch))
        self.head = uncertainty.linear_head(self.f, self.x[0])

    @functools.cache  # noqa: B019
    def state(self, name: str, count: int | None = None) -> Any:
        """What a score is fitted by, to the first training examples; None of one that is not."""
        logits, features = (v[:count] for v in self.known)
        return fitted(name, features, logits, self.labels[:count], self.head)

    def call(self, fn: Callable, **options: Any) -> Callable[[], Any]:
        return lambda: jax.block_until_ready(each(fn, self.f, self.x, batch_size=self.batch, **options))


def read(split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    source = data.source(DATA, split=split)
    examples = [source[i] for i in range(min(count, len(source)))]
    return np.stack([e.pixels for e in examples]).astype(np.float32) / 255, np.asarray([e.label for e in examples])


def of_one_answer(world: World, args: argparse.Namespace) -> str:
    """The part `together`."""
    kinds = {"all of one answer": ONE_ANSWER, "and those with banks": (*ONE_ANSWER, *BANKS)}
    calls = {"forward": world.call(forward), "logits and features": world.call(uncertainty.answers)}
    calls |= {f"{label} ({len(kind)} scores)": world.call(together, fitted={name: world.state(name) for name in kind}) for label, kind in kinds.items()}
    times = turns(calls, args.rounds, args.clock)
    rows = [(label, both(seen), f"{len(world.x) / min(seen):.0f}", over(seen, times["forward"])) for label, seen in times.items()]
    return table((f"{len(world.x)} images", "s", "a second", "over the forward pass"), rows)


def alone(world: World, args: argparse.Namespace) -> str:
    calls = {"forward": world.call(forward)}
    for name in args.scores:
        state = world.state(name)
        calls[name] = world.call(getattr(uncertainty, name), **({} if state is None else {"fitted": state}))
    times = turns(calls, args.rounds, args.clock)
    return table(("score", "s", "over the forward pass"), [(name, both(seen), over(seen, times["forward"])) for name, seen in times.items()])


def state(world: World, args: argparse.Namespace) -> str:
    counts = sorted({max(len(world.train) // k, 1) for k in (10, 4, 1)})
    known = [name for name in args.scores if world.state(name) is not None]
    size = lambda name, n: sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(world.state(name, n))) / 1024
    return table(("KiB fitted to", *(f"{n} examples" for n in counts)), [(name, *(f"{size(name, n):.1f}" for n in counts)) for name in known])


def peer(world: World, args: argparse.Namespace) -> str:
    logits, features = (np.asarray(v) for v in each(uncertainty.answers, world.f, world.x, batch_size=world.batch))
    theirs = uncertainty_peer.calls(world.head, *world.known[::-1], world.labels, features, logits)
    rows = []
    for name, call in theirs.items():
        formula, known = getattr(formulas, name), world.state(name)
        run = jax.jit(lambda s, z, h, formula=formula: jax.lax.map(lambda row: formula(*row, s), (z, h), batch_size=500))
        ours = functools.partial(lambda run, s: jax.block_until_ready(run(s, jnp.asarray(logits), jnp.asarray(features))), run, known)
        times = turns({"ours": ours, "theirs": call}, args.rounds, args.clock)
        agree = np.corrcoef(np.asarray(ours()).argsort().argsort(), np.asarray(call()).argsort().argsort())[0, 1]
        rows.append((name, both(times["ours"]), both(times["theirs"]), over(times["theirs"], times["ours"]), f"{agree:.4f}"))
    return table((f"formulas of {len(world.x)} rows", "ours, s", "pytorch-ood, s", "peer / ours", "rank correlation"), rows)


PARTS = {"together": of_one_answer, "alone": alone, "state": state, "peer": peer}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=names(PARTS), default=list(PARTS), help="with commas between")
    parser.add_argument("--scores", type=names(POST_HOC), default=list(POST_HOC), help="of the parts alone and state, with commas between")
    parser.add_argument("--images", type=int, help="10000, or 1000 with --quick")
    parser.add_argument("--fitted", type=int, help="training examples: 10000, or 1000 with --quick")
    parser.add_argument("--batch", type=int, default=50, help="images at once")
    parser.add_argument("--rounds", type=int, help="3, or 1 with --quick")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    args.rounds = args.rounds or (1 if args.quick else 3)
    world = World(*(count or (1000 if args.quick else 10000) for count in (args.images, args.fitted)), args.batch)
    print(
        f"{CORES} cores, load {os.getloadavg()[0]:.1f}; {args.clock} time; jax {jax.__version__} on {jax.default_backend()}; batches of {args.batch}",
        flush=True,
    )
    for part in args.parts:
        try:
            print(f"\n{part}\n\n{PARTS[part](world, args)}", flush=True)
        except ImportError as error:
            print(f"\n{part}: without the peer: {error}", flush=True)
    print(f"\nload {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
