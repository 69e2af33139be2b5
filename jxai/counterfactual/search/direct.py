"""Methods that need no loop: one look at one point, as a search that ends with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from jxai.counterfactual.search import Candidate, Domain, Search
from jxai.typing import Array, Model, PyTree

Find = Callable[[Model, Array, Array | None, Array | None, dict[str, Any]], Candidate]
"""`(f, x, target, key, options) -> candidate`: the only point that is looked at; its `stop` says nothing."""
Check = Callable[[Model, Array, Array | None, dict[str, Any]], None]
"""`(f, x, target, options)`."""


def direct(find: Find, check: Check, options: dict[str, Any]) -> Search:
    """The search that looks once, and makes no step.

    Args:
      find, check: module-level functions; check raises where the input is bad, while x may still be concrete.
      options: what they are given, arrays of it are leaves; `clip` and `constraints` are the search's domain.
    """
    return Search(Partial(_init, check, options), Partial(_step, find, options), 0, Domain(options.get("clip"), options.get("constraints", ())))


def _init(check: Check, options: dict[str, Any], f: Model, x: Array, target: int | Array | None, key: Array | None, **own: Array) -> tuple[tuple, PyTree]:
    if unknown := own.keys() - options.keys():
        raise ValueError(f"{min(unknown)!r} is no option that may differ by example; those are among {', '.join(options)}")
    check(f, x, target, {**options, **own})
    return (), {"x": jnp.asarray(x), "target": None if target is None else jnp.asarray(target), "key": key, "own": jax.tree.map(jnp.asarray, own)}


def _step(find: Find, options: dict[str, Any], f: Model, variable: tuple, memory: PyTree) -> tuple[tuple, PyTree, Candidate]:
    seen = find(f, memory["x"], memory["target"], memory["key"], {**options, **memory["own"]})
    return variable, memory, seen._replace(stop=jnp.asarray(True))
