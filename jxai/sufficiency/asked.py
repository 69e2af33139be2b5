"""What every question about sufficient subsets begins with: its inputs checked and made arrays, and its answer compiled once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jxai.callables import compiled
from jxai.certificates import Digests, digests
from jxai.removal import fills
from jxai.removal.doubts import kept_by_fill, warn
from jxai.removal.fills import FillLike
from jxai.removal.masks import features
from jxai.scores import SHARES, check_example, check_target, objective
from jxai.sufficiency.subset import SufficientSubset, are_positions, keeping, last_crossing
from jxai.typing import Array, Model

THRESHOLD = 0.9
"""What suffices of a probability where nothing else is said."""


class Asked(NamedTuple):
    """The arrays of a question, and the fill."""

    x: Array
    label: Array
    labels: Array
    threshold: Array
    key: Array | None
    fill: FillLike
    more: Any = None
    """What else a search needs."""


class Shape(NamedTuple):
    """The static part of a question."""

    num: int
    alone: bool
    """Whether every position is a feature."""
    score: str

    def scores(self, f: Model, asked: Asked) -> Callable[[Array, Array], Array]:
        """`(held [num] in [0, 1], i) -> score` of x with the rest replaced; i counts the passes, for fills that draw noise."""
        removed, s = fills.remover(asked.x, asked.fill, asked.key), objective(f, asked.x, asked.label, self.score)
        return lambda held, i: s(removed(keeping(held, asked.labels, asked.x, self.alone), i))


class Removal(NamedTuple):
    """What a search did."""

    removed_at: Array
    """`[num]`, int32, the step; −1 of a feature that was gone before."""
    curve: Array
    """`[steps + 1]`, the score before each step and after the last; NaN where nothing was left."""


def ask(
    f: Model,
    x: Array,
    target: int | Array | None,
    key: Array | None,
    threshold: float | Array | None,
    fill: FillLike,
    segments: Array | None,
    grid: int | tuple[int, ...] | None,
    num_segments: int | None,
    score: str,
    more: Any = None,
) -> tuple[Asked, Shape]:
    """Checks a question and makes arrays of it.

    Raises:
      ValueError: bad x, target, threshold, fill, segments, grid or score; f(x) that is no vector.
    """
    check_example(x)
    objective(f, x, 0, score)
    if target is not None:
        check_target(target, jax.eval_shape(lambda v: f(v), x).shape[0])
    threshold = THRESHOLD if threshold is None and score in SHARES else threshold
    if threshold is None:
        raise ValueError(f"{threshold=} must be a number, since no logit is known to suffice; or use score='probability', where it is {THRESHOLD} by default")
    if score in SHARES and isinstance(threshold, (int, float)) and not 0 < threshold < 1:
        raise ValueError(f"{threshold=} must be a probability between 0 and 1")
    of = features(x, segments, grid, num_segments)
    if key is None:
        fills.resolve(fill, x, jnp.ones_like(x), key)  # says what is wrong with it
    label = (jnp.argmax(compiled(f, x)) if target is None else jnp.asarray(target)).astype(jnp.int32)
    asked = Asked(x, label, jnp.asarray(of.labels), jnp.asarray(threshold, jnp.float32), key, fill, more)
    return asked, Shape(of.num, are_positions(of.labels, of.num, x), score)


def answered(body: Callable, f: Model, asked: Asked, shape: Shape, **static: Any) -> tuple[Any, Digests | None]:
    """`body(f, asked, shape, **static)`, compiled once for each body and shape unless something is traced already; and what it is about."""
    about = digests(f, asked.x)
    if about is None or any(isinstance(v, jax.core.Tracer) for v in jax.tree.leaves(asked)):
        return body(f, asked, shape, **static), about
    return compiled(body, f, asked, shape, **static), about


class Found(NamedTuple):
    """A subset, of what a search removed."""

    held: Array
    value: Array
    fill: Array
    removal: Removal

    def certificate(self, asked: Asked, shape: Shape, about: Digests | None) -> SufficientSubset:
        """As a certificate."""
        return SufficientSubset(asked.label, self.held, asked.labels, self.fill, asked.threshold, self.value, *self.removal, shape.score, about)


def looked_at(certificate: SufficientSubset, f: Model, asked: Asked) -> SufficientSubset:
    """The certificate; warns where it is concrete, and vacuous or of a fill that is of the class by itself."""
    if isinstance(certificate.held, jax.core.Tracer) or np.ndim(certificate.value):
        return certificate
    if certificate.vacuous:
        warn(
            f"no feature is needed: with everything replaced by the fill the {certificate.score} of class {int(certificate.label)} is {float(certificate.value):.3g} "
            f"already, and the threshold {float(certificate.threshold):.3g}. This says nothing of x; take a fill that does not have the class, such as "
            "fills.Blur, fills.Mean or another number",
        )
    else:
        kept_by_fill("a sufficient subset", f, asked.x, asked.label, asked.fill, asked.key, score=certificate.score)
    return certificate


def smallest(asked: Asked, shape: Shape, removal: Removal, passes: Array) -> Found:
    """What is held at the last step before which the score was at the threshold; all that there was, where that itself is below it.

    Args:
      passes: `[steps + 1]`, the number of the pass that gave each score of the curve.
    """
    last = last_crossing(removal.curve, asked.threshold)
    held = removal.removed_at >= last
    mask = keeping(held, asked.labels, asked.x, shape.alone)
    key = None if asked.key is None else jax.random.fold_in(asked.key, passes[last])
    filled = jnp.broadcast_to(fills.resolve(fills.fixed(asked.fill, asked.x, asked.key), asked.x, mask, key), asked.x.shape)
    return Found(held, removal.curve[last], filled, removal)
