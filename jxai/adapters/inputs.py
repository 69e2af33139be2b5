"""Several inputs explained at once: a method on a tree of arrays gives a tree of maps, where its mathematics does not ask where entries lie."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai.callables import Adapter, is_array
from jxai.typing import Array, PyTree

PLACES = ("layer", "window", "max_sigma", "mask_scale", "areas", "min_area", "num_masks", "upsampling")
"""Options of methods that look at where entries lie: at windows, grids, layers and neighbours."""
TREES = ("baseline", "baselines", "fill", "segments", "sigma", "scale")
"""Options that may be a tree like the inputs."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Joined(Adapter):
    """A model of a tree of arrays as one of a vector: all entries, one input after another."""

    f: Any
    treedef: Any = dataclasses.field(metadata={"static": True})
    shapes: tuple[tuple[int, ...], ...] = dataclasses.field(metadata={"static": True})

    def __call__(self, x: Array) -> Array:
        return self.f(self.split(x))

    def split(self, x: Array) -> PyTree:
        """The vector `[D]`, or `[n, D]`, as the tree."""
        parts = jnp.split(x, np.cumsum([np.prod(s, dtype=int) for s in self.shapes])[:-1], axis=-1)
        return self.treedef.unflatten([part.reshape(*x.shape[:-1], *shape) for part, shape in zip(parts, self.shapes)])


def jointly(method: Callable[..., Array]) -> Callable[..., PyTree]:
    """The method on several inputs at once: `jointly(method)(f, inputs, target, key, **options)` gives a map for each.

    The inputs are taken as one vector, so that what holds of the method holds over all of them: integrated gradients sum to the difference
    of scores, Shapley values to the score, over all inputs together. A feature is an entry, or with `segments` a label, or in methods that take segments each
    input by default. Options that are arrays of x's shape (`fill`, `baseline`, `segments` …) are trees like the inputs; numbers are as they are.

    Args:
      method: of `jxai.attribution`, one that does not look at where entries lie (no windows, grids, layers or blurs).

    Returns:
      `joint(f, inputs, target=None, key=None, **options) -> maps`, a tree like the inputs: tuple, list or dictionary of floating-point arrays.

    Raises:
      ValueError: the method looks at places; or, when called, an input is no floating-point array (hold it: `adapt(…, explain=…)`), there is none,
        or an option is a tree unlike the inputs.
    """
    parameters = inspect.signature(method).parameters
    places = [name for name in PLACES if name in parameters and not (name == "upsampling" and "segments" in parameters)]
    if places or ("grid" in parameters and "segments" not in parameters):
        raise ValueError(
            f"method={method.__name__} looks at where entries lie ({', '.join(places or ['grid'])}): explain one input, adapt(…, example=…, explain=…)"
        )

    @functools.wraps(method)
    def joint(f: Any, inputs: PyTree, target: int | Array | None = None, key: Array | None = None, **options: Any) -> PyTree:
        leaves, treedef = jax.tree.flatten(inputs)
        if not leaves:
            raise ValueError(f"{inputs=} must hold an array")
        for path, leaf in jax.tree_util.tree_flatten_with_path(inputs)[0]:
            if not is_array(leaf) or not jnp.issubdtype(leaf.dtype, jnp.floating):
                name, kind = jax.tree_util.keystr(path), getattr(leaf, "dtype", type(leaf).__name__)
                raise ValueError(f"inputs{name} must be a floating-point array, got {kind}: hold it, adapt(…, example=inputs, explain=…)")
        g = Joined(f, treedef, tuple(leaf.shape for leaf in leaves))
        if "segments" in parameters and options.get("segments") is None:
            options["segments"] = treedef.unflatten([np.full(leaf.shape, n) for n, leaf in enumerate(leaves)])
        for name in TREES:
            if isinstance(options.get(name), (tuple, list, dict)):
                if (jax.tree.structure(options[name]),) != (treedef,):
                    raise ValueError(f"{name} must be a tree like the inputs, {_outline(inputs)}, got {_outline(options[name])}")
                options[name] = _joined(jax.tree.leaves(options[name]), [leaf.shape for leaf in leaves])
        return g.split(method(g, _joined(leaves, [leaf.shape for leaf in leaves]), target, key, **options))

    return joint


def _outline(tree: PyTree) -> str:
    return str(jax.tree.map(lambda leaf: list(np.shape(leaf)), tree))


def _joined(leaves: list[Any], shapes: list[tuple[int, ...]]) -> Array:
    """The leaves as one vector, those without a shape of their own spread over their input's; `[n, …]` as `[n, D]`."""
    ahead = {np.ndim(leaf) - len(shape) for leaf, shape in zip(leaves, shapes)}
    rows = max(ahead) if len(ahead) == 1 and max(ahead) > 0 else 0
    lead = np.shape(leaves[0])[:rows]
    numpy = np if not any(isinstance(leaf, jax.Array) for leaf in leaves) else jnp
    return numpy.concatenate([numpy.broadcast_to(leaf, lead + shape).reshape(*lead, -1) for leaf, shape in zip(leaves, shapes)], axis=-1)
