"""Counterfactuals of vectors brought nearer to x: each change is taken back or exchanged for another, and what lacks then is made up for by the cheapest move."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.tree_util import Partial

from jxai.counterfactual.search.constraints import OneHot, Ordinal, settled
from jxai.counterfactual.search.domain import Domain, clipped, unit
from jxai.counterfactual.search.loop import Candidate, Search
from jxai.counterfactual.search.norms import length
from jxai.scores import wide
from jxai.typing import Array, Model

Gap = Callable[[Array, Array, float | Array], Array]
"""`(logits, target, threshold) -> []`: what lacks to the target, in logits; 0 or less where it is reached."""

_MOVES, _NUMBERS = 12, 16
"""Moves in an exchange at most, and numbers that are looked at for each."""
_ROOM, _SLACK = 1e-4, 0.02
"""By which share a move goes beyond what a linear model needs, and by which it may before it is cut."""
_LESS = 1 - 1e-4
"""Nearer is by more than that share."""


def exchange(gap: Gap, domain: Domain, *, distance: str, threshold: float | Array, steps: int) -> Search:
    """A local search from a point that is there already (its own option `start`), for `Search.then`.

    One exchange at a time, that first which promises the least distance by the slopes at the best point: another category of a group, another level, a
    number back at x, or everything back. From there, until the target is reached, the move that covers the most of what lacks for its price, by the
    slopes where it stands: one number (for "l2" and "squared" all of them along the slope), a category or a level, but not of what was exchanged. A
    move that went too far is cut, by regula falsi. What comes out is kept where it is valid and nearer; then every exchange is open again.

    Args:
      gap: a module-level function. domain, distance, threshold: as in `wachter`. steps: at most.
    """
    options = dict(domain=domain, distance=distance, threshold=threshold)
    return Search(Partial(_init, options), Partial(_step, gap, options), steps, domain)


class _Choices(NamedTuple):
    """What categories and ordinals may be: `rows(v) [a, D]` has each in the place of v's, `held [a, D]` says which entries that are."""

    held: np.ndarray
    values: np.ndarray

    def rows(self, v: Array) -> Array:
        return jnp.where(self.held, self.values.astype(v.dtype), v)

    @property
    def numbers(self) -> np.ndarray:
        """`[D]`: the entries that are neither."""
        return np.asarray(~self.held.any(0))


def _choices(domain: Domain, size: int) -> _Choices:
    held: list[np.ndarray] = []
    values: list[np.ndarray] = []
    for constraint in domain.constraints:
        for group in constraint.groups if isinstance(constraint, OneHot) else ():
            held += [np.isin(np.arange(size), group)] * len(group)
            values += [(np.arange(size) == one).astype(float) for one in group]
        if isinstance(constraint, Ordinal):
            held += [np.arange(size) == constraint.feature] * len(constraint.levels)
            values += [np.full(size, level) for level in constraint.levels]
    return _Choices(np.asarray(held, bool).reshape(-1, size), np.asarray(values, float).reshape(-1, size))


class _Look(NamedTuple):
    """A point, the slope of what lacks there, and that."""

    v: Array
    slope: Array
    lack: Array


class _Space(NamedTuple):
    """Where an exchange takes place."""

    x: Array
    domain: Domain
    distance: str

    def project(self, v: Array) -> Array:
        return lax.stop_gradient(settled(clipped(v, self.domain.clip), self.x, self.domain.all))

    def far(self, v: Array) -> Array:
        return length((v - self.x) / self.scale, self.distance)

    @property
    def scale(self) -> Array:
        return jnp.broadcast_to(unit(self.domain.scale, self.x), self.x.shape)


def _init(options: dict[str, Any], f: Model, x: Array, target: Array, key: Array | None, region: Array | None = None, start: Array | None = None):
    v, trials = wide(x), 1 + len(_choices(options["domain"], x.size).held) + x.size
    zero, at = jnp.zeros((), v.dtype), _Look(v, jnp.zeros_like(v), jnp.zeros((), v.dtype))
    memory = {"x": x, "target": jnp.asarray(target), "region": options["domain"].region if region is None else region}
    memory |= {"best": at, "least": zero + jnp.inf, "given": zero + jnp.inf, "looks": jnp.int32(0), "tried": jnp.zeros(trials, bool)}
    memory |= {"held": jnp.zeros(x.size, bool), "moves": jnp.int32(0), "short": at._replace(lack=zero - 1)}
    return v if start is None else jnp.asarray(start, v.dtype), memory


