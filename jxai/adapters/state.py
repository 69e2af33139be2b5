"""`load_weights`: the arrays of a file into the leaves of a model, by a map of names, so that nothing is left over and nothing is guessed."""

from __future__ import annotations

import collections
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jxai.adapters import weight_files
from jxai.callables import is_array
from jxai.typing import PyTree

Names: TypeAlias = Mapping[str, str] | Callable[[str], str | None] | Sequence[tuple[str, str]]
Move: TypeAlias = Mapping[int, tuple[int, ...]] | Callable[[np.ndarray], np.ndarray]

TORCH_TO_FLAX: tuple[tuple[str, Move], ...] = ((r"kernel$", {2: (1, 0), 3: (2, 1, 0), 4: (2, 3, 1, 0), 5: (2, 3, 4, 1, 0)}),)
"""PyTorch's layouts as Flax': of a leaf called `kernel`, `[out, in]` becomes `[in, out]`, `[O, I, …]` of a convolution `[…, I, O]`."""


def load_weights(
    model: PyTree,
    weights: str | os.PathLike | Mapping[str, Any],
    *,
    names: Names | None = None,
    transpose: Iterable[tuple[str, Move]] = (),
    ignore: Sequence[str] = (),
) -> PyTree:
    """The model with the arrays of a file in the places of its leaves: an nnx or Equinox module, linen's variables, or any pytree. The one given stays as it is.

    Every leaf of real numbers gets exactly one array, and every array goes to a leaf, unless `ignore` says that it does not. Other leaves
    (counts, keys) get one where the file has it. A leaf's name is its path with dots: `blocks.0.conv.kernel`, `params.Dense_0.bias`.

    Args:
      model: whose leaves say which names, shapes and types are wanted; they may be shapes alone, as of `nnx.eval_shape`.
      weights: a file (`.npz`, `.safetensors`, or a state dictionary that `torch.save` wrote), or its arrays by name.
      names: what a name of the file is called in the model: a dictionary; a function, of which None says that the array is not
        wanted; or rules `(pattern, replacement)`, regular expressions that are replaced one after another wherever they are found. None: the same.
      transpose: rules `(pattern, move)` for the first of which the pattern is found in the leaf's name: `move` has the order of axes by
        the array's number of axes, or is a function of the array. `TORCH_TO_FLAX` is a list of such.
      ignore: patterns of names in the file, as a whole, that the model has no use for: `".*num_batches_tracked"`.

    Raises:
      ValueError: leaves without an array, arrays without a leaf, several arrays for one leaf, shapes that differ, real numbers for whole ones, a
        pattern that is none, or a file that is damaged. The message lists the names.
      FileNotFoundError: there is no such file.
    """
    arrays = dict(weights) if isinstance(weights, Mapping) else weight_files.read(weights)
    paths, treedef = jax.tree_util.tree_flatten_with_path(model)
    variables = _variables(model)
    called = [_dotted(path[:-1] if path[:-1] in variables else path) for path, _ in paths]
    if twice := [name for name, count in collections.Counter(called).items() if count > 1]:
        raise ValueError(f"several leaves of the model have one name: {_listed(twice)}")
    leaves = {name: leaf for name, (_, leaf) in zip(called, paths)}
    ignored = [_pattern("ignore", pattern) for pattern in ignore]
    renamed = _renamed(names, [name for name in arrays if not any(pattern.fullmatch(name) for pattern in ignored)])
    _check(leaves, renamed)
    moves = [(_pattern("transpose", pattern), move) for pattern, move in _pairs("transpose", transpose)]
    of = {leaf: name for name, leaf in renamed.items()}
    wrong: list[str] = []
    values = [_fitted(name, of[name], leaf, arrays[of[name]], moves, wrong) if name in of else leaf for name, leaf in leaves.items()]
    if wrong:
        raise ValueError(f"weights that do not fit: {_listed(wrong)}")
    return treedef.unflatten(values)


