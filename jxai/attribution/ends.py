"""Where a path through a generator begins and ends: the code of x, and that of a fiducial, like x but certain."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jxai.callables import fresh, plainly
from jxai.latent import descend, encoded
from jxai.removal import fills
from jxai.removal.masks import positions
from jxai.scores import check_target, one_of, positive, wide, within
from jxai.typing import Array, Generator, Model, PyTree, Scalar
from jxai.uncertainty.predictive import Score, uncertainty_of

__all__ = ["Ends", "uncertainty_ends"]

DISTANCES = ("cross_entropy", "squared")
_CLIP = 1e-7


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Ends:
    """The ends of a path through a generator; made by `uncertainty_ends`."""

    fiducial: PyTree
    """The code z₀ of a point that is like x, but certain."""
    code: PyTree
    """The code z of x."""
    start: Array
    """`decode(z₀)`, of x's shape."""
    uncertainties: Array
    """`[3]`: at `decode(z₀)`, at `decode(z)`, at x."""
    steps: Array
    """`[2]`, int32: how many the descents to z₀ and to z made."""


class Explained(NamedTuple):
    """What is shared out, and what the fiducial is held to."""

    uncertainty: Scalar
    penalty: Scalar
    """Of x: how far it is from certain of the class."""
    known: Array | bool
    """Whether the target is a class at all."""


@plainly
def uncertainty_ends(
    f: Model,
    x: Array,
    target: int | Array | None,
    key: Array | None = None,
    *,
    generator: Generator,
    uncertainty: str | Score = "total",
    members: Any = None,
    weight: float = 1e4,
    prior: float = 0.5,
    distance: str = "cross_entropy",
    search_steps: int = 2000,
    learning_rate: float = 0.01,
    tolerance: float = 1e-3,
) -> Ends:
    """The ends that `uncertainty_path` finds for these arguments, to be looked at: `decode(ends.fiducial)` should be like x, and certain.

    Returns:
      `Ends`, whose `fiducial` and `code` are options of `uncertainty_path`.

    Args, Raises, Reference: as `uncertainty_path`.
    Cost: up to `2 search_steps` forward and backward passes of the generator, half of them with f.
    """
    of = explained(f, x, target, uncertainty, members)
    search = dict(weight=weight, prior=prior, distance=distance, search_steps=search_steps, learning_rate=learning_rate, tolerance=tolerance)
    (fiducial, first), (code, second) = found(of, x, generator, None, None, search)
    start = generator.decode(fiducial)
    points = (start, generator.decode(code), x)
    return Ends(fiducial, code, start, jnp.stack([wide(of.uncertainty(v.astype(x.dtype))) for v in points]), jnp.stack([first, second]))


def explained(f: Model, x: Array, target: int | Array | None, uncertainty: str | Score, members: Any) -> Explained:
    """The uncertainty of f that the options name, and how far a point is from certain of the class.

    Raises:
      ValueError: bad x or target, an uncertainty that f does not have, members of another shape.
    """
    u, k = uncertainty_of(f, x, uncertainty, members, scalar=target is None)
    fills.check_finite("the path goes through a generator, and ends at x", x=x)
    if k is None:
        return Explained(u, u, True)
    model = fresh(f)
    if target is not None:
        check_target(target, k)
    label = jnp.argmax(wide(model(x))) if target is None else jnp.asarray(target)

    def penalty(v: Array) -> Array:
        """Keras' mean binary cross-entropy of the probabilities and the class."""
        log_p = jax.nn.log_softmax(wide(model(v)))
        own = jnp.arange(k) == label
        return -jnp.where(own, log_p, jnp.log1p(-jnp.minimum(jnp.exp(log_p), 1 - _CLIP))).mean()

    return Explained(u, penalty, (label >= 0) & (label < k))


def found(of: Explained, x: Array, generator: Generator, fiducial: PyTree, code: PyTree, search: dict[str, Any]) -> list[tuple[PyTree, Array]]:
    """The codes of the fiducial and of x, each with the steps of its descent; a given one stays, after none.

    Args:
      search: the options of `uncertainty_ends` from `weight` on.

    Raises:
      ValueError: a generator that does not fit x, a bad option, x out of [0, 1] for a cross-entropy.
    """
    one_of("distance", search["distance"], DISTANCES)
    within(0.0, math.inf, weight=search["weight"], prior=search["prior"], tolerance=search["tolerance"])
    positive(search_steps=search["search_steps"])
    if search["distance"] == "cross_entropy" and not isinstance(x, jax.core.Tracer) and not (np.min(x) >= 0 and np.max(x) <= 1):
        raise ValueError(f"x must lie in [0, 1] for distance='cross_entropy', but goes from {np.min(x):g} to {np.max(x):g}; distance='squared' takes any")
    near = _cross_entropy if search["distance"] == "cross_entropy" else _squared
    scale = search["weight"] * math.prod(positions(x))

    def cost(z: PyTree) -> Array:
        return near(wide(x), wide(generator.decode(z))) + search["prior"] * sum((wide(v) ** 2).sum() for v in jax.tree.leaves(z))

    def certain(z: PyTree) -> Array:
        return cost(z) + scale * of.penalty(generator.decode(z).astype(x.dtype))

    start = encoded(generator, x) if fiducial is None or code is None else None
    ends = []
    for given, searched, relative in ((fiducial, certain, True), (code, cost, False)):
        if given is not None:
            ends.append((given, jnp.int32(0)))
            continue
        options = dict(steps=search["search_steps"], learning_rate=search["learning_rate"], tolerance=search["tolerance"], relative=relative)
        end = descend(searched, start, **options)
        ends.append((end.code, end.steps))
    return ends


def _cross_entropy(x: Array, y: Array) -> Array:
    """Keras' binary cross-entropy, the mean over channels, summed over positions."""
    p = jnp.clip(y, _CLIP, 1 - _CLIP)
    return _over_positions(-(x * jnp.log(p) + (1 - x) * jnp.log1p(-p)))


def _squared(x: Array, y: Array) -> Array:
    return _over_positions((x - y) ** 2)


def _over_positions(v: Array) -> Array:
    return (v.mean(-1) if v.ndim > 1 else v).sum()
