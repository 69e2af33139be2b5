"""Pictures in which a network finds two labels likely, their segments, and a network that has seen all sets of these."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jxai
from jxai import data, loops
from jxai.evaluate.answers import probabilities
from jxai.segments import Segmentation

if TYPE_CHECKING:
    from matplotlib.figure import Figure


TWO, ONE = "two objects", "one object"
FATES = ("kept", "not in top", "not likely enough")
"""What may become of a candidate."""


class Pair(NamedTuple):
    """Two labels that are likely in one picture."""

    world: str
    number: int
    x: np.ndarray
    labels: np.ndarray
    """`[2]`."""

    @property
    def stem(self) -> str:
        """The name of its files."""
        return f"{self.world.replace(' ', '_')}_{self.number:04d}"


def worlds(config: Any, subject: Any, source: data.Source) -> tuple[list[Pair], dict[str, list[str]]]:
    """The pairs, and what became of every candidate: "kept", or why not.

    Raises:
      ValueError: fewer pairs than asked for.
    """
    pairs, fates, right = [], {}, classified(config, subject, source)
    for world, candidates in ((TWO, montages), (ONE, singles)):
        fates[world], kept = [], 0
        for x, labels in candidates(config, right, lambda i: data.load(source, [i], preprocess=subject.preprocess).x[0]):
            p = probabilities(subject.model, x[None])[0]
            labels = np.asarray(np.argsort(-p)[:2] if labels is None else labels, np.int32)
            in_top, likely = (p > p[labels].min()).sum() < config.top, p[labels].min() >= config.least
            fates[world].append("kept" if in_top and likely else "not likely enough" if in_top else "not in top")
            if in_top and likely:
                pairs.append(Pair(world, kept, x, labels))
                kept += 1
            if kept == config.pairs:
                break
        else:
            raise ValueError(f"pairs={config.pairs} must be at most {kept}, as many as there are of {world} in images={config.images}")
    return pairs, fates


def classified(config: Any, subject: Any, source: data.Source) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`[n]`: the places, classes and probabilities of the images that are classified right."""
    found = []
    for batch in data.batches(source, 50, preprocess=subject.preprocess, limit=config.images):
        p = probabilities(subject.model, batch.x, 2)
        right = batch.valid & (p.argmax(1) == batch.label)
        found.append((batch.index[right], batch.label[right], p.max(1)[right]))
    return tuple(map(np.concatenate, zip(*found)))


def montages(config: Any, right: tuple[np.ndarray, ...], image: Callable[[int], np.ndarray]) -> Iterator[tuple[np.ndarray, tuple[int, int]]]:
    """Two photographs of different classes in one picture, at random, and the classes; each photograph is used twice at most."""
    from skimage.transform import resize

    places, labels = (v[right[2] >= config.confident] for v in right[:2])
    rng = np.random.default_rng(config.seed)
    order = np.concatenate([rng.permutation(len(places)) for _ in range(2)])
    for i, j in zip(order[::2], order[1::2]):
        axis = int(rng.integers(2))
        if labels[i] != labels[j]:
            halves = []
            for x in (image(places[i]), image(places[j])):
                size = list(x.shape)
                size[axis] = x.shape[axis] // 2 if not halves else x.shape[axis] - halves[0].shape[axis]
                halves.append(resize(x, size, anti_aliasing=True))
            yield np.concatenate(halves, axis).astype(np.float32), (labels[i], labels[j])


def singles(config: Any, right: tuple[np.ndarray, ...], image: Callable[[int], np.ndarray]) -> Iterator[tuple[np.ndarray, None]]:
    """Single photographs at random; the labels are the network's likeliest two, of which the first is right."""
    for i in np.random.default_rng(config.seed + 1).permutation(len(right[0])):
        yield image(right[0][i]), None


def segmented(x: np.ndarray, most: int) -> jax.Array:
    """SLIC's finest label map of at most so many segments, of those with up to twice as many asked for."""
    maps = (Segmentation("slic", (asked,))(x) for asked in range(2 * most, 0, -1))
    return jnp.asarray(next(labels for labels in maps if labels.max() < most))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Shown:
    """A network that has seen x without each set of segments: from the mask `[H, W, 1]` of what is left to the logits that it gave."""

    logits: jax.Array
    """`[2^num, K]`; bit s of the place says whether segment s was removed."""
    pixels: jax.Array
    """`[num]`: a position of each segment, any of an empty one."""

    def __call__(self, mask: jax.Array) -> jax.Array:
        removed = mask.ravel()[self.pixels] < 0.5
        return self.logits[(removed << jnp.arange(removed.size)).sum()]


def shown(f: Callable, x: jax.Array, segments: jax.Array, *, num: int) -> Shown:
    """The network's answers to all sets of segments."""
    removed = (jnp.arange(2**num)[:, None] >> jnp.arange(num)) & 1 > 0
    logits = loops.stack(lambda i: f(jnp.where(removed[i][segments][..., None], 0, x)), 2**num, loops.at_once(x, None))
    return Shown(logits, jnp.argmax(segments.ravel() == jnp.arange(num)[:, None], 1))


def picture(class_names: Sequence[str], x: jax.Array, proofs: dict[str, Any]) -> Figure:
    """The image, without each set that shows its labels disjoint best, and without the one that shows them overlapping best."""
    disjoint, overlapping = proofs["disjoint"], proofs["overlapping"]
    scores = disjoint.whole * jnp.concatenate([jnp.ones((1, 2)), disjoint.shares, overlapping.shares[None]])
    titles = ["", *[f"{without}: disjoint at {float(disjoint.reached):.2f}" for without in ("without A", "without B")]]
    titles.append(f"without C: overlapping at {float(overlapping.reached):.2f}")
    removed = jnp.concatenate([disjoint.shown(x), overlapping.shown(x)[None]])
    return jxai.plot.removals(x, removed, scores, [class_names[int(label)] for label in disjoint.labels], titles=titles)