def _dotted(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _variables(model: PyTree) -> set[tuple]:
    """The paths of nnx' variables, whose one leaf is the value."""
    nnx = sys.modules.get("flax.nnx")
    if nnx is None:
        return set()
    is_variable = lambda node: isinstance(node, nnx.Variable)
    return {path for path, node in jax.tree_util.tree_flatten_with_path(model, is_leaf=is_variable)[0] if is_variable(node)}


def _renamed(names: Names | None, given: list[str]) -> dict[str, str]:
    """What each array of the file is called in the model, without those that are not wanted."""
    if names is None:
        return {name: name for name in given}
    if isinstance(names, Mapping):
        if unknown := [name for name in names if name not in given]:
            raise ValueError(f"names that the file does not have: {_listed(unknown)}; it has {_listed(given)}")
        return {name: names.get(name, name) for name in given}
    if callable(names):
        return {name: leaf for name in given if (leaf := names(name)) is not None}
    rules = [(_pattern("names", pattern), replacement) for pattern, replacement in _pairs("names", names)]
    called = {}
    for name in given:
        leaf = name
        for pattern, replacement in rules:
            try:
                leaf = pattern.sub(replacement, leaf)
            except (re.error, TypeError, IndexError) as error:
                raise ValueError(f"names has the replacement {replacement!r} of {pattern.pattern!r}, which cannot be made ({error})") from error
        called[name] = leaf
    return called


def _check(leaves: dict[str, Any], called: dict[str, str]) -> None:
    """Raises ValueError unless each leaf that needs an array has one, and each array a leaf."""
    by_leaf: dict[str, list[str]] = {}
    for name, leaf in called.items():
        by_leaf.setdefault(leaf, []).append(name)
    needed = [name for name, leaf in leaves.items() if isinstance(leaf, jax.ShapeDtypeStruct) or (is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.inexact))]
    said = []
    if several := [f"{leaf} ({', '.join(of)})" for leaf, of in by_leaf.items() if len(of) > 1]:
        said.append(f"several arrays for {_listed(several)}")
    if missing := [f"{name} {list(leaves[name].shape)}" for name in needed if name not in by_leaf]:
        said.append(f"no array for {_listed(missing)}")
    if unused := [name if name == leaf else f"{name} (as {leaf})" for name, leaf in called.items() if leaf not in leaves]:
        said.append(f"no leaf for {_listed(unused)}")
    if said:
        raise ValueError(
            f"the weights do not go one to one to the model's leaves: {'; '.join(said)}. Say with names= what is called what, with ignore= what is not wanted"
        )


def _fitted(name: str, source: str, leaf: Any, array: Any, moves: list[tuple[re.Pattern, Move]], wrong: list[str]) -> Any:
    """An array as the leaf wants it; what is wrong about it is added to the list."""
    array = np.asarray(array)
    move = next((move for pattern, move in moves if pattern.search(name)), {})
    try:
        if callable(move):
            array = np.asarray(move(array))
        elif array.ndim in move:
            array = np.transpose(array, move[array.ndim])
    except ValueError as error:
        wrong.append(f"{source} {list(array.shape)} cannot be moved as transpose says of {name} ({error})")
        return leaf
    if array.shape != tuple(np.shape(leaf)):
        wrong.append(f"{source} {list(array.shape)}{' after transpose' if move else ''}, but {name} is {list(np.shape(leaf))}")
        return leaf
    dtype = jnp.result_type(leaf) if not hasattr(leaf, "dtype") else leaf.dtype
    if array.dtype != dtype and (jnp.issubdtype(dtype, jax.dtypes.extended) or _rank(array.dtype) > _rank(dtype)):
        said = ", a type that the file does not name, as .npz of bfloat16: save it as float32" if array.dtype.kind == "V" else ""
        wrong.append(f"{source} is {array.dtype}{said}, but {name} is {dtype}")
        return leaf
    if (largest := _beyond(array, dtype)) is not None:
        wrong.append(f"{source} holds {largest:g}, beyond what {name}, {dtype}, can")
        return leaf
    return jnp.asarray(array, dtype)


def _rank(dtype: Any) -> int:
    """What holds which numbers: complex ones hold real ones, and these whole ones; nothing holds what are no numbers."""
    kinds = jnp.bool_, jnp.integer, jnp.floating, jnp.complexfloating
    return next((n for n, kind in enumerate(kinds) if jnp.issubdtype(dtype, kind)), len(kinds))


def _beyond(array: np.ndarray, dtype: Any) -> Any:
    """The largest number of an array that a type cannot hold, by magnitude; None where it holds all."""
    most = jnp.iinfo(dtype) if jnp.issubdtype(dtype, jnp.integer) else jnp.finfo(dtype) if jnp.issubdtype(dtype, jnp.floating) else None
    if most is None or array.dtype == dtype or array.dtype == bool:
        return None
    known = array[np.isfinite(array)]
    out = known[(known < most.min) | (known > most.max)]
    return max(out.tolist(), key=abs) if out.size else None


def _pairs(option: str, rules: Any) -> list[tuple[Any, Any]]:
    rules = list(rules.items() if isinstance(rules, Mapping) else rules)
    for rule in rules:
        if not isinstance(rule, (tuple, list)) or len(rule) != 2:
            raise ValueError(f"{option} must hold pairs of a pattern and what it is for, got {rule!r}")
    return rules


def _pattern(option: str, pattern: str) -> re.Pattern:
    try:
        return re.compile(pattern)
    except (re.error, TypeError) as error:
        raise ValueError(f"{option} has {pattern!r}, which is no regular expression ({error})") from error


def _listed(names: Sequence[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f", … ({len(names)} in all)" if len(names) > most else "")
