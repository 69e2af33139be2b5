"""What all counterfactual methods share: a search as two pure functions, its frozen loop, and what comes out."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jxai.callables import Fresh, plainly
from jxai.counterfactual.search.domain import Domain
from jxai.loops import while_loop
from jxai.scores import check_example, check_target, check_values, logits_shape, wide
from jxai.typing import Array, Model, PyTree


class Counterfactual(NamedTuple):
    """An example that the model takes for another class; of a search that failed, the best point that it met."""

    x: Array
    """The counterfactual, of x's shape; a set of k of them `[k, *shape]`, and so for the other fields."""
    latent: PyTree
    """Where it lies in the coordinates of the generator; None where there is none, 0 where x itself is returned (which the generator may not make)."""
    logits: Array
    """`[K]`: f there."""
    valid: Array
    """`[]`, bool: whether it is what the method searches for, and lies in the domain: the valid range, the constraints, the region."""
    steps: Array
    """`[]`, int32: the steps that were made."""

    def _repr_html_(self) -> str:
        from jxai.views import html, images

        rows: dict[str, Any] = {"valid": self.valid, "steps": self.steps}
        if not html.is_traced(self.logits) and self.logits.ndim:
            rows["class"] = np.asarray(self.logits).argmax(-1)
        rows |= {"logits": self.logits, "x": self.x}
        lead = len(np.shape(self.logits)) - 1
        return html.table("Counterfactual" if lead < 1 else f"Counterfactuals {list(np.shape(self.logits)[:-1])}", rows, lambda: images.several(self.x, lead))


class Candidate(NamedTuple):
    """A point that a step looked at."""

    x: Array
    latent: PyTree
    logits: Array
    valid: Array
    """Whether it is a counterfactual in the method's sense, wherever it lies; of a set `[k]`."""
    cost: Array
    """`[]`: which of two points is better: a valid one, and of two alike the one of less cost (NaN is never better)."""
    stop: Array
    """`[]`, bool: whether the search may end here."""


class Search(NamedTuple):
    """A search as a pair of pure functions; a pytree, so that other weights in it compile nothing anew.

    Arrays in the functions (of a generator, a constraint) are leaves: make them with `jax.tree_util.Partial`.
    """

    init: Callable[..., tuple[PyTree, PyTree]]
    """`(f, x, target, key, **own options) -> (variable, memory)`: where the search begins, and what it keeps beside (constants too)."""
    step: Callable[[Model, PyTree, PyTree], tuple[PyTree, PyTree, Candidate]]
    """`(f, variable, memory) -> (variable, memory, candidate)`: looks at the variable, and moves it."""
    steps: int
    """Moves at most."""
    domain: Domain = Domain()
    """Where a valid point lies, besides."""
    then: Search | None = None
    """For vectors: a search that goes on from what this one found, its own option `start`; where it finds a valid point, that is the result."""


class State(NamedTuple):
    """A search on its way."""

    x: Array
    region: Array | None
    variable: PyTree
    memory: PyTree
    best: Candidate
    done: Array
    steps: Array


def begin(search: Search, f: Model, x: Array, target: int | Array | None, key: Array | None, **own: Array) -> State:
    """Where a search begins; done already where x is of the target class and in the domain (x itself then), the target is no class, or x is out of range.

    own: options that are this example's own.

    Raises:
      ValueError: constraints that do not fit x or one another; where x is concrete, one that is not in its own valid range.
    """
    domain = dataclasses.replace(search.domain, region=own.get("region", search.domain.region))
    domain.check(x)
    logits = wide(f(x))
    variable, memory = search.init(f, x, target, key, **own)
    shape = jax.eval_shape(lambda: search.step(f, variable, memory)[2])
    fits = lambda value, like: jnp.broadcast_to(jnp.asarray(value, like.dtype), like.shape)
    latent = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shape.latent)
    if target is None:
        reached, known = jnp.asarray(False), jnp.asarray(True)
    else:
        reached, known = logits.argmax(-1) == target, (jnp.asarray(target) >= 0) & (jnp.asarray(target) < logits.shape[-1])
    known = known & jnp.isfinite(x).all() & domain.within(x)
    reached = reached & known & domain.contains(x, x)
    best = Candidate(fits(x, shape.x), latent, fits(logits, shape.logits), fits(reached, shape.valid), fits(jnp.inf, shape.cost), fits(False, shape.stop))
    return State(x, domain.region, variable, memory, best, reached | ~known, jnp.int32(0))


