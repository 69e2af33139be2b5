"""Sine and cosine: curves that turn without end, with ranges by their crests and lines by where the slope of the line is theirs."""

from __future__ import annotations

import math

import jax.numpy as jnp

from jxai.bounds.region import Interval
from jxai.bounds.rules.curve import Curve, Lines, chord, closest, or_range
from jxai.typing import Array

_FAR = 2.0**18
"""Beyond this, float32 no longer says well where in its turn a wave is."""


def _wave(name: str, value, slope, shift: float) -> Curve:
    """`sin(x + shift)`."""

    def first(point: float | Array, l: Array) -> Array:
        """The first of `point − shift + 2πk` that is at least l."""
        return point - shift + 2 * math.pi * jnp.ceil((l - (point - shift)) / (2 * math.pi))

    def last(point: float | Array, u: Array) -> Array:
        return point - shift + 2 * math.pi * jnp.floor((u - (point - shift)) / (2 * math.pi))

    def known(l: Array, u: Array) -> Array:
        return (jnp.abs(l) < _FAR) & (jnp.abs(u) < _FAR)

    def range_(l: Array, u: Array) -> Interval:
        near = known(l, u)
        l, u = jnp.where(near, l, 0), jnp.where(near, u, 0)
        a, b = value(l), value(u)
        crest, trough = first(0.5 * math.pi, l) <= u, first(-0.5 * math.pi, l) <= u
        lower, upper = jnp.where(trough, -1, jnp.minimum(a, b)), jnp.where(crest, 1, jnp.maximum(a, b))
        return Interval(jnp.where(near, lower, -1.0), jnp.where(near, upper, 1.0))

    def lines(l: Array, u: Array, t: Array | None) -> Lines:
        ends = range_(l, u)
        near = known(l, u)
        l, u = jnp.where(near, l, 0), jnp.where(near, u, 0)
        middle = 0.5 * l + 0.5 * u
        tangent = slope(middle)
        slopes = jnp.stack([tangent, chord(l, u, value(l), value(u), tangent), slope(l), slope(u), jnp.zeros_like(l)])
        slopes = jnp.clip(slopes, -1, 1)
        # value(x) − s·x is greatest or least at an end, or where the slope is s: of all such x, at the first or the last within [l, u].
        angle = jnp.arccos(slopes)
        at = [l, u, *(jnp.clip(end(turn, edge), l, u) for turn in (angle, -angle) for end, edge in ((first, l), (last, u)))]
        offsets = jnp.stack([value(x) - slopes * x for x in at])
        # Where x is off by δ, the difference there is off by δ² / 2.
        off = 16 * float(jnp.finfo(l.dtype).eps) * (jnp.maximum(jnp.abs(l), jnp.abs(u)) + 2 * math.pi) + 2 * float(jnp.finfo(l.dtype).eps) ** 0.5
        slack = 0.5 * off**2
        return or_range(near, closest(slopes, offsets.min(0) - slack, offsets.max(0) + slack, middle), ends)

    return Curve(name, value, range_, lines, absolute=True)


SIN = _wave("sin", jnp.sin, jnp.cos, 0.0)
COS = _wave("cos", jnp.cos, lambda x: -jnp.sin(x), 0.5 * math.pi)
