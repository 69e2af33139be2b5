"""Explanations by verified bounds: the whole neighbourhood of x counts, not the points of it that somebody drew."""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from jxai.attribution.overlap import overlaps, parts, rivals, worst
from jxai.callables import Static, partition, plainly
from jxai.certificates import Digests, Verdict, digests, judged
from jxai.removal.masks import Features, as_map, default_grid, features, spread
from jxai.scores import check_example, wide
from jxai.typing import Array, Model

__all__ = ["EvaCertificate", "eva", "eva_certificate"]

_TOLERANCE = 1e-4
"""Of the largest bound: what bounds may differ by between two devices or two ways to order a sum."""


@plainly
def eva(
    f: Model,
    x: Array,
    target: int | Array,
    key: Array | None = None,
    *,
    radius: float | Array,
    p: float = math.inf,
    clip: tuple[float, float] | None = None,
    objective: str = "overlap",
    bound: str = "crown",
    per_group: bool = True,
    adversary: int | Array | None = None,
    layer: int | str | None = None,
    num_samples: int = 128,
    segments: Array | None = None,
    grid: int | tuple[int, ...] | None = None,
    num_segments: int | None = None,
    rounding: str = "nearest",
    chunk: int | None = None,
) -> Array:
    """EVA: how much of the verified adversarial overlap goes when a group of features u is held, `a_u = AÔ(B) − AÔ(B_u)`.

    B is the ball of the radius around x, `B_u = {v ∈ B: v_u = x_u}`, and `AÔ(B) ≥ max_{v ∈ B, j ≠ c} f_j(v) − f_c(v)`, c the target: how far
    another class may come above it. No point of the ball is left out. A large value: without u, an attacker achieves little.

    Args:
      f: a model `x -> logits [K]`, K ≥ 2. x: one example of any rank. target: c, as a rule the predicted class. key: for `layer`.
      radius: >= 0, a number or an array that broadcasts against x, in units of x. p: of the ball's norm, 1, 2 or `math.inf`.
      clip: (low, high), the valid range of entries that the ball is cut to; x must lie within it.
      objective: "overlap", from bounds of the logits, `max_{j ≠ c} upper_j − lower_c` (the paper's); "margin", the tighter bounds of the
        differences `f_j − f_c` themselves.
      bound: "interval", "forward", "crown_ibp", "crown" or "alpha_crown", see `jxai.bounds`.
      per_group: True: bounds anew for every B_u (the paper's). False: one pass over B gives linear functions that bound f on B, hence on
        every B_u; each overlap is their greatest value there. Just as sound, mostly looser; for "forward", "crown_ibp" and "crown".
      adversary: the class j, in place of the greatest over all j ≠ c.
      layer: as in `jxai.taps.find`; the paper's hybrid for large models: the box that the layer's values at `num_samples` points drawn from
        B (from B_u) fill is taken for what the layer can do, and the rest of the network is verified on it. What holds is that no value in
        the box leads to a greater overlap, so none of the drawn points does; a point that was not drawn may: it is not sound for the ball.
      num_samples: points drawn for B and for each B_u, for `layer` alone.
      segments: integer label map over the positions of x; groups are its labels.
      grid: cells along every position axis instead; by default the entries of a vector, else 8 along every axis.
      num_segments: the number of labels, static; needed where `segments` is traced.
      rounding: "nearest", or "outward" for bounds that hold in floating point too.
      chunk: groups (with `layer`, points) at once; None: `jxai.loops.at_once` for "interval" and `per_group=False`, else a 16th of it.

    Returns:
      `[H, W, 1]` for an image, `[T, H, W, 1]` for a video, `[D]` for a vector, in units of logits: a group's whole drop, not shared out among
      its positions. 0 for positions of no group, which move always. NaN where both overlaps are infinite, for a traced target or adversary
      out of range, an adversary that is the target, or x that is not finite.

    Raises:
      ValueError: bad segments, grid, radius, p, clip, x, target (None among them), adversary or option; a layer that a skip connection
        passes by; a primitive of f without a rule.

    Cost: d + 1 bounds for d groups (one with `per_group=False`), a forward and a backward pass for each of their neurons ("interval": two forward passes).
      A layer: `(d + 1) · num_samples` forward passes more.

    Reference: Fel et al. 2023, "Don't Lie to Me! Robust and Efficient Explainability with Verified Perturbation Analysis", CVPR, arXiv 2202.07728.
    """
    check_example(x)
    groups = features(x, segments, default_grid(x, segments, grid), num_segments)
    options = dict(radius=radius, p=p, clip=clip, objective=objective, bound=bound, per_group=per_group, adversary=adversary, rounding=rounding)
    found = overlaps(f, x, target, key, groups, **options, layer=layer, num_samples=num_samples, chunk=chunk)
    return as_map(spread(found[-1] - found[:-1], groups.labels, x), x)


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["target", "adversary", "lower", "upper", "segments", "radius"],
    meta_fields=["p", "clip", "objective", "bound", "per_group", "rounding", "digests"],
)
@dataclasses.dataclass(frozen=True)
class EvaCertificate:
    """The claim that the adversarial overlap of f around x lies in `[lower, upper[u]]` with group u held, and in `[lower, upper[-1]]` with none.

    Attributes:
      target, adversary: `[]`, int32; the adversary None for all other classes.
      lower: `[]`, the overlap at x itself. upper: `[num + 1]`, the verified ones.
      segments: label map over the positions of x: the groups. radius: `[*shape of x]`. p, clip: of the ball.
      objective, bound, per_group, rounding: how the upper ends were found, and are found again. digests: of x and of the weights.
    """

    target: Array
    adversary: Array | None
    lower: Array
    upper: Array
    segments: Array
    radius: Array
    p: float
    clip: tuple[float, float] | None
    objective: str
    bound: str
    per_group: bool
    rounding: str
    digests: Digests | None

    @property
    def attribution(self) -> Array:
        """The map that these intervals support: `eva` with the same options."""
        return spread(self.upper[-1] - self.upper[:-1], self.segments, self.radius)

    def _repr_html_(self) -> str:
        from jxai.views import html, images

        rows = {
            "target": self.target,
            "adversary": self.adversary,
            "overlap at x": self.lower,
            "verified with none held": self.upper[..., -1],
            "with a group": self.upper[..., :-1],
        }
        rows |= {"radius": self.radius, "p": self.p, "bound": f"{self.bound} of {self.objective}, rounded {self.rounding}"}
        return html.table("EvaCertificate", rows, lambda: images.several(self.attribution, np.ndim(self.target), "attribution"), html.about(self.digests))

    def check(self, f: Model, x: Array) -> Verdict:
        """Bounds of this model around x anew: whether none exceeds the claimed upper ends, nor the claimed lower end the overlap at x.

        Both up to 1e-4 of the largest claimed end. An upper end that is claimed higher than what is found is a weaker claim, and passes.
        """
        check_example(x)
        if x.shape != self.radius.shape:
            raise ValueError(f"x has shape {x.shape}, but the certificate's radius {self.radius.shape}")
        lower, upper = _intervals(f, x, self)
        room = jnp.where(self.upper == jnp.inf, jnp.inf, self.upper - upper).min()
        scale = jnp.maximum(jnp.abs(self.lower), jnp.where(jnp.isfinite(self.upper), jnp.abs(self.upper), 0).max())
        values = {"upper": float(room), "lower": float(lower - self.lower)}
        return judged(f, x, self.digests, values, dict.fromkeys(values, -_TOLERANCE * float(scale) - 1e-30))