def advance(search: Search, f: Model, state: State) -> State:
    """One step, unless the search is done."""
    variable, memory, seen = search.step(f, state.variable, state.memory)
    inside = dataclasses.replace(search.domain, region=state.region).contains(seen.x, state.x)
    # What a method takes for its end, but the domain does not, is not the end.
    seen = seen._replace(valid=seen.valid & inside, stop=seen.stop & ~(seen.valid & ~inside).any())
    share, most = (jnp.mean(wide(c.valid)) for c in (seen, state.best))
    better = (share > most) | ((share == most) & (seen.cost < state.best.cost))
    better = better & jnp.isfinite(seen.logits).all() & jnp.isfinite(seen.x).all()
    ended = seen.stop | (state.steps >= search.steps)
    # The last look is at the point that the last step led to; ending there is no step.
    variable, memory = jax.tree.map(_as, (variable, memory), (state.variable, state.memory))
    new = State(state.x, state.region, variable, memory, _where(better, seen, state.best), ended, state.steps + ~ended)
    return _where(state.done, state, new)


def result(state: State) -> Counterfactual:
    """What a search has found so far."""
    best = state.best
    return Counterfactual(best.x, best.latent, best.logits, best.valid, state.steps)


def solve(search: Search, f: Model, x: Array, target: int | Array | None, key: Array | None) -> Counterfactual:
    """Runs a search to its end: a loop that lanes under `vmap` leave by being frozen (`jxai.counterfactual.run` packs them instead).

    Raises:
      ValueError: bad x or target, f(x) that is no vector.
    """
    check_search(f, x, target)
    f = Fresh(f)
    first = begin(search, f, x, target, key)
    ends = lambda search, state: result(while_loop(lambda s: ~s.done, lambda s: advance(search, f, s), state))
    found = ends(search, first)
    if search.then is not None and x.ndim == 1:
        found = further(found, ends(search.then, begin(search.then, f, x, target, key, start=found.x)))
    still = target is not None and not isinstance(found.valid, jax.core.Tracer) and bool(found.valid.all()) and int(found.steps) == 0
    if still and (search.steps or bool(first.done)):
        warnings.warn(
            f"{target=} is the class that f gives x already: x itself is returned, after 0 steps"
            if bool(first.done)
            else f"what the generator makes of x is of {target=} already, after 0 steps: the change is what the generator does not make of x, and none that was searched for",
            stacklevel=4,
        )
    return found


def further(found: Counterfactual, then: Counterfactual) -> Counterfactual:
    """What two searches found, one after the other: of the second where that is valid, the steps of both."""
    return _where(then.valid, then, found)._replace(steps=found.steps + then.steps)


def check_search(f: Model, x: Array, target: int | Array | None) -> None:
    """Raises ValueError for a bad example or target, or a model that gives no vector of logits, or of one class where there is a target."""
    check_example(x)
    shape = logits_shape(check_values(f, x))
    if target is not None:
        if shape[0] < 2:
            raise ValueError(f"f(x) must have two classes or more for the class to change, got {shape[0]}")
        check_target(target, shape[0])


def wanted(target: int | Array | None) -> Array:
    """The target as an array; raises ValueError for None, in methods that need one."""
    if target is None:
        raise ValueError("target=None must be a class: the one that x shall be taken for")
    return jnp.asarray(target)


class SearchMethod(Protocol):
    """A counterfactual method, and the search that it runs; after the key come options, by keyword only."""

    search: Callable[..., Search]

    def __call__(self, f: Model, x: Array, target: int | Array | None, key: Array | None = None, **options: Any) -> Counterfactual: ...


def method(build: Callable[..., Search]) -> SearchMethod:
    """A pure method `(f, x, target, key=None, **options) -> Counterfactual` from what makes its search of the options.

    The search itself is `method.search(**options)`, for `jxai.counterfactual.run`.
    """

    @plainly
    @functools.wraps(build)
    def pure(f: Model, x: Array, target: int | Array | None, key: Array | None = None, **options: Any) -> Counterfactual:
        return solve(build(**options), f, x, target, key)

    given = list(inspect.signature(SearchMethod.__call__).parameters.values())[1:5]
    pure.__signature__ = inspect.Signature([*given, *inspect.signature(build).parameters.values()], return_annotation=Counterfactual)
    pure.__annotations__ = {p.name: p.annotation for p in given} | build.__annotations__ | {"return": Counterfactual}
    pure.search = build
    return cast(SearchMethod, pure)


def _as(new: Array, old: Array) -> Array:
    """The new value in the type of the old one: a model whose weights are wider than x widens what is computed from them."""
    return new if jnp.result_type(new) == jnp.result_type(old) else jnp.asarray(new, jnp.result_type(old))


def _where(condition: Array, a: PyTree, b: PyTree) -> PyTree:
    def choose(u: Array, v: Array) -> Array:
        if jnp.issubdtype(jnp.result_type(u), jax.dtypes.prng_key):
            return lax.select(jnp.broadcast_to(condition, u.shape), u, v)
        return jnp.where(condition, u, v)

    return jax.tree.map(choose, a, b)
