"""Models as pytree callables: the split into traced arrays and static rest, and what a call may change (`jxai.adapters` makes one of any model).

The core needs no framework: an eval-mode `nnx.Module`, a `jax.tree_util.Partial` and an Equinox module already are
pytree callables; a plain function is one without leaves.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jxai.typing import Array, PyTree

P = ParamSpec("P")
R = TypeVar("R")


class Adapter:
    """Marks what holds a model as its field `f` and is one itself: the weights' paths begin inside.

    A function is held as a `jax.tree_util.Partial` without arguments: no leaf, so that `jax.jit` takes the whole as an argument.
    """

    f: Any

    def __post_init__(self) -> None:
        if inspect.isroutine(self.f) and jax.tree_util.all_leaves([self.f]):  # Equinox' compiled modules look like routines, and have weights
            object.__setattr__(self, "f", jax.tree_util.Partial(self.f))


HELD = "<held>"
"""In a leaf's path: it is data that an adapter holds for the model, no weight of it."""


@dataclasses.dataclass(frozen=True, eq=False)
class Static:
    """What of a pytree is not an array: its structure and its other leaves. Hashable, so that `jit` can key on it.

    Leaves are equal if their types are, too: a count of 1 is not a share of 1.0, and neither is True.
    """

    treedef: Any
    leaves: tuple[Any, ...]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Static) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple:
        # JAX takes dataclasses of two classes with the same fields for equal structures, but their hashes differ.
        return hash(self.treedef), self.treedef, tuple(map(type, self.leaves)), self.leaves

    def combine(self, arrays: list[Array]) -> PyTree:
        """The pytree again, with these arrays in the places of the old ones."""
        arrays = iter(arrays)
        return self.treedef.unflatten([next(arrays) if leaf is _ARRAY else leaf for leaf in self.leaves])


def partition(tree: PyTree) -> tuple[list[Array], Static]:
    """Splits a pytree (a model, a set of options) into its array leaves and a hashable rest.

    Python scalars, strings and functions are static; `jax.Array`, tracers and NumPy arrays are traced.
    """
    leaves, treedef = jax.tree.flatten(tree)
    arrays = [leaf for leaf in leaves if is_array(leaf)]
    return arrays, Static(treedef, tuple(_ARRAY if is_array(leaf) else leaf for leaf in leaves))


def compiled(f: PyTree, *args: PyTree, **static: Any) -> PyTree:
    """`f(*args, **static)`, compiled once for each structure and shapes: arrays in f and args are traced, everything else is static."""
    arrays, rest = partition((f, args))
    return _called(arrays, rest=rest, static=tuple(sorted(static.items())))


@functools.partial(jax.jit, static_argnames=("rest", "static"))
def _called(arrays: list[Array], *, rest: Static, static: tuple[tuple[str, Any], ...]) -> PyTree:
    f, args = rest.combine(arrays)
    return f(*args, **dict(static))


def plainly(routine: Callable[P, R]) -> Callable[P, R]:
    """The routine under JAX's own rules of promotion, of types and of ranks, whatever stricter ones a person wants for code of theirs.

    `jax_numpy_dtype_promotion="strict"` and `jax_numpy_rank_promotion="raise"` refuse `mask * x` and `x - x.mean(0)`, also in the libraries used here.

    Inside `jax.shard_map` every array of real numbers varies over the axes that any varies over: JAX sums a derivative by what all
    devices share over the devices, but a routine's example is its own.
    """

    @functools.wraps(routine)
    def plain(*args: P.args, **kwargs: P.kwargs) -> R:
        args, kwargs = _own(_narrowed(args), kwargs)
        if (jax.config.jax_numpy_dtype_promotion, jax.config.jax_numpy_rank_promotion) == ("standard", "allow"):
            return routine(*args, **kwargs)
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return routine(*args, **kwargs)

    return plain


def _narrowed(args: tuple) -> tuple:
    """The arguments with x in float32 where it is NumPy's float64 and JAX holds none: once, rather than with a warning at every step."""
    if len(args) < 2 or not callable(args[0]) or not isinstance(args[1], np.ndarray) or args[1].dtype != np.float64 or jax.config.jax_enable_x64:
        return args
    return args[0], args[1].astype(np.float32), *args[2:]


def _own(args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """A routine's arguments; inside `shard_map`, each device's own over the axes over which any varies, or what its f closes over."""
    manual = frozenset(jax.sharding.get_abstract_mesh().manual_axes)
    if not manual:
        return args, kwargs
    axes = varying((args, kwargs))
    if axes != manual and len(args) > 1 and callable(args[0]) and is_array(args[1]):
        try:
            axes = varying_in((args, kwargs), (fresh(args[0]), args[1]))
        except (TypeError, ValueError):  # f does not take x: the routine says so better
            pass
    real = lambda leaf: is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.inexact)
    return jax.tree.map(lambda leaf: vary(leaf, axes) if real(leaf) else leaf, (args, kwargs)) if axes else (args, kwargs)


def varying(tree: PyTree) -> frozenset[str]:
    """The mesh axes over which some array, or type of one, of a pytree varies inside `jax.shard_map`: it may differ from device to device."""
    types = (jax.typeof(leaf) if is_array(leaf) else leaf for leaf in jax.tree.leaves(tree))
    return frozenset().union(*(t.manual_axis_type.varying for t in types if hasattr(t, "manual_axis_type")))


