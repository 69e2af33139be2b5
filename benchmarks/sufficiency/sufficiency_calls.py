"""What benchmarks/sufficiency/sufficiency.py times: the searches, their bare passes, and exact selection as a loop on the host."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.measuring.measure import photographs
from jxai import data
from jxai.masks import regular
from jxai.models import available
from jxai.sufficiency import SufficientSubset, batched_gradient_sis, sis
from jxai.typing import Array, Model

THRESHOLD = 0.9
TIE = 1e-5
"""Probabilities closer than that are equal: one pass alone and the same pass in a batch differ by about so much."""
SOURCES = {"cifar10_resnet20": ("cifar10", {"split": "test"}), "digits_cnn": ("digits", {})}
"""Of a model's images; the others look at photographs."""


@functools.cache
def load(name: str, count: int) -> tuple[Model, Array, Array]:
    """The model, images `[count, …]` and the classes that it sees in them.

    Raises:
      ImportError, FileNotFoundError, ValueError: weights or images are missing.
    """
    model = available()[name].build()
    if name in SOURCES:
        of, options = SOURCES[name]
        x = data.load(data.source(of, **options), range(count), count, model.preprocess).x
    else:
        x = photographs(count)
    x = jnp.asarray(x)
    return model.model, x, jax.jit(lambda f, x: lax.map(f, x))(model.model, x).argmax(-1)


def descent(f: Model, x: Array, y: Array, key: Array | None, per_step: int) -> Callable:
    """A compiled call of `batched_gradient_sis` of a batch; without a key it adds no noise."""
    keys = None if key is None else jax.random.split(key, len(x))

    def one(f, v, t, key):
        return batched_gradient_sis(f, v, t, key, threshold=THRESHOLD, per_step=per_step, score="probability")

    run = jax.jit(jax.vmap(one, in_axes=(None, 0, 0, 0))).lower(f, x, y, keys).compile()
    call = lambda *_: jax.block_until_ready(run(f, x, y, keys))
    call.compile = lambda: run.memory_analysis().temp_size_in_bytes
    return call


def bare(f: Model, x: Array, y: Array, count: int, backward: bool) -> Callable:
    """A compiled call of `count` passes of a batch one after another, each of the image that the last one changed, so that none can be left out."""

    def score(f, v, t):
        return jax.nn.softmax(f(v))[t]

    def step(f, v, t):
        return v + 1e-6 * (jax.grad(score, 1) if backward else score)(f, v, t)

    def passes(f, x, y):
        return lax.scan(lambda v, _: (jax.vmap(step, (None, 0, 0))(f, v, y), None), x, None, length=count)[0]

    run = jax.jit(passes).lower(f, x, y).compile()
    return lambda: jax.block_until_ready(run(f, x, y))


def exact_calls(f: Model, x: Array, y: Array, grid: int, chunks: Sequence[int | None]) -> dict[str, Callable]:
    """`sis` of one image after another at each chunk, called as a user would, and the same on the host."""
    labels, one = np.asarray(regular(x.shape[1:3], grid)), jax.jit(lambda f, v, t: jax.nn.softmax(f(v))[t])

    def ours(chunk):
        return lambda: jax.block_until_ready([sis(f, v, t, threshold=THRESHOLD, grid=grid, chunk=chunk, score="probability") for v, t in zip(x, y)])

    calls = {"sis" if chunk is None else f"sis, chunk={chunk}": ours(chunk) for chunk in chunks}
    calls["on the host"] = lambda: [on_the_host(lambda v, t=t: float(one(f, v, t)), np.asarray(v), labels, grid**2) for v, t in zip(x, y)]
    return calls


def on_the_host(score: Callable, x: np.ndarray, labels: np.ndarray, num: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Backward selection as one would write it down.

    Returns:
      `held [num]`, the features in the order of their removal `[num]`, and the candidates' scores at each step `[num, num]`.
    """
    present, order, curve, scores = np.ones(num, bool), [], [score(x)], np.full((num, num), -np.inf)
    for step in scores:
        for i in np.flatnonzero(present):
            present[i] = False
            step[i] = score(x * present[labels][..., None].astype(x.dtype))
            present[i] = True
        order.append(step.argmax())
        present[order[-1]] = False
        curve.append(step.max())
    last = np.flatnonzero(np.asarray(curve) >= THRESHOLD)[-1] if curve[0] >= THRESHOLD else 0
    held = np.ones(num, bool)
    held[order[:last]] = False
    return held, np.asarray(order), scores


def agreement(ours: Sequence[SufficientSubset], theirs: Sequence[tuple]) -> str:
    """How many subsets and choices are the same.

    Raises:
      AssertionError: the first choice of an image that differs was no tie, so that one of both is wrong.
    """
    same, differ, gaps = 0, 0, []
    for mine, (held, order, scores) in zip(ours, theirs):
        same += bool((np.asarray(mine.held) == held).all())
        mine = np.argsort(np.asarray(mine.removed_at))
        places = np.flatnonzero(mine != order)
        differ += len(places)
        gaps += [float(scores[t, order[t]] - scores[t, mine[t]]) for t in places[:1]]
    assert not gaps or max(gaps) < TIE, f"choices differ at scores that do, by {max(gaps)}"
    why = f": each time the first was a tie, of scores at most {max(gaps):.1e} apart" if gaps else ""
    return f"The same subset in {same} of {len(ours)}; {differ} of {sum(len(order) for _, order, _ in theirs)} choices differ{why}"


class Descents:
    """A worker that says how much memory `batched_gradient_sis` needs, see `measure.py`."""

    def facts(self) -> dict:
        return {}

    def method(self, name: str, images: int, batch: int, options: dict) -> Callable:
        f, x, y = self._case = load(name, images)
        return descent(f, x, y, jax.random.key(0), -(-x[0, ..., 0].size // options["steps"]))

    def floor(self, batch: int, backward: bool) -> tuple[Callable, int]:
        f, x, y = self._case
        return bare(f, x[:batch], y[:batch], 1, backward), batch
