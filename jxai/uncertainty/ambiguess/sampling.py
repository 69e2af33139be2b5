"""Codes of ambiguous images: where between two classes the image changes fastest while the critic's label is undecided."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jxai.loops import map as lax_map
from jxai.loops import while_loop
from jxai.scores import need_key, positive, within
from jxai.typing import Array
from jxai.uncertainty.ambiguess.model import CENTRES, AmbiGuess

_BESIDE, _ALONG = 2.0, 5.0
"""In standard deviations: how near to the centres cells begin on the axis between them, and how far they go on the other."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Density:
    """Where between two classes ambiguous images are looked for: cells of the code space and their weights."""

    centres: Array
    """`[cells, cells, 2]`: the middle of each, by the axis between the classes, then along the other."""
    size: Array
    """`[2]`: of a cell."""
    weights: Array
    """`[cells, cells]`, >= 0: how fast the image changes there; 0 where the label in the middle is too certain."""
    difference: Array
    """`[]`: the greatest |l₁ − l₂| of a label that is taken for ambiguous."""


def density(model: AmbiGuess, *, cells: int = 50, difference: float = 0.25) -> Density:
    """Cells over codes between the classes, [−1, 1] × [−5, 5], each with the weight `‖∇_z Σ dec(z)²‖₂` of its middle, so that samples are diverse.

    The published code reads these weights transposed when it draws, and so weighs cells by those of others.

    Args:
      model: a trained `AmbiGuess`. cells: on each axis. difference: in (0, 1], the greatest |l₁ − l₂|.

    Raises:
      ValueError: an option out of range.

    Cost: `cells²` forward and backward passes of the decoder.
    """
    positive(cells=cells)
    within(math.ulp(0.0), 1.0, difference=difference)
    low = np.array([CENTRES[0][0] + _BESIDE, -_ALONG])
    size = (np.array([CENTRES[1][0] - _BESIDE, _ALONG]) - low) / cells
    centres = jnp.asarray(np.stack(np.meshgrid(*(low[d] + size[d] * (np.arange(cells) + 0.5) for d in (0, 1)), indexing="ij"), -1), jnp.float32)

    def weight(z: Array) -> Array:
        slope = jax.grad(lambda v: (model.decode(v) ** 2).sum())(z)
        return jnp.where(_certainty(model.label(z)) > difference, 0, jnp.sqrt((slope**2).sum()))

    return Density(centres, jnp.asarray(size, jnp.float32), lax_map(jax.vmap(weight), centres), jnp.float32(difference))


class Ambiguous(NamedTuple):
    """An image between two classes."""

    x: Array
    """`[*shape]`, in [0, 1]."""
    label: Array
    """`[2]`: the probabilities of the two classes."""
    z: Array
    """`[2]`: its code."""
    valid: Array
    """`[]`, boolean: whether it is ambiguous enough; if not, all attempts failed, and the last one is here."""


def sample(model: AmbiGuess, where: Density, key: Array, *, attempts: int = 100) -> Ambiguous:
    """An ambiguous image: a cell by its weight, a code uniformly in it, again until its label is ambiguous. `jax.vmap` over keys draws many.

    Args:
      model: a trained `AmbiGuess`. where: of `density(model)`. key: draws cells and codes. attempts: at most, >= 1.

    Raises:
      ValueError: no key, attempts below 1.
    """
    positive(attempts=attempts)
    key = need_key(key, "sample")
    flat = where.weights.reshape(-1)
    # Without any weight every cell is as good, and none valid.
    log_weights = jnp.where(flat.sum() > 0, jnp.log(flat), 0)

    def attempt(n: Array) -> tuple[Array, Array, Array]:
        which, place = jax.random.split(jax.random.fold_in(key, n))
        centre = where.centres.reshape(-1, 2)[jax.random.categorical(which, log_weights)]
        z = centre + where.size * jax.random.uniform(place, (2,), minval=-0.5, maxval=0.5)
        return n + 1, z, _certainty(model.label(z)) < where.difference

    _, z, valid = while_loop(lambda s: ~s[2] & (s[0] < attempts), lambda s: attempt(s[0]), attempt(jnp.int32(0)))
    return Ambiguous(model.decode(z), model.label(z), z, valid)


def images(
    models: Mapping[tuple[int, int], AmbiGuess],
    num: int,
    key: Array,
    *,
    num_classes: int,
    cells: int = 50,
    difference: float = 0.25,
    attempts: int = 100,
) -> Ambiguous:
    """A data set of ambiguous images, as many of each pair of classes up to one, in the order of the pairs.

    Args:
      models: of pairs of different classes. num: n >= 1, images. key: as of `sample`. num_classes: K.
      cells, difference: of `density`. attempts: of `sample`.

    Returns:
      An `Ambiguous` of arrays over n: x `[n, *shape]`, label `[n, K]` (probabilities, of two classes at most), z `[n, 2]`, valid `[n]`.

    Raises:
      ValueError: no models, a pair that is none, an option out of range.
    """
    positive(num=num, num_classes=num_classes)
    key = need_key(key, "images")
    if not models:
        raise ValueError("models must have an AmbiGuess for a pair of classes, but is empty")
    found = []
    for n, (pair, model) in enumerate(models.items()):
        if len(set(pair)) != 2 or not all(0 <= c < num_classes for c in pair):
            raise ValueError(f"models must be of pairs of different classes in [0, {num_classes}), got {pair}")
        count = num // len(models) + (n < num % len(models))
        if count:
            keys = jax.random.split(jax.random.fold_in(key, n), count)
            of = _of_pair(model, keys, cells=cells, difference=difference, attempts=attempts)
            label = np.zeros((count, num_classes), np.float32)
            label[:, list(pair)] = of.label
            found.append(of._replace(label=jnp.asarray(label)))
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *found)


@functools.partial(jax.jit, static_argnames=("cells", "difference", "attempts"))
def _of_pair(model: AmbiGuess, keys: Array, *, cells: int, difference: float, attempts: int) -> Ambiguous:
    where = density(model, cells=cells, difference=difference)
    return jax.vmap(lambda k: sample(model, where, k, attempts=attempts))(keys)


def _certainty(label: Array) -> Array:
    return jnp.abs(label[0] - label[1])
