"""A subset of the features that suffices: shown alone, with a fill in place of all else, it brings the model's score to a threshold."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jxai.callables import compiled
from jxai.certificates import Digests, Verdict, judged
from jxai.removal.fills import remove
from jxai.removal.masks import position_shape, positions, spread
from jxai.scores import check_example, objective, scored, wide
from jxai.typing import Array, Model

__all__ = ["SufficientSubset"]

ROUNDING = 1e-5
"""By which a checked score may miss its threshold: one pass alone and the same pass in a batch differ by about so much."""


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["label", "held", "segments", "fill", "threshold", "value", "removed_at", "curve"],
    meta_fields=["score", "digests"],
)
@dataclasses.dataclass(frozen=True)
class SufficientSubset:
    """The claim that f's score of the class `label` is at least `threshold` where x is held and everything else is replaced by `fill`.

    Attributes:
      label: `[]`, int32. held: `[num]`, booleans. segments: label map over the positions of x; those of no feature are held.
      fill: `[*shape of x]`, what replaces the rest, as the array that it was. threshold: `[]`.
      value: `[]`, the score that was found. removed_at: `[num]`, int32, the step of the search at which each feature was removed, from 0; −1
        where it was gone before. curve: `[steps + 1]`, the score before each step and after the last one, NaN where nothing was left to
        remove. These three are no part of the claim.
      score: `"logit"`, `"probability"` or `"sigmoid"`.
      digests: of x and of the weights; None where it was made under a trace.
    """

    label: Array
    held: Array
    segments: Array
    fill: Array
    threshold: Array
    value: Array
    removed_at: Array
    curve: Array
    score: str
    digests: Digests | None

    @property
    def holds(self) -> Array:
        """`[]`: whether the subset suffices; if not, all that the search began with is held, and not even that did."""
        return self.value >= self.threshold

    @property
    def vacuous(self) -> Array:
        """`[]`: whether it holds of no feature: what replaces x has the score by itself, so that the claim says nothing of x."""
        return self.holds & ~self.held.any(-1)

    @property
    def size(self) -> Array:
        """`[]`: how many features are held."""
        return self.held.sum(-1)

    @property
    def mask(self) -> Array:
        """1 where x is held, else 0: `[H, W, 1]` for an image, `[D]` for a vector."""
        return keeping(self.held, self.segments, self.fill, False)

    def shown(self, x: Array) -> Array:
        """x with everything else replaced: what the model sees."""
        return remove(x, self.mask, self.fill)

    def _repr_html_(self) -> str:
        from jxai.views import html, images

        rows = {
            "holds": self.holds,
            "label": self.label,
            "held": self.held,
            self.score: self.value,
            "threshold": self.threshold,
            "says nothing of x": self.vacuous,
        }
        return html.table("SufficientSubset", rows, lambda: images.several(self.mask, np.ndim(self.label), "held"), html.about(self.digests))

    def check(self, f: Model, x: Array) -> Verdict:
        """One forward pass: whether the score of what is shown reaches the threshold, up to `ROUNDING`."""
        check_example(x)
        if x.shape != self.fill.shape:
            raise ValueError(f"x has shape {x.shape}, but the certificate's fill {self.fill.shape}")
        objective(f, x, int(self.label), self.score)
        logits = wide(compiled(f, self.shown(x)))
        value = scored(logits, self.score)[self.label]
        return judged(f, x, self.digests, {self.score: float(value)}, {self.score: float(self.threshold) - ROUNDING})


def last_crossing(curve: Array, threshold: Array) -> Array:
    """`[]`, int32: the last place of the curve that is at the threshold or above; 0 where the first one is not. NaN counts as below."""
    reached = (curve >= threshold) & (curve[0] >= threshold)
    return jnp.max(jnp.where(reached, jnp.arange(curve.shape[0], dtype=jnp.int32), 0))


def are_positions(labels: Array, num: int, x: Array) -> bool:
    """Whether the features are the positions of x one by one and in their order, so that nothing needs to be gathered."""
    if isinstance(labels, jax.core.Tracer) or num != np.prod(positions(x)):
        return False
    return bool((np.asarray(labels).ravel() == np.arange(num)).all())


def keeping(held: Array, labels: Array, x: Array, alone: bool) -> Array:
    """Of `[num]` in [0, 1] the mask over positions; alone: of features that `are_positions`."""
    held = held.astype(wide(x).dtype)
    return held.reshape(position_shape(x)) if alone else spread(held, labels, x, outside=1.0)
