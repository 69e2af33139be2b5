"""The driver: maps a function of one example over a batch, padded, chunked, sharded and compiled once for each shape."""

from __future__ import annotations

import inspect
import numbers
import time
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jxai import outputs
from jxai.callables import Static, compiled, fresh, is_array, partition, plainly
from jxai.loops import at_once
from jxai.removal.masks import dense, positions
from jxai.scores import logits_shape, positive
from jxai.typing import Array, Model, PyTree
from jxai.views.progress import Progress


@plainly
def each(
    fn: Callable[..., PyTree],
    f: Model,
    *examples: Array | int | None,
    key: Array | None = None,
    index: Array | None = None,
    per_example: Mapping[str, Array] | None = None,
    batch_size: int | None = None,
    mesh: Mesh | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    **options: Any,
) -> PyTree:
    """`[fn(f, *example, key=fold_in(key, index), **options) for each example]`, stacked.

    Peak memory is that of `batch_size × chunk` passes on each device. A result depends on its example and index, not on the
    order, the block or the number of devices: bit-equal for equal shapes (and cores of a CPU), to 1e-5 relative for another `batch_size`.

    Args:
      fn: a method, a metric or any function of that form; the compiled code is kept by `fn`'s identity, so a lambda made
        anew compiles anew.
      f: a pytree callable; new weights of the same shapes do not retrace.
      *examples: arrays (or lists of numbers) with a leading axis of n examples (x `[n, …]`, target `[n]`, attribution …); an integer is
        the same for all, None is passed on.
      key: one key; example i gets `fold_in(key, index[i])`. index: `[n]`, each example's place in its data set; 0 … n−1 by default.
      per_example: options that differ by example, arrays with a leading axis of n (`segments=[n, H, W]`); for segments,
        labels are numbered without gaps, and `num_segments` is found.
      batch_size: examples at once on a device; None is what suits fn and the size of x, at most 8 (see `default_batch_size`).
      mesh: devices to share the examples over (see `device_mesh`), whatever the kind of its axes.
      on_progress: is told how far it is (`jxai.ProgressBar()` shows it), as blocks of examples are done: the examples are then taken in up to 50
        equal blocks, which is one program as before, but another one, and agrees as another `batch_size` does.
      **options: passed to fn; Python scalars, strings and functions are static, arrays are traced.

    Raises:
      ValueError: no examples, examples of unequal number, `on_progress` under a trace, an x (the first of `examples`) without an axis of
        examples, or that is not finite where f of it is not, either, an f that returns probabilities, a target outside `[0, K)`, or a
        `batch_size` below 1. A metric says itself what an attribution with NaN gives.
    """
    if AxisType.Explicit in jax.sharding.get_abstract_mesh().axis_types and not outputs.is_staged():
        with jax.set_mesh(_typed(jax.sharding.get_mesh(), AxisType.Auto)):
            out = each(fn, f, *examples, key=key, index=index, per_example=per_example, batch_size=batch_size, mesh=mesh, on_progress=on_progress, **options)
        return _laid(out, AxisType.Explicit)
    f, examples, key, index, per_example, options = _laid((f, examples, key, index, per_example, options), AxisType.Auto)
    per_example = {name: _as_array(value) for name, value in (per_example or {}).items()}
    examples = tuple(map(_as_array, examples))
    try:
        count = _count(examples, per_example)
    except ValueError as error:
        if _takes_whole(f, examples[0] if examples else None):
            raise _no_batch(examples[0]) from error
        raise
    if batch_size is None:
        batch_size = default_batch_size(jax.tree.leaves(examples)[0][0], fn, options.get("chunk"))
    positive(batch_size=batch_size)
    weights, model = partition(f)
    _check_data(f, weights, model, examples, options.get("score", "logit"))
    if "num_segments" not in options and any(p.name == "num_segments" or p.kind is p.VAR_KEYWORD for p in inspect.signature(fn).parameters.values()):
        _number_segments(examples[0], per_example, options)
    index = np.arange(count) if index is None else index
    if np.shape(index) != (count,):
        raise ValueError(f"index must have shape {(count,)}, got {np.shape(index)}")
    devices = mesh.size if mesh is not None else 1
    batch_size = min(batch_size, -(-count // devices))
    rows = [np.full(count, v) if isinstance(v, int) else v for v in examples]
    arrays, rest = partition(options)
    run = partial(_run, weights, arrays, key, fn=fn, model=model, options=rest, batch_size=batch_size, mesh=mesh)
    step, data = devices * batch_size, (rows, np.asarray(index), per_example)
    if on_progress is not None and not callable(on_progress):
        raise ValueError(f"{on_progress=} must be a function of a Progress, such as jxai.ProgressBar()")
    if on_progress is not None and (outputs.is_staged() or any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((weights, arrays, key, data)))):
        raise ValueError(f"{on_progress=} says nothing under a trace: call each outside of jit, or leave it out")
    out = (
        run(*jax.tree.map(partial(pad, multiple=step), data))
        if on_progress is None
        else _told(run, data, count, step, getattr(fn, "__name__", ""), on_progress)
    )
    return jax.tree.map(lambda leaf: leaf if leaf.shape[0] == count else leaf[:count], out)


_BLOCKS = 50
"""In which examples are taken at most where progress is told."""


def _told(run: Callable[..., PyTree], data: PyTree, count: int, step: int, what: str, on_progress: Callable[[Progress], None]) -> PyTree:
    """`run` of equal blocks, one after another, and what it returns of all."""
    block = step * -(-count // (step * _BLOCKS))
    data, start, found = jax.tree.map(partial(pad, multiple=block), data), time.monotonic(), []
    on_progress(Progress(0, count, 0, 0.0, what))
    for first in range(0, count, block):
        found.append(jax.block_until_ready(run(*jax.tree.map(lambda leaf: leaf[first : first + block], data))))
        done = min(first + block, count)
        on_progress(Progress(done, count, done, time.monotonic() - start, what))
    return found[0] if len(found) == 1 else jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *found)


def default_batch_size(x: Array, fn: Callable[..., PyTree] | None = None, chunk: int | None = None) -> int:
    """How many examples like x `each` takes at once: at most 8, and fewer of large ones on a CPU (`jxai.loops.at_once`).

    There, an fn with an option `chunk` gets no more than make up `at_once` passes with it: one, where `chunk` is None. A larger
    block overruns the caches of a CPU (a deletion curve of LeNet-5 took 1.3 times as long by 8 examples).
    """
    most = at_once(x, None)
    if fn is not None and jax.default_backend() == "cpu" and "chunk" in inspect.signature(fn).parameters:
        most //= at_once(x, chunk)
    return max(1, min(8, most))


def device_mesh(devices: list[jax.Device] | None = None) -> Mesh:
    """A one-axis mesh over these devices (all of them by default), for `each`."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), ("examples",), axis_types=(AxisType.Auto,), devices=devices)


def _typed(mesh: Mesh, kind: AxisType) -> Mesh:
    """The mesh, all of its axes of this kind: those of `jax.make_mesh` are explicit, and what is laid over them has to say so in every gather."""
    return Mesh(mesh.devices, mesh.axis_names, axis_types=(kind,) * mesh.devices.ndim)


def _laid(tree: PyTree, kind: AxisType) -> PyTree:
    """Arrays as they are laid over devices, along mesh axes of this kind; no number moves."""

    def over(leaf: Any) -> NamedSharding | None:
        sharding = leaf.sharding if isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer) else None
        return sharding if isinstance(sharding, NamedSharding) and set(sharding.mesh.axis_types) != {kind} else None

    def one(leaf: Any) -> Any:
        old = over(leaf)
        return leaf if old is None else jax.device_put(leaf, NamedSharding(_typed(old.mesh, kind), old.spec))

    return jax.tree.map(one, tree) if any(map(over, jax.tree.leaves(tree))) else tree


@partial(jax.jit, static_argnames=("fn", "model", "options", "batch_size", "mesh"))
def _run(weights, arrays, key, rows, index, per_example, *, fn, model: Static, options: Static, batch_size: int, mesh: Mesh | None):
    def local(weights, arrays, key, rows, index, per_example):
        f, fixed = model.combine(weights), options.combine(arrays)

        def one(item):
            row, i, own = item
            keyed = {} if key is None else {"key": jax.random.fold_in(key, i)}
            return fn(f, *row, **keyed, **own, **fixed)

        return jax.lax.map(one, (rows, index, per_example), batch_size=batch_size)

    if mesh is not None:
        if AxisType.Explicit in jax.sharding.get_abstract_mesh().axis_types:
            raise ValueError(f"{mesh=} inside of jit under jax.set_mesh with explicit axes: call each outside of jit, or leave mesh out")
        mesh = _typed(mesh, AxisType.Auto)
        # Outside the map: seen from inside, the partitioner would gather every block.
        split = P(mesh.axis_names)
        local = jax.shard_map(local, mesh=mesh, in_specs=(P(), P(), P(), split, split, split), out_specs=split, check_vma=False)
    return local(weights, arrays, key, rows, index, per_example)


@lru_cache(maxsize=64)
def _ending(model: Static, x: tuple, weights: tuple) -> outputs.Ending:
    """How f(x) ends; arrays are given as `(shape, dtype)`. Kept, for a trace costs more than most metrics."""
    one, leaves = jax.ShapeDtypeStruct(*x), [jax.ShapeDtypeStruct(*leaf) for leaf in weights]
    return outputs.ending(lambda given: model.combine(given[0])(given[1]), (leaves, one))


def _count(examples: tuple, per_example: dict[str, Array]) -> int:
    named = [(f"examples[{n}]", v) for n, v in enumerate(examples)] + [(f"per_example[{k!r}]", v) for k, v in per_example.items()]
    sizes = {}
    for name, tree in named:
        for leaf in jax.tree.leaves(tree):
            if is_array(leaf):
                if np.ndim(leaf) == 0:
                    raise ValueError(f"{name} must have a leading axis of examples, got a scalar {leaf!r}")
                sizes[name] = leaf.shape[0]
    if len(set(sizes.values())) > 1:
        raise ValueError(f"examples must be equal in number, got {sizes}")
    if not sizes or not next(iter(sizes.values())):
        raise ValueError(f"there are no examples in {[name for name, _ in named]}")
    return next(iter(sizes.values()))


def _as_array(value: Any) -> Any:
    """A list of numbers (or of lists of them) as an array; all else as it is."""
    if isinstance(value, (list, tuple)) and value and all(isinstance(leaf, numbers.Number) for leaf in jax.tree.leaves(value)):
        return np.asarray(value)
    return value


def _number_segments(xs: Any, per_example: dict[str, Any], options: dict[str, Any]) -> None:
    """Numbers the labels of concrete maps without gaps, and adds how many there are."""
    if not is_array(xs):
        return
    for given in (per_example, options):
        labels = _as_array(given.get("segments"))
        if is_array(labels) and not isinstance(labels, jax.core.Tracer) and jnp.issubdtype(labels.dtype, jnp.integer):
            given["segments"], options["num_segments"] = dense(np.asarray(labels), len(positions(xs[0])))


def _check_data(f: Model, weights: list[Array], model: Static, examples: tuple, score: str) -> None:
    """What a trace cannot raise: pixels that are not finite where f(x) is not, targets that are no class, probabilities for logits."""
    x = examples[0]
    if is_array(x) and not isinstance(x, jax.core.Tracer) and jnp.issubdtype(x.dtype, jnp.floating):
        # On a CPU NumPy sees the same memory, and starts at once.
        finite = np.isfinite(np.asarray(x)) if jax.default_backend() == "cpu" else jnp.isfinite(x)
        finite = np.asarray(finite.reshape(x.shape[0], -1).all(1))
        for i in np.flatnonzero(~finite):
            if not callable(f):
                raise ValueError(f"x must be finite, but example {i} has NaN or infinite entries")
            outputs.check_finite(f, x[i], None, compiled, f"example {i}")
    if len(examples) < 2 or not callable(f) or not is_array(x):
        return
    target = examples[1]
    classes = isinstance(target, int) or (is_array(target) and jnp.issubdtype(target.dtype, jnp.integer))
    if isinstance(target, jax.core.Tracer) or not classes:
        return
    leaves = tuple((leaf.shape, leaf.dtype) for leaf in weights)
    try:
        end = _ending(model, (x.shape[1:], x.dtype), leaves)
    except (TypeError, ValueError) as error:
        try:
            _ending(model, (x.shape, x.dtype), leaves)
        except (TypeError, ValueError):
            raise error from None
        raise _no_batch(x) from error
    shape = logits_shape(end.out)
    target = np.atleast_1d(np.asarray(target))
    if ((target < 0) | (target >= shape[0])).any():
        bad = target[(target < 0) | (target >= shape[0])][0]
        raise ValueError(f"target={bad} must be a class in [0, {shape[0]})")
    if outputs.concrete(weights, x):
        outputs.check_logits(f, x[0], end, score, compiled)


def _takes_whole(f: Model, x: PyTree) -> bool:
    """Whether f makes a vector of x, and none of what lies along its first axis."""
    if not callable(f) or not is_array(x) or not x.ndim:
        return False
    try:
        whole = getattr(jax.eval_shape(fresh(f), x), "ndim", None) == 1
    except (TypeError, ValueError):
        return False
    try:
        jax.eval_shape(fresh(f), jax.ShapeDtypeStruct(x.shape[1:], x.dtype))
    except (TypeError, ValueError):
        return whole
    return False


def _no_batch(x: Array) -> ValueError:
    return ValueError(f"x of shape {x.shape} has no leading axis of examples: f takes it whole; call fn(f, x, target) of one example")


def pad(leaf: Array, multiple: int) -> Array:
    """Repeats the last row until the number of rows is a multiple, so that the body compiles for one shape."""
    short = -leaf.shape[0] % multiple
    if not short:
        return leaf
    xp = np if isinstance(leaf, np.ndarray) else jnp
    return xp.concatenate([leaf, xp.repeat(leaf[-1:], short, axis=0)])
