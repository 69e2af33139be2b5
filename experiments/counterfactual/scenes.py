"""Photographs as scenes of parts: layouts by colour, what networks say of them and without a part, and where changes lie."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jxai import fills, taps
from jxai.attribution import feature_ablation
from jxai.evaluate.answers import logits
from jxai.models import SemanticAutoencoder

BATCH = 40
"""Images at once; one number, so that a network is compiled once."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Foremost:
    """An autoencoder whose first code is that of the part which is searched, so that one compilation serves all parts.

    Its segments are the labels plus R times that part.
    """

    autoencoder: SemanticAutoencoder

    def encode(self, x: jax.Array, segments: jax.Array) -> jax.Array:
        part, labels = divmod(segments, self.autoencoder.parts)
        return jnp.roll(self.autoencoder.encode(x, labels), -part[0, 0], 0)

    def decode(self, codes: jax.Array, segments: jax.Array) -> jax.Array:
        part, labels = divmod(segments, self.autoencoder.parts)
        return self.autoencoder.decode(jnp.roll(codes, part[0, 0], 0), labels)


def layouts(x: np.ndarray, parts: int) -> np.ndarray:
    """`[n, H, W]`, int32: the parts of images, from the one that lies nearest to the middle to the outermost.

    Clusters by k-means of CIELAB colours and, at .3 a pixel, positions.
    """
    from scipy.cluster.vq import kmeans2
    from skimage.color import rgb2lab

    where = np.stack(np.mgrid[: x.shape[1], : x.shape[2]], -1).reshape(-1, 2)
    far = np.abs(where - where.mean(0)).max(1)
    found = []
    for image in x:
        labels = kmeans2(np.concatenate([rgb2lab(image).reshape(-1, 3), 0.3 * where], 1), parts, seed=0, minit="++")[1]
        count = np.bincount(labels, minlength=parts)
        mean = np.where(count > 0, np.bincount(labels, far, parts) / np.maximum(count, 1), np.inf)
        found.append(np.argsort(np.argsort(mean))[labels].reshape(image.shape[:2]))
    return np.asarray(found, np.int32)


def mean_colours(x: np.ndarray, segments: np.ndarray, parts: int) -> np.ndarray:
    """Images of which each part has its mean colour."""
    member = np.eye(parts, dtype=np.float32)[segments]
    mean = np.einsum("nhwr,nhwc->nrc", member, x) / np.maximum(member.sum((1, 2)), 1)[..., None]
    return np.einsum("nhwr,nrc->nhwc", member, mean)


def carrying(change: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """`[n]`: how few parts hold .9 of changes `[n, H, W]`; 0 where nothing changes."""
    by = np.stack([np.where(segments == r, change, 0).sum((1, 2)) for r in range(segments.max() + 1)], 1)
    held = np.cumsum(-np.sort(-by, 1), 1)
    return np.where(held[:, -1] > 0, (held < 0.9 * held[:, -1:]).sum(1) + 1, 0)


def odds(values: np.ndarray, goal: np.ndarray, own: np.ndarray) -> np.ndarray:
    """`[n, m]`: log p(goal) / p(own) of logits `[n, m, K]`."""
    pick = lambda c: np.take_along_axis(values, np.broadcast_to(c[:, None, None], (*values.shape[:2], 1)), 2)[..., 0]
    return pick(goal) - pick(own)


@functools.partial(jax.jit, static_argnames="parts")
def removed(f: Callable, x: jax.Array, own: jax.Array, goal: jax.Array, segments: jax.Array, parts: int) -> jax.Array:
    """`[n, R]`: how much log p(own) / p(goal) falls where a part becomes the image's mean colour."""

    def one(x: jax.Array, own: jax.Array, goal: jax.Array, segments: jax.Array) -> jax.Array:
        margin = lambda v: f(v)[own] - f(v)[goal]
        falls = feature_ablation(margin, x, None, segments=segments, num_segments=parts, fill=fills.Mean())
        return jax.ops.segment_max(falls.ravel(), segments.ravel(), parts)

    return jax.lax.map(lambda given: one(*given), (x, own, goal, segments))


def targets(f: Callable, x: np.ndarray, seed: int) -> np.ndarray:
    """`[n, 2]`, int32: f's second class, and a random one of the others."""
    order = np.argsort(-logits(f, x, BATCH), 1, kind="stable")
    other = np.random.default_rng(seed).integers(2, order.shape[1], len(x))
    return np.stack([order[:, 1], order[np.arange(len(x)), other]], 1).astype(np.int32)


def penultimate(f: Callable, x: jax.Array) -> jax.Array:
    """`[channels]`: the mean over positions of the last layer that has them."""
    return taps.read(f, x).mean((0, 1))
