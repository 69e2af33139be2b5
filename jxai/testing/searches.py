"""The contract of a counterfactual method: `method(f, x, target, key=None, *, options) -> Counterfactual`, and `method.search(**options) -> Search`.

A search that failed says so in data (`valid`, `steps`), never by NaN, zeros or an exception.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai.callables import partition
from jxai.counterfactual.search import Counterfactual, Search
from jxai.counterfactual.search.lanes import run
from jxai.testing.examples import Shape, example, network, shape_of
from jxai.testing.trial import Options, Trial, check_documentation, check_signature, close, finite, hold


class SearchTrial(Trial):
    """A method with a model, an example, the class that the model thinks least likely, and a key."""

    def __init__(self, fn: Callable, shape: Shape, options: Options, model: Callable, said: dict[str, Any]) -> None:
        super().__init__(fn, options, shape)
        self.said, self.model = said, model
        self.f, self.key, self.other_key = model(shape, 0), jax.random.key(3), jax.random.key(77)
        self.x = jnp.asarray(example(shape) if said["x"] is None else said["x"])
        logits = np.asarray(_logits(self.f, self.x))
        self.classes, self.own = logits.size, np.int32(logits.argmax())
        self.target = np.int32(logits.argmin()) if said["targeted"] else None

    @functools.cached_property
    def first(self) -> Counterfactual:
        return self.main(self.f, self.x, self.target, self.key)

    @property
    def lead(self) -> tuple[int, ...]:
        """The leading axis of a result: none, or one for a set."""
        return () if self.said["count"] is None else (self.said["count"],)


@jax.jit
def _logits(f: Callable, x: jax.Array) -> jax.Array:
    return f(x)


def check_search(
    fn: Callable,
    *,
    options: Options = None,
    shape: str | Shape = "vector",
    x: Any = None,
    model: Callable[[Shape, int], Callable] = network,
    targeted: bool = True,
    count: int | None = None,
    keyed: bool | None = None,
    tolerance: float = 1e-3,
    clauses: Collection[str] | None = None,
) -> None:
    """Checks a counterfactual method against its contract, on one small example.

    Args:
      fn: `method(f, x, target, key=None, *, options) -> Counterfactual`, as `jxai.counterfactual.search.method` makes it of what builds its `Search`.
      options: small ones to try it with, a generator and few steps among them, or a function of the shape of x that makes them.
      shape: of x, of `SHAPES` or a shape. x: an example of it, by default one in [0, 1].
      model: `(shape, seed) -> f`, `[K]` logits; by default a small network.
      targeted: whether it searches for a class; otherwise it is called with `target=None`.
      count: how many counterfactuals it returns, where that is a set.
      keyed: whether it must draw random numbers; None finds out, and asks only that it needs a key if and only if it does.
      tolerance: of results that are equal but for rounding, which a search amplifies.
      clauses: some of `SEARCH_CLAUSES`, all by default.

    Raises:
      AssertionError: a sentence that says which clause is broken, and how.
    """
    where = shape_of(shape) if x is None else np.shape(x)
    trial = SearchTrial(fn, where, options, model, dict(x=x, targeted=targeted, count=count, keyed=keyed, tolerance=tolerance))
    hold([trial], SEARCH_CLAUSES, clauses)


def _signature(t: SearchTrial) -> None:
    check_signature(t.fn, ("f", "x", "target", "key"), given=t.options)


def _documentation(t: SearchTrial) -> None:
    check_documentation(t.fn, ("Cost", "Reference"), family=True)


def _search(t: SearchTrial) -> None:
    build = getattr(t.fn, "search", None)
    t.require(callable(build), "has no search(**options): make the method of it with jxai.counterfactual.search.method")
    made = build(**t.options)
    t.require(isinstance(made, Search), f"has a search(**options) that returns a {type(made).__name__}, not a Search(init, step, steps)")
    same = partition(made)[1] == partition(build(**t.options))[1]
    t.require(same, "has a search that is compiled anew whenever it is made: its functions must be jax.tree_util.Partial of module-level ones")


def _result(t: SearchTrial) -> None:
    found = t.first
    t.require(isinstance(found, Counterfactual), f"returns a {type(found).__name__}: a search returns a Counterfactual")
    lead, x = t.lead, t.x
    t.require(found.x.shape == lead + x.shape, f"returns x' of shape {found.x.shape} for x of shape {x.shape}")
    t.require(found.x.dtype == x.dtype, f"returns x' of {found.x.dtype} for x of {x.dtype}")
    t.require(finite(found.x), "returns x' with NaN or infinity: of a search that failed, x' is the best point that it met")
    t.require(found.valid.shape == lead and found.valid.dtype == bool, f"returns valid of {found.valid.dtype} and shape {found.valid.shape}, not bool")
    t.require(found.steps.shape == () and found.steps.dtype == np.int32, f"returns steps of {found.steps.dtype} and shape {found.steps.shape}, not int32")
    clip = t.options.get("clip", t.parameters["clip"].default if "clip" in t.parameters else None)
    if clip is not None:
        v = np.asarray(found.x, np.float32)
        t.require(((v >= clip[0]) & (v <= clip[1])).all(), f"returns x' from {v.min():g} to {v.max():g}, outside clip={clip}")
    most = t.fn.search(**t.options).steps if hasattr(t.fn, "search") else np.inf
    t.require(0 <= found.steps <= most, f"returns steps={int(found.steps)} of at most {most}")
    said = np.stack([np.asarray(_logits(t.f, v)) for v in found.x.reshape(-1, *x.shape)]).reshape(lead + (t.classes,))
    t.require(close(said, found.logits, t.said["tolerance"]), "returns logits that are not f(x')")
    claimed = np.asarray(found.valid) & (said.argmax(-1) != t.target)
    t.require(t.target is None or not claimed.any(), f"says that x' is valid, but f takes it for another class than target={t.target}")


def _weights(t: SearchTrial) -> None:
    first, before = t.first, t.main.traces
    t.main(t.model(t.shape, 1), t.x * 0.9, t.target, t.other_key)
    t.stays_compiled(before, "new weights, another example and another key")
    again = t.main(t.f, t.x, t.target, t.key)
    t.require(np.array_equal(first.x, again.x), "returns another x' for the same arguments: something outside them is drawn or kept")


def _stays(t: SearchTrial) -> None:
    if t.said["targeted"]:
        kept = t.main(t.f, t.x, t.own, t.key)
        same = np.array_equal(np.broadcast_to(t.x, kept.x.shape), kept.x) and kept.valid.all() and kept.steps == 0
        t.require(same, "searches for the class that x already has: it must return x, valid, after 0 steps")


def _failure(t: SearchTrial) -> None:
    """What cannot be searched for is data under a trace."""
    for outside in (-1, t.classes) if t.said["targeted"] else ():
        lost = t.main(t.f, t.x, np.int32(outside), t.key)
        t.require(not lost.valid.any() and lost.steps == 0 and finite(lost.x), f"must return x, not valid, after 0 steps for a traced target={outside}")
    spoiled = np.array(t.x)
    spoiled[(0,) * spoiled.ndim] = np.nan
    lost = t.main(t.f, spoiled, t.target, t.key)
    t.require(not lost.valid.any() and lost.steps == 0, "must return a result that is not valid, after 0 steps, for x with NaN")


def _key(t: SearchTrial) -> None:
    drawn = not np.array_equal(t.first.x, t.main(t.f, t.x, t.target, t.other_key).x)
    keyed = t.said["keyed"]
    t.require(keyed is None or keyed == drawn, f"is said to be keyed={keyed}, but its result {'depends' if drawn else 'does not depend'} on the key")
    if drawn:
        t.refuses("key=None, although it draws random numbers", "key=None", t.f, t.x, t.target, None)
    elif keyed is None:
        error = t.refusal(t.f, t.x, t.target, None)
        t.require(error is None, f"does not depend on the key, but fails without one: {error}")


def _errors(t: SearchTrial) -> None:
    t.refuses("integer pixels as x", r"\bx\b.* must be", t.f, np.asarray(np.asarray(t.x) * 255, np.uint8), t.target, t.key)
    t.refuses("a model that returns [1, K]", "vector of logits", lambda v: t.f(v)[None], t.x, t.target, t.key)
    if t.said["targeted"]:
        for outside in (t.classes, -1):
            t.refuses(f"target={outside} of {t.classes} classes", f"target={outside}", t.f, t.x, outside, t.key)
        t.refuses("target=None", "target=None", t.f, t.x, None, t.key)
        t.refuses("a model of one class", "two classes or more", lambda v: t.f(v)[:1], t.x, 0, t.key)
    t.refuses_unknown_names(t.f, t.x, t.target, t.key)


def _names(t: SearchTrial) -> None:
    arguments = (t.f, t.x, t.target, t.key)
    t.traces_every_name(t.refuses_unknown_names(*arguments), *arguments)


def _eager(t: SearchTrial) -> None:
    plain = t.plainly(t.f, t.x, None if t.target is None else int(t.target), t.key)
    t.require(close(plain.x, t.first.x, t.said["tolerance"]), "returns another x' under jit than without it")


def _batched(t: SearchTrial) -> None:
    """`run` packs searches into lanes, which `vmap` makes."""
    xs, keys = np.stack([t.x, 0.95 * t.x, 0.9 * t.x]), [jax.random.fold_in(t.key, n) for n in range(3)]
    loop = [t.main(t.f, x, t.target, key) for x, key in zip(xs, keys)]
    targets = None if t.target is None else np.full(3, t.target)
    found = run(t.fn.search(**t.options), t.f, xs, targets, t.key, block=3, batch_size=2)
    alike = close(found.x, np.stack([one.x for one in loop]), t.said["tolerance"])
    t.require(alike and np.array_equal(found.steps, [one.steps for one in loop]), "returns another x' in jxai.counterfactual.run, under vmap, than in a loop")


def _half(t: SearchTrial) -> None:
    found = t.main(t.f, t.x.astype(jnp.bfloat16), t.target, t.key)
    t.require(found.x.dtype == jnp.bfloat16 and finite(found.x), f"returns x' of {found.x.dtype} for x of bfloat16, or one that is not finite")
    t.require(found.logits.dtype == np.float32, f"returns logits of {found.logits.dtype} for x of bfloat16: they are float32")


SEARCH_CLAUSES: dict[str, Callable[[SearchTrial], None]] = {
    "signature": _signature,
    "documentation": _documentation,
    "search": _search,
    "result": _result,
    "weights": _weights,
    "stays": _stays,
    "failure": _failure,
    "key": _key,
    "errors": _errors,
    "names": _names,
    "eager": _eager,
    "batched": _batched,
    "half": _half,
}
"""The clauses of the contract, by name."""
