"""Two likely labels: sets of segments whose removal shows that they rest on different parts of x, or on the same."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jxai.callables import compiled
from jxai.certificates import Digests, Verdict, judged
from jxai.removal.fills import remove
from jxai.removal.masks import spread
from jxai.scores import check_example, scored, wide
from jxai.sufficiency.subset import ROUNDING
from jxai.typing import Array, Model

__all__ = ["DisjointPair", "OverlappingPair"]


@dataclasses.dataclass(frozen=True)
class _Pair:
    labels: Array
    removed: Array
    segments: Array
    fill: Array
    delta: Array
    shares: Array
    whole: Array
    score: str
    digests: Digests | None

    @property
    def holds(self) -> Array:
        """`[]`: whether what was found shows it at δ."""
        return self.reached >= self.delta

    @property
    def size(self) -> Array:
        """Segments of each set."""
        return self.removed.sum(-1)

    def _repr_html_(self) -> str:
        from jxai.views import html, images

        rows = {"holds": self.holds, "labels": self.labels, "δ": self.delta, "reached": self.reached, "segments removed": self.size}
        rows |= {f"{self.score} of x": self.whole, "shares left": self.shares}

        def removed() -> list[html.Picture]:
            like = self.fill[0] if self.removed.ndim > 1 else self.fill
            sets = self.removed if self.removed.ndim > 1 else self.removed[None]
            return [images.picture(kept(one, self.segments, like), "kept") for one in sets]

        return html.table(type(self).__name__, rows, removed if np.ndim(self.labels) == 1 else lambda: (), html.about(self.digests))

    def _shares(self, f: Model, x: Array) -> tuple[Array, Array]:
        """The labels' scores of x, and as shares of these those of each of what is shown; one pass for each."""
        check_example(x)
        if self.fill.shape[self.fill.ndim - x.ndim :] != x.shape:
            raise ValueError(f"x has shape {x.shape}, but the certificate's fill {self.fill.shape}")
        shown = self.shown(x).reshape(-1, *x.shape)
        scores = jnp.stack([of_labels(compiled(f, v), self.labels, self.score) for v in (x, *shown)])
        return scores[0], scores[1:] / scores[0]


_registered = functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=[field.name for field in dataclasses.fields(_Pair) if field.name not in ("score", "digests")],
    meta_fields=["score", "digests"],
)


@_registered
@dataclasses.dataclass(frozen=True)
class DisjointPair(_Pair):
    """The claim that two labels rest on different parts: δ-disjoint.

    There are disjoint sets of segments A and B such that x without A has `f_a <= (1 − δ) f_a(x)` and `f_b >= δ f_b(x)`, and x without B the reverse.

    Attributes:
      labels: `[2]`, a and b. removed: `[2, num]`, booleans, A and B. segments: label map over the positions of x. fill: `[2, *shape of x]`, what
        replaces each, as the arrays that it was. delta: `[]`, δ.
      shares: `[2, 2]`, the scores of a and b without A, and without B, over those of x. whole: `[2]`, those of x. No part of the claim.
      score: `"logit"`, `"probability"` or `"sigmoid"`. digests: of x and of the weights; None where it was made under a trace.
    """

    @property
    def reached(self) -> Array:
        """`[]`: the largest δ for which these sets show it."""
        return jnp.minimum(apart(self.shares[..., 0, :]), apart(self.shares[..., 1, ::-1]))

    def shown(self, x: Array) -> Array:
        """`[2, *shape of x]`: x without A and without B."""
        return jnp.stack([without(x, removed, self.segments, fill) for removed, fill in zip(self.removed, self.fill)])

    def check(self, f: Model, x: Array) -> Verdict:
        """Three forward passes: x, and x without each set."""
        whole, shares = self._shares(f, x)
        values = {"disjoint": float(~(self.removed[0] & self.removed[1]).any()), "score": float(whole.min())}
        values |= {"without_first": float(apart(shares[0])), "without_second": float(apart(shares[1, ::-1]))}
        least = float(self.delta) - ROUNDING
        return judged(f, x, self.digests, values, {"disjoint": 0.0, "score": 0.0, "without_first": least, "without_second": least})


@_registered
@dataclasses.dataclass(frozen=True)
class OverlappingPair(_Pair):
    """The claim that two labels rest on the same part: δ-overlapping. x without one set of segments has both scores at most `1 − δ` of those of x.

    To remove everything shows nothing, since it lowers every score: the fewer segments, the more the claim says.

    Attributes:
      removed: `[num]`, booleans. fill: `[*shape of x]`. shares: `[2]`, both scores without the set over those of x. All others as in `DisjointPair`.
    """

    @property
    def reached(self) -> Array:
        """`[]`: the largest δ for which this set shows it."""
        return together(self.shares)

    def shown(self, x: Array) -> Array:
        """x without the set."""
        return without(x, self.removed, self.segments, self.fill)

    def check(self, f: Model, x: Array) -> Verdict:
        """Two forward passes: x, and x without the set."""
        whole, shares = self._shares(f, x)
        values = {"score": float(whole.min()), "without": float(together(shares[0]))}
        return judged(f, x, self.digests, values, {"score": 0.0, "without": float(self.delta) - ROUNDING})


def apart(shares: Array) -> Array:
    """`[..., 2] -> [...]`: the largest δ with `first <= 1 − δ` and `second >= δ`."""
    return jnp.minimum(1 - shares[..., 0], shares[..., 1])


def together(shares: Array) -> Array:
    """`[..., 2] -> [...]`: the largest δ with both `<= 1 − δ`."""
    return 1 - shares.max(-1)


def without(x: Array, removed: Array, segments: Array, fill: Array) -> Array:
    """x with the segments `[num]` that are removed replaced."""
    return remove(x, kept(removed, segments, x), fill)


def kept(removed: Array, segments: Array, x: Array) -> Array:
    """The mask over positions that is 0 in the segments `[num]` that are removed."""
    return spread((~removed).astype(wide(x).dtype), segments, x, outside=1.0)


def pair_scores(f: Model, x: Array, labels: Array, score: str) -> Array:
    """`[2]`: both labels' scores of x."""
    return of_labels(f(x), labels, score)


def of_labels(logits: Array, labels: Array, score: str) -> Array:
    """`[2]`: the scores of two labels in logits `[K]`; NaN for one out of range."""
    values = scored(wide(logits), score)
    return values.at[labels].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)