def eva_certificate(
    f: Model,
    x: Array,
    target: int,
    *,
    radius: float | Array,
    p: float = math.inf,
    clip: tuple[float, float] | None = None,
    objective: str = "overlap",
    bound: str = "crown",
    per_group: bool = True,
    adversary: int | None = None,
    segments: Array | None = None,
    grid: int | tuple[int, ...] | None = None,
    rounding: str = "outward",
) -> EvaCertificate:
    """The intervals that an EVA map rests on, for `jxai.certificates.verify` and `save`; on the host.

    Args:
      f, x, target, and all options: as in `eva`. (Its hybrid proves nothing about the ball, so there is no `layer`.)

    Returns:
      The certificate; its `attribution` is the map.

    Raises:
      ValueError: as `eva`, and under a trace.

    Cost: that of `eva`; so does its check.
    """
    check_example(x)
    groups = features(x, segments, default_grid(x, segments, grid))
    rivals(f, x, target, adversary)
    parts(x, groups, radius, p, clip)  # says what is wrong with them here, where they are concrete
    about = digests(f, x)
    if about is None:
        raise ValueError("eva_certificate works on the host: f and x must be concrete; eva gives the map under a trace")
    whole = jnp.broadcast_to(jnp.asarray(radius, wide(x).dtype), x.shape)
    other = None if adversary is None else jnp.asarray(adversary, jnp.int32)
    empty = jnp.zeros(groups.num + 1), jnp.asarray(groups.labels), whole
    made = EvaCertificate(jnp.asarray(target, jnp.int32), other, jnp.zeros(()), *empty, p, clip, objective, bound, per_group, rounding, about)
    lower, upper = _intervals(f, x, made)
    return dataclasses.replace(made, lower=lower, upper=upper)


def _intervals(f: Model, x: Array, made: EvaCertificate) -> tuple[Array, Array]:
    """The overlap at x, and its upper bounds on every part, for the question that a certificate answers."""
    arrays, model = partition(f)
    rivals(f, x, int(made.target), None if made.adversary is None else int(made.adversary))
    return _compiled(arrays, x, dataclasses.replace(made, digests=None), model=model)


@functools.partial(jax.jit, static_argnames=("model",))
def _compiled(arrays: list[Array], x: Array, made: EvaCertificate, *, model: Static) -> tuple[Array, Array]:
    f, groups = model.combine(arrays), Features(made.segments, made.upper.shape[0] - 1)
    names = ("radius", "p", "clip", "objective", "bound", "per_group", "adversary", "rounding")
    upper = overlaps(f, x, made.target, None, groups, **{name: getattr(made, name) for name in names})
    logits = wide(f(x))
    return worst(logits - logits[made.target], made.target, made.adversary), upper
