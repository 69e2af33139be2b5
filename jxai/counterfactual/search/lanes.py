"""Many searches at once: blocks of steps with what is done taken out and new work taken in, so that the cost follows the steps needed."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jxai.callables import Fresh, Static, partition, plainly
from jxai.counterfactual.search import Counterfactual, Search, State, advance, begin, check_search, further, result
from jxai.counterfactual.search.domain import check_examples
from jxai.loops import at_once, while_loop
from jxai.scores import num_classes, positive
from jxai.typing import Array, Model, PyTree

__all__ = ["Progress", "run"]


class Progress(NamedTuple):
    """How far a run of searches is."""

    done: int
    """Searches that have ended."""
    total: int
    valid: int
    """Of the ended ones."""
    passes: int
    """Steps that were computed so far, those of lanes that were done or empty among them."""


@plainly
def run(
    search: Search,
    f: Model,
    x: Array,
    target: Array,
    key: Array | None = None,
    *,
    restarts: int | None = None,
    per_example: Mapping[str, Array] | None = None,
    index: Array | None = None,
    block: int = 25,
    batch_size: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Counterfactual:
    """Searches for every example × target × restart, `batch_size` lanes at once.

    After each block of steps the lanes that are done make room for others that wait; when none waits, what still runs is packed into fewer (half, a
    quarter, an eighth of them, or one). A result is that of the pure method, up to the rounding of another batch size.

    Args:
      search: `method.search(**options)`. f: the model.
      x: `[n, *shape]`. target: `[n]`, or `[n, m]` for m targets of each example; None for a method without (CLUE).
      key: search i (in the order of the result, flattened) gets `fold_in(key, i)`, or `fold_in(key, index[i])`.
      restarts: searches for each target; None for one, without an axis for it.
      per_example: options of the method that differ by example, `[n, …]` (where its docstring says that they may).
      index: integers of the result's shape: each search's place in a larger whole.
      block: steps between two looks at what is done. batch_size: lanes; None is what suits the size of x, at most 256.
      on_progress: called after every block.

    Returns:
      A `Counterfactual` of NumPy arrays with leading axes `[n]`, `[n, m]`, `[n, restarts]` or `[n, m, restarts]`.

    Raises:
      ValueError: tracers (use the pure method there), no examples, x that is not finite, a target out of range or of another length, bad options.
    """
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((search, f, x, target, key))):
        raise ValueError("run works on the host and cannot be traced; call the method itself under jit and vmap")
    positive(block=block, batch_size=1 if batch_size is None else batch_size, restarts=1 if restarts is None else restarts)
    x, shape, which, target = _flattened(f, x, target, restarts)
    own = {name: np.asarray(value) for name, value in (per_example or {}).items()}
    for name, value in own.items():
        if value.shape[:1] != x.shape[:1]:
            raise ValueError(f"per_example[{name!r}] must have {x.shape[0]} rows, got shape {value.shape}")
    try:
        inspect.signature(search.init).bind(f, x, target, key, **own)
    except TypeError as error:
        raise ValueError(f"per_example has an option that may not differ by example: {error}") from None
    check_examples(search.domain, x, own.get("region"))
    places = np.arange(which.size) if index is None else np.asarray(index).reshape(-1)
    if places.size != which.size:
        raise ValueError(f"index must have shape {shape}, got {np.shape(index)}")
    width = batch_size or min(256, 4 * at_once(x[0], None))
    weights, model = partition(Fresh(f))
    arrays, rest = partition(search)
    lanes = _Lanes(weights, arrays, key, model, rest, min(width, _power(which.size)))
    given = lambda at: (x[which[at]], None if target is None else target[at], places[at])
    lanes.load(lambda at: (*given(at), {k: v[which[at]] for k, v in own.items()}), which.size)
    found = lanes.drain(block, on_progress)
    if search.then is not None and x.ndim == 2:
        region, (arrays, rest) = {k: v for k, v in own.items() if k == "region"}, partition(search.then)
        lanes = _Lanes(weights, arrays, key, model, rest, min(width, _power(which.size)))
        lanes.load(lambda at: (*given(at), {k: v[which[at]] for k, v in region.items()} | {"start": found.x[at]}), which.size)
        found = jax.tree.map(np.asarray, jax.vmap(further)(found, lanes.drain(block, None)))
    still = (found.steps == 0) & found.valid.reshape(which.size, -1).all(1)
    if not search.steps:
        still &= (found.x.reshape(which.size, -1, x[0].size) == x[which].reshape(which.size, 1, -1)).all((1, 2))
    if target is not None and still.any():
        warnings.warn(
            f"{int(still.sum())} of {which.size} searches are for the class that x, or what the generator makes of it, has already, after 0 steps", stacklevel=3
        )
    return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), found)


class _Lanes:
    """The lanes of a run: which search each holds, and their states on the device."""

    def __init__(self, weights: list, arrays: list, key: Array | None, model: Static, rest: Static, width: int):
        self.weights, self.arrays, self.key, self.model, self.rest, self.width = weights, arrays, key, model, rest, width

    def load(self, inputs: Callable, total: int) -> None:
        self.inputs, self.total, self.next = inputs, total, 0
        self.places = np.zeros(0, int)
        self.state: State | None = None
        self.found: Counterfactual | None = None

    def drain(self, block: int, on_progress: Callable | None) -> Counterfactual:
        """Runs all searches to their ends."""
        passes = done = valid = 0
        while self.next < self.total or self.places.size:
            self._refill()
            width = self._size(self.places.size)
            self.state, taken = _block(self.weights, self.arrays, self.state, model=self.model, rest=self.rest, block=block)
            passes += width * int(taken)
            ended = np.asarray(self.state.done)[: self.places.size]
            if ended.any():
                out = self._keep(np.flatnonzero(ended))
                done, valid = done + int(ended.sum()), valid + int(np.asarray(out.valid).reshape(ended.sum(), -1).all(1).sum())
                self._pack(np.flatnonzero(~ended))
            if on_progress is not None:
                on_progress(Progress(done, self.total, valid, passes))
        return self.found

    def _refill(self) -> None:
        """Takes in as many of those that wait as there is room for, once a quarter of the lanes is free."""
        room = min(self.width - self.places.size, self.total - self.next)
        if room <= 0 or (self.places.size and room < min(self.width // 4, self.total - self.next)):
            return
        new = np.arange(self.next, self.next + room)
        padded = self._padded(new)
        x, target, index, own = self.inputs(padded)
        state = _begin(self.weights, self.arrays, self.key, x, target, index, own, model=self.model, rest=self.rest)
        held = self.places.size
        self.places, self.next = np.concatenate([self.places, new]), self.next + room
        if held:
            both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), self.state, state)
            at = np.concatenate([np.arange(held), _length(self.state) + np.arange(room)])
        else:
            both, at = state, np.arange(room)
        self.state = _take(both, self._padded(at))

    def _keep(self, at: np.ndarray) -> Counterfactual:
        """Moves the results of these lanes to the host."""
        out = jax.tree.map(lambda leaf: np.asarray(leaf)[: at.size], result(_take(self.state, self._padded(at))))
        if self.found is None:
            self.found = jax.tree.map(lambda leaf: np.zeros((self.total, *leaf.shape[1:]), leaf.dtype), out)
        for kept, new in zip(jax.tree.leaves(self.found), jax.tree.leaves(out), strict=True):
            kept[self.places[at]] = new
        return out

    def _size(self, count: int) -> int:
        """Lanes for so many searches: one, or the next power of two from an eighth of all on, so that few programs are compiled."""
        return 1 if count == 1 else min(max(_power(count), self.width // 8), _power(self.width))

    def _padded(self, at: np.ndarray) -> np.ndarray:
        """These, and the last of them again up to the next size."""
        return np.concatenate([at, np.full(self._size(at.size) - at.size, at[-1])])

    def _pack(self, at: np.ndarray) -> None:
        """Leaves only these lanes."""
        self.places = self.places[at]
        self.state = _take(self.state, self._padded(at)) if at.size else None


@functools.partial(jax.jit, static_argnames=("model", "rest"))
def _begin(weights, arrays, key, x, target, index, own, *, model: Static, rest: Static) -> State:
    f, search = model.combine(weights), rest.combine(arrays)

    def one(x, target, i, own):
        return begin(search, f, x, target, None if key is None else jax.random.fold_in(key, i), **own)

    return jax.vmap(one)(x, target, index, own)


@functools.partial(jax.jit, static_argnames=("model", "rest", "block"), donate_argnames=("state",))
def _block(weights, arrays, state: State, *, model: Static, rest: Static, block: int) -> tuple[State, Array]:
    """At most `block` steps of all lanes, fewer where all are done, and how many."""
    f, search = model.combine(weights), rest.combine(arrays)
    go = jax.vmap(lambda s: advance(search, f, s))
    state, taken = while_loop(lambda c: ~c[0].done.all() & (c[1] < block), lambda c: (go(c[0]), c[1] + 1), (state, jnp.int32(0)))
    return state, taken


@jax.jit
def _take(state: PyTree, at: Array) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[at], state)


def _power(n: int) -> int:
    return 1 << max(0, n - 1).bit_length()


def _length(state: State) -> int:
    return state.done.shape[0]


def _flattened(f: Model, x: Array, target: Array | None, restarts: int | None) -> tuple[np.ndarray, tuple[int, ...], np.ndarray, np.ndarray | None]:
    """The examples; the leading axes of the result; which example each search is of, and its target."""
    x = np.asarray(x)
    if x.ndim < 2 or x.shape[0] == 0:
        raise ValueError(f"x must be examples [n, …] with n >= 1, got shape {x.shape}")
    finite = np.isfinite(x.reshape(len(x), -1)).all(1)
    if not finite.all():
        raise ValueError(f"x must be finite, but example {int(np.argmin(finite))} has NaN or infinite entries")
    check_search(f, x[0], None)
    shape: tuple[int, ...] = x.shape[:1]
    if target is not None:
        target = np.asarray(target)
        if target.ndim not in (1, 2) or target.shape[0] != x.shape[0] or 0 in target.shape or not np.issubdtype(target.dtype, np.integer):
            raise ValueError(f"target must be classes [{x.shape[0]}] or [{x.shape[0]}, m], got {target.dtype} of shape {target.shape}")
        classes = num_classes(f, x[0])
        if ((target < 0) | (target >= classes)).any():
            raise ValueError(f"target={target[(target < 0) | (target >= classes)][0]} must be a class in [0, {classes})")
        shape = target.shape
    if restarts is not None:
        shape = (*shape, restarts)
    rows = np.arange(x.shape[0]).reshape(-1, *(1,) * (len(shape) - 1))
    which = np.broadcast_to(rows, shape).reshape(-1)
    if target is not None:
        target = np.broadcast_to(target.reshape(*target.shape, *(1,) * (len(shape) - target.ndim)), shape).reshape(-1).astype(np.int32)
    return x, shape, which, target