def _step(gap: Gap, options: dict[str, Any], f: Model, v: Array, memory: dict[str, Any]) -> tuple[Array, dict[str, Any], Candidate]:
    kind, target, threshold = memory["x"].dtype, memory["target"], options["threshold"]
    space = _Space(wide(memory["x"]), dataclasses.replace(options["domain"], region=memory["region"]), options["distance"])

    def look(v: Array) -> tuple[Array, tuple[Array, Array]]:
        logits = wide(f(v.astype(kind)))
        return gap(logits, target, threshold).astype(v.dtype), (v.astype(kind), logits)

    (lack, (point, logits)), slope = jax.value_and_grad(look, has_aux=True)(v)
    here = _Look(v, jnp.where(jnp.isfinite(slope), slope, 0), lack)
    valid = (jax.nn.softmax(logits)[target] >= threshold) & (logits.argmax() == target) & space.domain.contains(point, memory["x"])
    far, first, before = space.far(wide(point)), memory["looks"] == 0, memory["short"]
    better = valid & (far < memory["least"] * _LESS)
    # Of a start that is not valid the slopes are known, at least.
    best = jax.tree.map(lambda new, old: jnp.where(better | first, new, old), here, memory["best"])
    least, given = jnp.where(better, far, memory["least"]), jnp.where(first & better, far, memory["given"])
    tried = memory["tried"] & ~better
    # What was reached by too long a move is cut to where the line through its ends is at 0.
    cut = valid & (before.lack > 0) & (-lack > _SLACK * before.lack) & (memory["moves"] < _MOVES)
    share = before.lack / jnp.where(before.lack - lack > 0, before.lack - lack, 1) * (1 + _ROOM)
    moved, some = _cheapest(here, memory["held"], space)
    ended = ~cut & (valid | first | (far >= least * _LESS) | (memory["moves"] >= _MOVES) | ~some)
    chosen, trial, held, left = _promising(best, least, tried, space)
    short = jax.tree.map(lambda a, b, c: jnp.where(ended, a, jnp.where(cut, b, c)), here._replace(lack=-jnp.ones_like(lack)), before, here)
    after = jnp.where(ended, trial, jnp.where(cut, space.project(before.v + jnp.minimum(share, 1) * (v - before.v)), moved))
    kept = {"best": best, "least": least, "given": given, "looks": memory["looks"] + 1, "short": short}
    kept |= {"tried": tried | (ended & (jnp.arange(tried.size) == chosen)), "held": jnp.where(ended, held, memory["held"])}
    cost = jnp.where(valid, far, lack)
    seen = Candidate(point, None, logits, better & (far < given * _LESS), cost, ended & ~left)
    return after, {**memory, **kept, "moves": jnp.where(ended, 0, memory["moves"] + 1)}, seen


def _cheapest(here: _Look, held: Array, space: _Space) -> tuple[Array, Array]:
    """The move from here that covers the most of what lacks for its price, by the slopes; and whether there is one."""
    (v, slope, lack), scale, choices = here, space.scale, _choices(space.domain, space.x.size)
    need = jnp.maximum(lack, 0) * (1 + _ROOM) + jnp.finfo(v.dtype).eps * (1 + jnp.abs(lack))
    free = choices.numbers & ~held
    # A number that is at an end, or frozen, stays where a probe moves it.
    free = free & (space.project(v - 1e-2 * scale * jnp.sign(slope)) != v)
    pull = jnp.where(free, slope * scale, 0)
    _, top = lax.top_k(jnp.abs(pull), min(_NUMBERS, v.size))
    way = jnp.zeros((top.size, v.size), v.dtype).at[jnp.arange(top.size), top].set((pull * scale)[top])
    if space.distance != "l1":
        way = jnp.concatenate([way, (pull * scale)[None]])
    gain = way @ slope
    numbers = v - jnp.where(gain > 0, need / jnp.where(gain > 0, gain, 1), 0)[:, None] * way
    rows = jax.vmap(space.project)(jnp.concatenate([numbers, choices.rows(v)]))
    gain, price = (v - rows) @ slope, jax.vmap(space.far)(rows) - space.far(v)
    allowed = (gain > 1e-3 * need) & ~((rows != v) & held).any(1)
    worth = jnp.where(allowed, jnp.minimum(gain, need) / jnp.maximum(price, jnp.finfo(v.dtype).tiny), -jnp.inf)
    return rows[jnp.argmax(worth)], allowed.any()


def _promising(best: _Look, least: Array, tried: Array, space: _Space) -> tuple[Array, Array, Array, Array]:
    """The exchange that promises the least distance: its number, the point that it begins at, what is held there, and whether any is left."""
    (v, slope, lack), x, choices = best, space.x, _choices(space.domain, space.x.size)
    rows = jax.vmap(space.project)(jnp.concatenate([x[None], choices.rows(v)]))
    far, short = jax.vmap(space.far)(rows), lack + (rows - v) @ slope
    d = jnp.where(choices.numbers, (v - x) / space.scale, 0)
    left = {"l1": jnp.abs(d), "l2": d**2, "squared": d**2 / 2}[space.distance]
    rest = space.far(v) - left if space.distance != "l2" else jnp.sqrt(jnp.maximum(space.far(v) ** 2 - left, 0))
    far, short = jnp.concatenate([far, rest]), jnp.concatenate([short, lack - (v - x) * slope])
    rate = jnp.abs(slope * space.scale).max()
    promised = far + jnp.maximum(short, 0) / jnp.where(rate > 0, rate, 1)
    changes = jnp.concatenate([(rows != v).any(1), d != 0])
    promised = jnp.where(changes & ~tried & (far < least * _LESS), promised, jnp.inf)
    chosen = jnp.argmin(promised)
    number = chosen - len(rows)
    back = space.project(jnp.where(jnp.arange(x.size) == number, x, v))
    trial = jnp.where(number >= 0, back, rows[jnp.clip(chosen, 0, len(rows) - 1)])
    held = jnp.concatenate([jnp.zeros((1, x.size), bool), jnp.asarray(choices.held)])[jnp.clip(chosen, 0, len(rows) - 1)]
    return chosen, trial, held & (number < 0), jnp.isfinite(promised).any()
