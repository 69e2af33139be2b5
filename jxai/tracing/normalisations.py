"""Finds the normalisations of a traced function: a value over its own norm or standard deviation, however it is spelled.

LayerNorm, RMSNorm, group and instance norms and the L2 norm divide v, or v less its mean, by a root r = h(v): y(λv) = y(v). With r held at its number, y is a
linear function of v. Both are tried on numbers, of large v, for which the ε below the root counts for nothing. A batch norm in its evaluation form has a root
that does not depend on x: an affine map, and none of these.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np

from jxai.tracing.interpret import Program, Step
from jxai.tracing.pieces import Flow, Piece, tolerance

_ROOTS = frozenset(("rsqrt", "sqrt", "pow"))
_SUMS = frozenset(("reduce_sum", "dot_general"))
_SHAPED = frozenset("broadcast_in_dim reshape squeeze expand_dims transpose copy convert_element_type".split())
_CENTRES = frozenset("reduce_sum broadcast_in_dim reshape squeeze expand_dims sub add mul div neg convert_element_type copy dot_general".split())
_LONGEST, _FARTHEST, _DEEPEST, _LARGE = 64, 24, 3, 1e3


@dataclasses.dataclass(frozen=True)
class Normalisation:
    """A normalisation; references are those of the program it was found in.

    Attributes:
      steps: those that compute the value from the argument, in order, the root among them.
      argument: v, before its mean is taken off. factor: the root, σ or 1/σ (or the square root of a sum), which holds the whole linear in v where
        it is held constant. value: the product or quotient in which it meets v again. inverse: whether the factor is 1/σ rather than σ.
      centred: whether a constant added to v changes nothing.
    """

    steps: tuple[Step, ...]
    argument: int
    factor: int
    value: int
    inverse: bool
    centred: bool


def normalisations(program: Program, start: set[int] | None = None) -> list[Normalisation]:
    """The normalisations of a program (one laid open `everywhere`), in order; of what depends on `start`, by default on x."""
    return _Finder(program, start).found()


class _Finder:
    def __init__(self, program: Program, start: set[int] | None) -> None:
        self.program, self.flow = program, Flow(program, start)
        self.known: dict[tuple, tuple[bool, bool] | None] = {}

    def found(self) -> list[Normalisation]:
        roots = [s for s in self.program.steps if s.primitive in _ROOTS and s.outputs[0] in self.flow.depends]
        kept = [one for root in roots for one in self.of(root)]
        return sorted(kept, key=lambda one: self.flow.place[id(one.steps[-1])])

    def of(self, root: Step) -> list[Normalisation]:
        """Those that end where the root, spread and scaled, is multiplied with or divides another value that depends on x."""
        reached, kept, failed = {root.outputs[0]}, [], 0
        for step in self.program.steps[self.flow.place[id(root)] + 1 :]:
            if reached.isdisjoint(step.inputs) or not (step.unit or step.primitive in _SHAPED):
                continue
            if set(self.flow.varying(step)) <= reached:
                reached.update(step.outputs)
            elif step.primitive in ("mul", "div"):
                one = self.read(root, step)
                if one is not None:
                    kept.append(one)
                    continue
                reached.update(step.outputs)  # of two norms that are multiplied first
                failed += 1
                if failed == _DEEPEST:
                    break
        return kept

    def read(self, root: Step, end: Step) -> Normalisation | None:
        factor, value = root.outputs[0], end.outputs[0]
        for argument in self.behind(factor, _FARTHEST):
            steps = self.flow.between([argument], factor)
            if sum(step.primitive in ("dot_general", "conv_general_dilated") for step in steps) > 1:  # one may be a sum of squares
                break
            piece, told = self.proved(argument, factor, value)
            if told is not None:
                argument, piece = self.uncentred(argument, factor, value, piece)
                return Normalisation(piece.steps, argument, factor, value, *self.proved(argument, factor, value)[1])  # type: ignore[misc]
        return None

    def behind(self, value: int, most: int) -> list[int]:
        """The values that everything which makes a value of x goes through; the nearest first."""
        found: list[int] = []
        front = {value}
        while front and len(found) < most:
            latest = max(front, key=lambda r: self.flow.place[id(self.program.makers[r])] if r in self.program.makers else -1)
            front.discard(latest)
            if not front and latest != value:
                found.append(latest)
            step = self.program.makers.get(latest)
            if latest in self.flow.start or step is None:
                break
            front.update(self.flow.varying(step))
        return found

    def proved(self, argument: int, factor: int, value: int) -> tuple[Piece, tuple[bool, bool] | None]:
        """The piece, and whether its factor is an inverse and it is centred; None where it is no normalisation. Equal pieces are tried once."""
        piece = Piece(self.program, self.flow.between([argument], value), argument, value)
        rooted = {r for step in piece.steps for r in step.outputs}
        if factor not in rooted or value not in rooted or len(piece.steps) > _LONGEST or not self.is_summed(argument, factor):
            return piece, None
        place = [r for step in piece.steps for r in step.outputs].index(factor)
        signature = (*piece.signature(), place)
        if signature not in self.known:
            self.known[signature] = _tried(piece, factor)
        return piece, self.known[signature]

    def is_summed(self, argument: int, factor: int) -> bool:
        """Whether the factor is a root of a sum of what is made of the argument."""
        return any(step.primitive in _SUMS for step in self.flow.between([argument], factor))

    def uncentred(self, argument: int, factor: int, value: int, piece: Piece) -> tuple[int, Piece]:
        """The value from which the argument is made by taking off its mean, if it is made so."""
        for above in self.behind(argument, _FARTHEST):
            steps = self.flow.between([above], argument)
            if any(step.primitive not in _CENTRES for step in steps) or len(steps) > _FARTHEST:
                break
            if self.program.avals[above].shape == self.program.avals[argument].shape and _projects(Piece(self.program, steps, above, argument)):
                whole, told = self.proved(above, factor, value)
                if told is not None:
                    return above, whole
        return argument, piece


def _tried(piece: Piece, factor: int) -> tuple[bool, bool] | None:
    """Whether the factor is 1/σ, and whether a constant changes nothing; None where the value changes with the argument's scale, or is not linear given the factor."""
    aval = piece.program.avals[piece.argument]
    if not jnp.issubdtype(aval.dtype, jnp.floating) or not jnp.issubdtype(piece.program.avals[piece.value].dtype, jnp.floating):
        return None
    near = 5 * tolerance(aval.dtype)
    u, v = _LARGE * piece.draw(1), _LARGE * piece.draw(2)
    tried = [piece(w, also=[factor], spread=_LARGE) for w in (v, 4 * v)]
    if tried[0] is None or tried[1] is None:
        return None
    (y, r), (scaled, root) = tried
    if not _same(y, scaled, near) or not np.isfinite(y).all() or not (y != 0).any():
        return None
    inverse = _same(root, r / 4, near)
    if not inverse and not _same(root, 4 * r, near):
        return None
    held = {factor: r}
    given = [piece(w, held, spread=_LARGE) for w in (u, v, u - v, np.zeros_like(v), v + _LARGE)]
    if any(one is None for one in given):
        return None
    a, b, difference, none, moved = (one[0] for one in given if one is not None)
    scale = np.abs(a).max() + np.abs(b).max()
    if not _same(difference - none, a - b, near, scale) or _same(a, b, near):
        return None
    return inverse, _same(moved, b, near, scale)


def _projects(piece: Piece) -> bool:
    """Whether a piece takes something off for good: linear, done twice the same as once, and not nothing."""
    near = 5 * tolerance(piece.program.avals[piece.argument].dtype)
    v = piece.draw(3) + 4.0
    once, opposite = piece(v), piece(-2 * v)
    twice = None if once is None else piece(once[0])
    if once is None or twice is None or opposite is None:
        return False
    return _same(twice[0], once[0], near) and _same(opposite[0], -2 * once[0], near) and not _same(once[0], v, near)


def _same(a: np.ndarray, b: np.ndarray, near: float, scale: float | None = None) -> bool:
    return bool((np.abs(a - b) <= near * (max(np.abs(b).max(initial=0), 1e-30) if scale is None else scale)).all())
