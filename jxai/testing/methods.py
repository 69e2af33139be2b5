"""The contract of an attribution method: `method(f, x, target, key=None, *, options) -> attribution`, which has x's rank and broadcasts against x."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai.batching import each
from jxai.testing.examples import CLASSES, Shape, example, network, shape_of
from jxai.testing.trial import Counter, Options, Trial, check_documentation, check_signature, close, finite, hold
from jxai.typing import Array


class MethodTrial(Trial):
    """A method on one shape: a model, an example, class 1 and a key; what the clauses below ask of it."""

    def __init__(self, fn: Callable, shape: Shape, options: Options, model: Callable, said: dict[str, Any]) -> None:
        super().__init__(fn, options, shape)
        self.said, self.model = said, model
        self.counter = Counter() if said["passes"] or said["black_box"] else None
        self.f, self.x = self.modelled(0), example(shape)
        self.key, self.other_key = jax.random.key(3), jax.random.key(77)
        if "chunk" in self.parameters and self.counter:
            # One pass at a time, so that none is made to fill a block.
            self.options.setdefault("chunk", 1)

    def modelled(self, seed: int) -> Callable:
        """The model with other weights; it counts its passes where their number is a clause."""
        f = self.model(self.shape, seed)
        return self.counter.around(f) if self.counter else f

    @functools.cached_property
    def first(self) -> np.ndarray:
        """The attribution that the others are compared with."""
        return self.main(self.f, self.x, np.int32(1), self.key)

    def close(self, a: Any, b: Any, loose: float = 1.0) -> bool:
        return close(a, b, loose * self.said["tolerance"])


def check_method(
    fn: Callable,
    *,
    options: Options = None,
    shapes: Sequence[str | Shape] = ("vector", "image", "video"),
    model: Callable[[Shape, int], Callable] = network,
    keyed: bool | None = None,
    blind: bool = False,
    passes: int | None = None,
    black_box: bool = False,
    scalar: bool = True,
    smooth: bool = True,
    untargeted: bool = False,
    tolerance: float = 2e-5,
    clauses: Collection[str] | None = None,
) -> None:
    """Checks an attribution method against its contract, on small inputs of each kind; a few programs of a second or less.

    Args:
      fn: `method(f, x, target, key=None, *, options) -> attribution`, a module-level function.
      options: small ones to try it with, or a function of the shape of x that makes them.
      shapes: the inputs that it takes, of `SHAPES` or shapes; the first is tried most.
      model: `(shape, seed) -> f` with `CLASSES` logits; by default a small network.
      keyed: whether it must draw random numbers; None finds out, and asks only that it needs a key if and only if it does.
      blind: whether it does not look at the target; otherwise a target out of range must give NaN.
      passes: the forward passes that it makes with these options, one at a time where it has a `chunk`.
      black_box: whether it asks f for values alone, so that targets under `vmap` share all passes.
      scalar: whether it explains a function to `[]` with `target=None`.
      smooth: whether its result can be differentiated by the weights of f.
      untargeted: whether it takes logits with `target=None`, too, because what it explains is of no class.
      tolerance: of results that are equal but for rounding, relative to the largest entry; an optimised mask needs more.
      clauses: some of `METHOD_CLAUSES`, all by default.

    Raises:
      AssertionError: a sentence that says which clause is broken, and how.
    """
    said = dict(keyed=keyed, blind=blind, passes=passes, black_box=black_box, scalar=scalar, smooth=smooth, untargeted=untargeted, tolerance=tolerance)
    hold((MethodTrial(fn, shape_of(kind), options, model, said) for kind in shapes), METHOD_CLAUSES, clauses, EVERY_SHAPE)


def _signature(t: MethodTrial) -> None:
    check_signature(t.fn, ("f", "x", "target", "key"), given=t.options)


def _documentation(t: MethodTrial) -> None:
    check_documentation(t.fn, ("Cost", "Reference"))


def _attribution(t: MethodTrial) -> None:
    a, x = t.first, t.x
    t.require(isinstance(a, np.ndarray), f"returns a {type(a).__name__}: an attribution is one array")
    fits = a.ndim == x.ndim and all(m in (1, n) for m, n in zip(a.shape, x.shape))
    t.require(fits, f"returns shape {a.shape} for x of shape {x.shape}: an attribution has x's rank and broadcasts against x")
    _precise(t, a, x)
    t.require(finite(a), f"returns NaN or infinity for x of shape {x.shape}")
    t.require(np.abs(a).max() > 0, f"returns nothing but zeros for x of shape {x.shape}")


def _weights(t: MethodTrial) -> None:
    first, before = t.first, t.main.traces
    other = t.main(t.modelled(1), t.x, np.int32(2), t.other_key)
    t.stays_compiled(before, "new weights, another target and another key")
    t.require(not t.close(first, other), "returns the same for other weights and another target: it does not look at the model")
    again = t.main(t.f, t.x, np.int32(1), t.key)
    t.require(np.array_equal(first, again), "returns another attribution for the same arguments: something outside them is drawn or kept")


def _target(t: MethodTrial) -> None:
    if t.said["blind"]:
        t.require(np.array_equal(t.first, t.main(t.f, t.x, np.int32(2), t.key)), "is said to be blind=True, but its result depends on the target")
        return
    for outside in (CLASSES, -1):
        result = t.main(t.f, t.x, np.int32(outside), t.key)
        t.require(np.isnan(np.asarray(result, np.float64)).all(), f"gives numbers for a traced target={outside} of {CLASSES} classes: it must give NaN")


def _key(t: MethodTrial) -> None:
    drawn = not np.array_equal(t.first, t.main(t.f, t.x, np.int32(1), t.other_key))
    keyed = t.said["keyed"]
    t.require(keyed is None or keyed == drawn, f"is said to be keyed={keyed}, but its result {'depends' if drawn else 'does not depend'} on the key")
    if drawn:
        t.refuses("key=None, although it draws random numbers", "key=None", t.f, t.x, 1, None)
    else:
        error = t.refusal(t.f, t.x, 1, None)
        t.require(error is None, f"does not depend on the key, but fails without one: {error}")


def _errors(t: MethodTrial) -> None:
    pixels = np.asarray(np.asarray(t.x) * 255, np.uint8)
    t.refuses("integer pixels as x", r"\bx\b.* must be", t.f, pixels, 1, t.key)
    if not t.said["blind"]:
        for outside in (CLASSES, -1):
            t.refuses(f"target={outside} of {CLASSES} classes", f"target={outside}", t.f, t.x, outside, t.key)
        if not t.said["untargeted"]:
            t.refuses("target=None with a vector of logits", "target=None", t.f, t.x, None, t.key)
        t.refuses("a model that returns [1, K]", "vector of logits", lambda v: t.f(v)[None], t.x, 1, t.key)
    if "chunk" in t.parameters:
        t.refuses("chunk=0", "chunk=0", t.f, t.x, 1, t.key, chunk=0)
    t.refuses_unknown_names(t.f, t.x, 1, t.key)


def _names(t: MethodTrial) -> None:
    t.traces_every_name(t.refuses_unknown_names(t.f, t.x, 1, t.key), t.f, t.x, np.int32(1), t.key)


def _eager(t: MethodTrial) -> None:
    """Not traced at all, and with a Python integer as target."""
    plain = t.plainly(t.model(t.shape, 0), t.x, 1, t.key)  # uncounted, for a count is made anew for every trace
    t.require(t.close(plain, t.first), "returns another attribution under jit than without it")


def _batched(t: MethodTrial) -> None:
    xs, targets = np.stack([example(t.shape, seed) for seed in range(3)]), np.arange(3, dtype=np.int32)
    keys = [jax.random.fold_in(t.key, n) for n in range(3)]
    loop = np.stack([t.main(t.f, x, c, key) for x, c, key in zip(xs, targets, keys)])
    driven = each(t.fn, t.f, xs, targets, key=t.key, batch_size=2, **t.options)
    t.require(t.close(driven, loop), "returns another attribution under vmap (jxai.each) than in a loop")


def _precise(t: MethodTrial, a: Array, x: Array) -> None:
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    t.require(a.dtype == dtype, f"returns {a.dtype} for x of {x.dtype}: an attribution is {dtype}, since half precision would halve its ranks")


def _half(dtype: Any, t: MethodTrial) -> None:
    half, single = t.main(t.f, example(t.shape, dtype=dtype), np.int32(1), t.key), np.asarray(t.first, np.float64)
    _precise(t, half, example(t.shape, dtype=dtype))
    t.require(finite(half), f"returns NaN or infinity for x of {np.dtype(dtype)}")
    if np.ptp(single) >= 1e-6:
        alike = np.corrcoef(np.ravel(half).astype(np.float64), np.ravel(single))[0, 1]
        t.require(alike > 0.8, f"returns for x of {np.dtype(dtype)} what correlates by {alike:.2f} with the attribution in float32, not by 0.8")


def _scalar(t: MethodTrial) -> None:
    if not t.said["scalar"]:
        return
    changes = {"score": "logit"} if "score" in t.parameters else {}
    by_class = t.program(t.bound(**changes)) if changes and t.parameters["score"].default != "logit" else t.main
    alone = t.program(lambda f, x, key: t.bound(**changes)(lambda v: f(v)[2], x, None, key))(t.f, t.x, t.key)
    same = t.close(alone, by_class(t.f, t.x, np.int32(2), t.key), 5)
    t.require(same, "explains x -> f(x)[2] with target=None otherwise than f with target=2")


def _gradient(t: MethodTrial) -> None:
    if not t.said["smooth"]:
        return
    f = t.model(t.shape, 0)
    slope = t.program(jax.grad(lambda f, x, key: (t.bound()(f, x, 1, key) ** 2).sum(), allow_int=True))(f, t.x, t.key)
    slopes = [leaf for leaf in jax.tree.leaves(slope) if leaf.dtype.kind == "f"]
    t.require(all(map(finite, slopes)), "has a derivative by the weights that is not finite")
    t.require(any(np.abs(leaf).max() > 0 for leaf in slopes), "has no derivative by the weights: nothing reaches them (smooth=False where that is meant)")


def _chunk(t: MethodTrial) -> None:
    if "chunk" in t.parameters:
        for chunk in (1, 3):
            if chunk != t.options.get("chunk"):
                other = t.program(t.bound(chunk=chunk))(t.f, t.x, np.int32(1), t.key)
                t.require(t.close(other, t.first), f"returns another attribution with chunk={chunk}")


def _passes(t: MethodTrial) -> None:
    stated = t.said["passes"]
    if stated is not None:
        made = t.counter.of(t.main, t.f, t.x, np.int32(1), t.key)
        t.require(made == stated, f"makes {made} forward passes, not passes={stated} as stated")


def _shared(t: MethodTrial) -> None:
    if t.said["black_box"]:
        every = t.program(jax.vmap(t.bound(), (None, None, 0, None)))
        arguments = (t.f, t.x, np.arange(CLASSES, dtype=np.int32), t.key)
        one, all_classes = t.counter.of(t.main, t.f, t.x, np.int32(1), t.key), t.counter.of(every, *arguments)
        t.require(all_classes == one, f"makes {all_classes} forward passes for {CLASSES} targets under vmap and {one} for one: a black box shares them")
        t.require(t.close(every(*arguments)[1], t.first, 5), "returns another attribution for a target under vmap than alone")


METHOD_CLAUSES: dict[str, Callable[[MethodTrial], None]] = {
    "signature": _signature,
    "documentation": _documentation,
    "attribution": _attribution,
    "weights": _weights,
    "target": _target,
    "key": _key,
    "errors": _errors,
    "names": _names,
    "eager": _eager,
    "batched": _batched,
    "float16": functools.partial(_half, jnp.float16),
    "bfloat16": functools.partial(_half, jnp.bfloat16),
    "scalar": _scalar,
    "gradient": _gradient,
    "chunk": _chunk,
    "passes": _passes,
    "shared": _shared,
}
"""The clauses of the contract, by name; those of `EVERY_SHAPE` are tried on every shape, the others on the first."""
EVERY_SHAPE = ("attribution", "weights", "target", "key")
