"""Finds the softmaxes of a traced function, however they are spelled: `jax.nn.softmax`, exponentials over their sum, the exponential of a log-softmax.

A value p is a softmax of a value v if it is softmax(v) along some axes of v's own, whatever else its steps read: a maximum that is subtracted, a mask. Both
are tried on numbers; what a mask leaves out has p = 0, and a row that a mask leaves out whole tells nothing. The argument is the first value of which p is the
softmax: before a constant mask and before the shift, after the scale and after a bias.
"""

from __future__ import annotations

import dataclasses
import itertools

import jax.numpy as jnp
import numpy as np

from jxai.tracing.interpret import Program, Step
from jxai.tracing.pieces import Flow, Piece, tolerance

_EXPONENTIALS = frozenset(("exp", "exp2", "expm1"))
_ALONG = frozenset("reduce_sum reduce_max reduce_min reduce_and reduce_or broadcast_in_dim reshape squeeze expand_dims transpose dot_general".split())
_LONGEST, _MOST_ARGUMENTS, _SPREAD = 64, 16, 2.0


@dataclasses.dataclass(frozen=True)
class Softmax:
    """A softmax; references are those of the program it was found in.

    Attributes:
      steps: those that compute the value from the argument, in order. Whatever else they read (a mask, a maximum of the argument), the value does
        not change with it, but where a mask makes it 0.
      argument: the logits. value: the probabilities, of the same shape, 0 where a mask says so. axes: those along which they add up to 1.
    """

    steps: tuple[Step, ...]
    argument: int
    value: int
    axes: tuple[int, ...]


def softmaxes(program: Program, start: set[int] | None = None) -> list[Softmax]:
    """The softmaxes of a program (one laid open `everywhere`), in order; of what depends on `start`, by default on x."""
    return _Finder(program, start).found()


class _Finder:
    def __init__(self, program: Program, start: set[int] | None) -> None:
        self.program, self.flow = program, Flow(program, start)
        self.plain: dict[int, frozenset[int]] = {}
        """The exponentials that a value is made of, entry by entry; and those that it is made of the sums of."""
        self.summed: dict[int, frozenset[int]] = {}
        self.kept: dict[int, Softmax] = {}
        self.known: dict[tuple, tuple[int, ...] | None] = {}

    def found(self) -> list[Softmax]:
        for step in self.program.steps:
            varying = self.flow.varying(step)
            if not varying or len(step.outputs) != 1 or not (step.unit or step.primitive in _ALONG):
                continue
            value = step.outputs[0]
            plain, summed = (frozenset().union(*(known.get(r, ()) for r in varying)) for known in (self.plain, self.summed))
            if step.primitive in ("reduce_sum", "dot_general"):
                plain, summed = frozenset(), summed | plain
            over = step.unit and any(self.summed.get(r) for r in varying)
            if over and (step.primitive in _EXPONENTIALS or (plain and summed) or not self.kept.keys().isdisjoint(varying)):
                self.read(value, plain | ({value} if step.primitive in _EXPONENTIALS else set()))
            if step.primitive in _EXPONENTIALS:
                plain |= {value}
            self.plain[value], self.summed[value] = plain, summed
        return [self.kept[r] for r in sorted(self.kept, key=lambda r: self.flow.place[id(self.program.makers[r])])]

    def read(self, value: int, exponentials: frozenset[int] | set[int]) -> None:
        """Keeps the value, if it is a softmax of something that one of these exponentials is of."""
        shape, dtype = self.program.avals[value].shape, self.program.avals[value].dtype
        if not shape or not jnp.issubdtype(dtype, jnp.floating):
            return
        best = None
        for argument in self.arguments(exponentials, shape):
            steps = self.flow.between([argument], value)
            if not steps or len(steps) > _LONGEST or any(not step.unit and step.primitive not in _ALONG for step in steps):
                continue
            axes = self.proved(Piece(self.program, steps, argument, value))
            if axes is not None:
                best = Softmax(steps, argument, value, axes)
        if best is None:
            return
        inside = {id(step) for step in best.steps}
        within = [r for r in self.kept if id(self.program.makers[r]) in inside]
        if any(r in self.program.outputs or any(id(user) not in inside for user in self.flow.users.get(r, ())) for r in within):
            return
        for r in within:
            del self.kept[r]
        self.kept[value] = best

    def arguments(self, exponentials: frozenset[int] | set[int], shape: tuple[int, ...]) -> list[int]:
        """What an exponential is a function of, entry by entry; the nearest first."""
        near: dict[int, int] = {}
        ask = [r for exp in exponentials for r in self.flow.varying(self.program.makers[exp])]
        while ask:
            r = ask.pop()
            aval, step = self.program.avals[r], self.program.makers.get(r)
            if r in near or aval.shape != shape or not jnp.issubdtype(aval.dtype, jnp.floating):
                continue
            near[r] = -1 if step is None else self.flow.place[id(step)]
            if step is not None and step.unit:
                ask.extend(self.flow.varying(step))
        return sorted(near, key=lambda r: -near[r])[:_MOST_ARGUMENTS]

    def proved(self, piece: Piece) -> tuple[int, ...] | None:
        """The axes along which the piece is a softmax; None where it is none. Equal pieces are tried once."""
        signature = piece.signature()
        if signature not in self.known:
            self.known[signature] = _axes(piece)
        return self.known[signature]


def _axes(piece: Piece) -> tuple[int, ...] | None:
    """Along which axes a piece is a softmax of its argument at two arguments, and 0 at the same places."""
    tried = []
    for seed in (1, 2):
        v = (_SPREAD * piece.draw(seed)).astype(piece.program.avals[piece.argument].dtype).astype(np.float64)
        found = piece(v)
        if found is None:
            return None
        tried.append((v, found[0]))
    (v, p), (w, q) = tried
    shape = p.shape
    wide = [a for a, size in enumerate(shape) if size > 1]
    near = tolerance(piece.program.avals[piece.value].dtype)
    if not np.array_equal(p > 0, q > 0):
        return None
    if (p == 1).all() and (q == 1).all():  # of one entry
        summed = [s for s in piece.steps if s.primitive == "reduce_sum" and len(piece.program.avals[s.inputs[0]].shape) == len(shape)]
        axes = tuple(int(a) for a in summed[-1].param("axes")) if summed else ()
        return axes if axes and all(shape[a] == 1 for a in axes) else None
    for count in range(1, len(wide) + 1):
        for axes in itertools.combinations(wide, count):
            if _is_softmax(p, v, q, axes, near) and _is_softmax(q, w, p, axes, near):
                return axes
    return None


def _is_softmax(p: np.ndarray, v: np.ndarray, other: np.ndarray, axes: tuple[int, ...], near: float) -> bool:
    """Whether p is the softmax of v over what p leaves, but for rows that are the same (`other`) for every v: those are masked."""
    masked = ((p == other) | (np.isnan(p) & np.isnan(other))).all(axes)
    if masked.all() or not np.allclose(p.sum(axes)[~masked], 1, atol=10 * near):
        return False
    e = np.where(p > 0, np.exp(v - v.max(axes, keepdims=True)), 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = np.abs(e / e.sum(axes, keepdims=True) - p).max(axes)
    return bool((apart[~masked] <= near).all())