def varying_in(given: PyTree, *calls: tuple) -> frozenset[str]:
    """The mesh axes over which something varies: what is given, or what these calls `(fn, *args)` close over or return."""
    if not jax.sharding.get_abstract_mesh().manual_axes:
        return frozenset()
    traced = [jax.make_jaxpr(fn)(*args) for fn, *args in calls]
    return varying((given, [(closed.consts, closed.out_avals) for closed in traced]))


def vary(tree: PyTree, axes: frozenset[str]) -> PyTree:
    """The pytree with every array varying over these mesh axes, too: the same values, each device's own from here on."""

    def own(leaf: Any) -> Any:
        missing = axes - varying(leaf) if is_array(leaf) else None
        return jax.lax.pcast(leaf, tuple(sorted(missing)), to="varying") if missing else leaf

    return jax.tree.map(own, tree) if axes else tree


def transpose(linear: Callable[[Any], Array], like: PyTree, g: Array) -> Any:
    """`linear_transpose(linear, like)(g)`, each device's own."""
    axes = varying_in(g, (linear, like))
    at = vary(jax.tree.map(lambda one: jnp.zeros(one.shape, one.dtype), like), axes) if axes else like
    return jax.linear_transpose(linear, at)(vary(g, axes))[0]


def is_array(leaf: Any) -> bool:
    """Whether a leaf is traced: a JAX array (typed PRNG keys and tracers too) or a NumPy one."""
    return isinstance(leaf, (jax.Array, np.ndarray, np.generic))


def fresh(f: Any) -> Any:
    """f whose state is made anew from its leaves at every call, so that what a call changes in it stays within the trace that makes it.

    An nnx module counts the random numbers that its layers might draw (a GRU's first state, say), which no trace lets it do from outside.

    Raises, when called:
      ValueError: the call changes weights or statistics of f, or its answer depends on random numbers: f is in training mode.
    """
    leaves, treedef = jax.tree.flatten(f)
    if not any(map(is_array, leaves)):
        return functools.partial(_held, f)

    def call(x: Array) -> Any:
        own = treedef.unflatten(leaves)
        out = _held(own, x)
        after = jax.tree.leaves(own)
        if len(after) != len(leaves) or any(a is not b for a, b in zip(leaves, after)):
            _check_state(f, own, x)
        return out

    return call


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Fresh:
    """`fresh(f)` as a pytree callable, for loops that call it again and again."""

    f: Any

    def __call__(self, x: Array) -> Any:
        return fresh(self.f)(x)


def evaluation(f: Any) -> str:
    """How to get an evaluation view of f, with the flags that the modules in it have."""
    nnx = sys.modules.get("flax.nnx")
    found: set[str] = set()
    if nnx is not None:
        held, inner = [f], f
        while isinstance(inner, Adapter):
            inner = inner.f
        inner = inner.func if isinstance(inner, jax.tree_util.Partial) else inner
        if inspect.isfunction(inner):  # a function around a module
            named = inspect.getclosurevars(inner)
            held += [*named.nonlocals.values(), *named.globals.values()]
        is_module = lambda leaf: isinstance(leaf, nnx.Module)
        modules = [leaf for leaf in jax.tree.leaves(held, is_leaf=is_module) if is_module(leaf)]
        for _, module in (pair for one in modules for pair in nnx.iter_modules(one)):
            found |= set(inspect.signature(module.set_view).parameters) if hasattr(module, "set_view") else set()
    flags = [f"{name}=True" for name in ("deterministic", "use_running_average") if name in found]
    flag = "call the model with its flag for evaluation"
    return f"explain an evaluation view, nnx.view(model, {', '.join(flags)}), or {flag}" if flags else flag


def _held(f: Any, x: Array) -> Any:
    """`f(x)`; a clear word where f holds a module whose state an outer trace owns."""
    try:
        return f(x)
    except Exception as error:
        if type(error).__name__ != "TraceContextError":
            raise
        raise ValueError(
            f"f changes a module's state while it is traced: hand on the module itself, no function around it; in training mode {evaluation(f)}"
        ) from error


def _check_state(f: Any, own: Any, x: Array) -> None:
    """Raises ValueError where a call changed numbers of f, or its random numbers matter; a count that does not may change."""
    paths, treedef = jax.tree_util.tree_flatten_with_path(f)
    after = dict(jax.tree_util.tree_flatten_with_path(own)[0])
    changed = {path for path, leaf in paths if path in after and after[path] is not leaf and is_array(leaf)}
    for path, leaf in paths:
        if path in changed and jnp.issubdtype(leaf.dtype, jnp.inexact):
            raise ValueError(f"f changes f{jax.tree_util.keystr(path)} when it is called, as in training mode: {evaluation(f)}")
    random = [n for n, (path, leaf) in enumerate(paths) if path in changed or (is_array(leaf) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))]

    def drawn(varied: list[Array]) -> Any:
        leaves = [leaf for _, leaf in paths]
        for n, leaf in zip(random, varied):
            leaves[n] = leaf
        return treedef.unflatten(leaves)(x)

    try:
        # An answer that depends on them is one for each of two, which `out_axes=None` does not take.
        jax.eval_shape(jax.vmap(drawn, out_axes=None), [jax.ShapeDtypeStruct((2, *paths[n][1].shape), paths[n][1].dtype) for n in random])
    except ValueError as error:
        if "out_axes" not in str(error):
            raise
        raise ValueError(f"f draws random numbers when it is called, as dropout does in training mode: {evaluation(f)}") from error


class _Array:
    def __repr__(self) -> str:
        return "<array>"


_ARRAY = _Array()
