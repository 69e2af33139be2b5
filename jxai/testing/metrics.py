"""The contract of a metric: `metric(f, x, target, attribution, key=None, *, options) -> scalar or Curve`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai.batching import each
from jxai.testing.examples import CLASSES, Shape, attribution_map, example, pointwise, shape_of
from jxai.testing.trial import Counter, Options, Trial, check_documentation, check_signature, close, finite, hold, stated_range
from jxai.typing import Curve

OTHER_WEIGHTS = 8
"""So many other models may give the same number: some metrics are 0 or 1."""


class MetricTrial(Trial):
    """A metric on one shape: a model, an example, a target, a map and a key."""

    def __init__(self, fn: Callable, shape: Shape, options: Options, model: Callable, said: dict[str, Any]) -> None:
        super().__init__(fn, options, shape)
        self.said, self.model = said, model
        self.counter = Counter() if said["passes"] is not None or said["blind"] else None
        self.f, self.x, self.map = self.modelled(0), example(shape), attribution_map(shape)
        self.key, self.other_key = jax.random.key(3), jax.random.key(77)
        self.target = self.judged(self.x)
        if "chunk" in self.parameters and self.counter:
            self.options.setdefault("chunk", 1)

    def modelled(self, seed: int) -> Callable:
        """The model with other weights; it counts its passes where their number is a clause."""
        f = self.model(self.shape, seed)
        return self.counter.around(f) if self.counter else f

    def judged(self, x: jax.Array) -> np.int32:
        """The class at which x is judged: the one that f predicts or the runner-up, whose score can rise and fall."""
        logits = np.asarray(_logits(self.model(self.shape, 0), x))
        return np.int32(np.argsort(logits)[-1 if self.said["predicted"] else -2])

    def numbers(self, *, f: Any = None, x: Any = None, target: Any = None, map: Any = None, key: Any = None) -> np.ndarray:
        """What the main program measures, with some arguments others, as one vector."""
        given = (self.f, self.x, self.target, self.map, self.key)
        return vector(self.main(*(own if value is None else value for own, value in zip(given, (f, x, target, map, key)))))

    @functools.cached_property
    def result(self) -> Any:
        return self.main(self.f, self.x, self.target, self.map, self.key)

    @functools.cached_property
    def first(self) -> np.ndarray:
        return vector(self.result)

    def close(self, a: Any, b: Any, loose: float = 1.0) -> bool:
        return a.shape == b.shape and bool(np.abs(a - b).max() <= loose * self.said["tolerance"] * (np.abs(b).max() + 1e-3))


@jax.jit
def _logits(f: Callable, x: jax.Array) -> jax.Array:
    return f(x)


def vector(result: Any) -> np.ndarray:
    """What was measured: y and the area of a curve, or the scalar."""
    if isinstance(result, Curve):
        return np.append(np.asarray(result.y, np.float64), np.float64(result.auc))
    return np.atleast_1d(np.asarray(result, np.float64))


def check_metric(
    fn: Callable,
    *,
    options: Options = None,
    shapes: Sequence[str | Shape] = ("image",),
    model: Callable[[Shape, int], Callable] = pointwise,
    keyed: bool | None = None,
    blind: bool = False,
    curve: bool | None = None,
    passes: int | None = None,
    predicted: bool = False,
    tolerance: float = 2e-5,
    clauses: Collection[str] | None = None,
) -> None:
    """Checks a metric against its contract, on small inputs of each kind; a few programs of a second or less.

    Args:
      fn: `metric(f, x, target, attribution, key=None, *, options) -> scalar or Curve`, a module-level function.
      options: small ones to try it with, or a function of the shape of x that makes them; those without a default among them.
      shapes: the inputs that it takes, of `SHAPES` or shapes; the first is tried most.
      model: `(shape, seed) -> f` with `CLASSES` logits; by default a small network.
      keyed: whether it must draw random numbers; None finds out, and asks only that it needs a key if and only if it does.
      blind: whether it looks at neither f nor target, so that it makes no forward pass.
      curve: whether it returns a `Curve`; None takes either.
      passes: the forward passes that it makes with these options, one at a time where it has a `chunk`.
      predicted: whether it is tried at the class that f predicts, not at the runner-up.
      tolerance: of results that are equal but for rounding.
      clauses: some of `METRIC_CLAUSES`, all by default.

    Raises:
      AssertionError: a sentence that says which clause is broken, and how.
    """
    said = dict(keyed=keyed, blind=blind, curve=curve, passes=passes, predicted=predicted, tolerance=tolerance)
    hold((MetricTrial(fn, shape_of(kind), options, model, said) for kind in shapes), METRIC_CLAUSES, clauses, EVERY_SHAPE)


def _signature(t: MetricTrial) -> None:
    check_signature(t.fn, ("f", "x", "target", "attribution", "key"), given=t.options)


def _documentation(t: MetricTrial) -> None:
    check_documentation(t.fn, ("Range", "Direction", "Cost", "Reference"))


def _result(t: MetricTrial) -> None:
    result, what, curve = t.result, f"for x of shape {t.shape}", t.said["curve"]
    t.require(curve is None or curve == isinstance(result, Curve), f"is said to be curve={curve}, but returns {_shown(result)}")
    if isinstance(result, Curve):
        t.require(result.x.ndim == 1 and result.x.shape == result.y.shape and result.auc.shape == (), f"returns a curve of unequal lengths {what}")
        t.require((np.diff(result.x) >= 0).all(), f"returns a curve of which x does not ascend {what}")
    else:
        t.require(isinstance(result, np.ndarray) and result.shape == (), f"returns {_shown(result)} {what}: a metric is a scalar or a Curve")
    dtypes = {str(leaf.dtype) for leaf in jax.tree.leaves(result)}
    t.require(dtypes == {"float32"}, f"returns {', '.join(sorted(dtypes))} {what}: a metric is float32 whatever x is")
    t.require(finite(t.first), f"returns NaN or infinity {what}, although x and the map are finite")
    low, high = stated_range(t.fn)
    t.require(low - 1e-5 <= t.first[-1] <= high + 1e-5, f"returns {t.first[-1]:g}, outside the range [{low:g}, {high:g}] that its docstring states")


def _weights(t: MetricTrial) -> None:
    first, before = t.first, t.main.traces
    others = (t.numbers(f=t.modelled(seed), target=np.int32((t.target + 1) % CLASSES)) for seed in range(1, 1 + OTHER_WEIGHTS))
    changed = any(not np.array_equal(first, other) for other in others)
    t.stays_compiled(before, "new weights and another target")
    t.require(changed or t.said["blind"], "returns the same for other weights and targets (blind=True where it looks at neither)")
    t.require(not (changed and t.said["blind"]), "is said to be blind=True, but its result depends on f or the target")
    again = t.numbers()
    t.require(np.array_equal(first, again), "returns another number for the same arguments: something outside them is drawn or kept")


def _target(t: MetricTrial) -> None:
    if not t.said["blind"]:
        for outside in (CLASSES, -1):
            result = t.numbers(target=np.int32(outside))
            t.require(np.isnan(result).all(), f"gives a number for a traced target={outside} of {CLASSES} classes: it must give NaN")


def _key(t: MetricTrial) -> None:
    drawn = not np.array_equal(t.first, t.numbers(key=t.other_key))
    keyed = t.said["keyed"]
    t.require(keyed is None or keyed == drawn, f"is said to be keyed={keyed}, but its result {'depends' if drawn else 'does not depend'} on the key")
    arguments = (t.f, t.x, int(t.target), t.map, None)
    if drawn:
        t.refuses("key=None, although it draws random numbers", "key=None", *arguments)
    else:
        error = t.refusal(*arguments)
        t.require(error is None, f"does not depend on the key, but fails without one: {error}")


def _bad_maps(t: MetricTrial) -> None:
    for bad in (np.nan, np.inf):
        spoiled = np.array(t.map)
        spoiled[(0,) * spoiled.ndim] = bad
        t.require(np.isnan(t.numbers(map=spoiled)).all(), f"gives a number for a map with an entry of {bad}: it must give NaN")
    for level in (0.0, 0.7, -0.7):
        constant = np.full_like(t.map, level)
        t.require(finite(t.numbers(map=constant)), f"gives NaN or infinity for a map that is {level} everywhere: it must give a number")


def _errors(t: MetricTrial) -> None:
    f, x, target, a, key = t.f, t.x, int(t.target), np.asarray(t.map), t.key
    t.refuses("integer pixels as x", r"\bx\b.* must be", f, np.asarray(np.asarray(x) * 255, np.uint8), target, a, key)
    for bad in (a[0], a[None], np.concatenate([a, a]), np.ones((a.shape[0] + 1,) + a.shape[1:], np.float32)):
        t.refuses(f"a map of shape {bad.shape} for x of shape {x.shape}", "attribution must have shape", f, x, target, bad, key)
    t.refuses("a map of integers", "attribution must be floating", f, x, target, (a * 10).astype(np.int32), key)
    if not t.said["blind"]:
        for outside in (CLASSES, -1):
            t.refuses(f"target={outside} of {CLASSES} classes", f"target={outside}", f, x, outside, a, key)
        t.refuses("a model that returns [1, K]", "vector of logits", lambda v: f(v)[None], x, target, a, key)
    if "chunk" in t.parameters:
        t.refuses("chunk=0", "chunk=0", f, x, target, a, key, chunk=0)
    t.refuses_unknown_names(f, x, target, a, key)


def _names(t: MetricTrial) -> None:
    arguments = (t.f, t.x, t.target, t.map, t.key)
    t.traces_every_name(t.refuses_unknown_names(*arguments), *arguments)


def _channels(t: MetricTrial) -> None:
    if t.map.ndim > 1 and "method" not in t.parameters:
        turned = t.numbers(map=np.asarray(t.map)[..., ::-1])
        t.require(t.close(turned, t.first, 5), "judges a map otherwise whose channels are in another order: a position counts by the sum of its channels")


def _one_channel(t: MetricTrial) -> None:
    """Not of a metric that explains again: there the map must have the shape that the method returns."""
    if t.map.ndim > 1 and "method" not in t.parameters:
        one = t.numbers(map=np.asarray(t.map).sum(-1, keepdims=True))
        t.require(t.close(one, t.first, 5), "judges a map with one channel otherwise than one whose channels have the same sums")


def _eager(t: MetricTrial) -> None:
    plain = vector(t.plainly(t.model(t.shape, 0), t.x, int(t.target), t.map, t.key))
    t.require(t.close(plain, t.first), "returns another number under jit than without it")


def _batched(t: MetricTrial) -> None:
    """In blocks of two; a map with NaN among them spoils its own result alone."""
    xs, maps = (np.stack([make(t.shape, seed) for seed in range(3)]) for make in (example, attribution_map))
    maps[2] = np.nan
    targets, keys = np.stack([t.judged(x) for x in xs]), [jax.random.fold_in(t.key, n) for n in range(3)]
    loop = [t.numbers(x=x, target=c, map=a, key=key) for x, c, a, key in zip(xs, targets, maps, keys)]
    options = dict(t.options)
    own = {option: np.stack([options.pop(option)] * 3) for option in ("mask",) if option in options}
    results = each(t.fn, t.f, xs, targets, maps, key=t.key, batch_size=2, per_example=own, **options)
    rows = [vector(jax.tree.map(lambda leaf, n=n: leaf[n], results)) for n in range(3)]
    # NaN in both is what a metric may say of an example.
    alike = all(np.array_equal(np.isnan(a), np.isnan(b)) and t.close(np.nan_to_num(a), np.nan_to_num(b)) for a, b in zip(rows, loop))
    t.require(alike and np.isnan(rows[2]).all(), "returns another number under vmap (jxai.each) than in a loop")


def _half(dtype: Any, t: MetricTrial) -> None:
    x, a = example(t.shape, dtype=dtype), attribution_map(t.shape, dtype=dtype)
    result = t.main(t.f, x, t.target, a, t.key)
    dtypes = {str(leaf.dtype) for leaf in jax.tree.leaves(result)}
    t.require(dtypes == {"float32"}, f"returns {', '.join(sorted(dtypes))} for x of {x.dtype}: a metric is float32 whatever x is")
    t.require(finite(vector(result)), f"returns NaN or infinity for x of {x.dtype}")
    if t.said["blind"]:
        single = t.numbers(x=np.asarray(x, np.float32), map=np.asarray(a, np.float32))
        t.require(close(vector(result), single, 1e-6), f"returns another number for a map of {a.dtype} than for the same map in float32")


def _chunk(t: MetricTrial) -> None:
    if "chunk" in t.parameters:
        other = vector(t.program(t.bound(chunk=2))(t.f, t.x, t.target, t.map, t.key))
        t.require(t.close(other, t.first), "returns another number with chunk=2")


def _passes(t: MetricTrial) -> None:
    stated = 0 if t.said["blind"] else t.said["passes"]
    if stated is not None:
        made = t.counter.of(t.main, t.f, t.x, t.target, t.map, t.key)
        t.require(made == stated, f"makes {made} forward passes, not {stated} as stated")


def _shown(result: Any) -> str:
    return f"shape {result.shape}" if isinstance(result, np.ndarray) else f"a {type(result).__name__}"


METRIC_CLAUSES: dict[str, Callable[[MetricTrial], None]] = {
    "signature": _signature,
    "documentation": _documentation,
    "result": _result,
    "weights": _weights,
    "target": _target,
    "key": _key,
    "bad maps": _bad_maps,
    "errors": _errors,
    "names": _names,
    "channels": _channels,
    "one channel": _one_channel,
    "eager": _eager,
    "batched": _batched,
    "float16": functools.partial(_half, jnp.float16),
    "bfloat16": functools.partial(_half, jnp.bfloat16),
    "chunk": _chunk,
    "passes": _passes,
}
"""The clauses of the contract, by name; those of `EVERY_SHAPE` are tried on every shape, the others on the first."""
EVERY_SHAPE = ("result", "weights", "target", "bad maps")
