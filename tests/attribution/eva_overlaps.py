"""What the tests of EVA share: overlaps as they are bounded, and as an attack attains them."""

import functools
import math

import cases
import jax
import jax.numpy as jnp
import numpy as np

from jxai.attribution import eva
from jxai.attribution.overlap import overlaps
from jxai.bounds import METHODS, ball
from jxai.bounds.projection import random_point
from jxai.masks import Features, features

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.uniform(0.1, 0.9, 8), jnp.float32)
GROUPS = np.asarray([0, 0, 1, 1, 1, 2, 3, 3])
SINGLE = ("forward", "crown_ibp", "crown")
FORMS = [(bound, True) for bound in METHODS] + [(bound, False) for bound in SINGLE]
IMAGE = cases.SHAPES["image"]
KEY = jax.random.key(5)


def linear(classes, size=8, seed=0):
    w = jnp.asarray(np.random.default_rng(seed).normal(size=(classes, size)), jnp.float32)
    return jax.tree_util.Partial(lambda w, x: w @ x, w), np.asarray(w, np.float64)


maps = jax.jit(eva, static_argnames="p clip objective bound per_group num_segments".split())  # with label maps as arguments


def found(f, x, target, radius, *, key=None, segments=None, grid=None, adversary=None, **options):
    """The overlaps with each group held, and last with none; jitted."""
    settings = dict(p=math.inf, clip=None, objective="overlap", bound="crown", per_group=True, rounding="nearest")
    groups = features(x, segments, grid)
    adversary = None if adversary is None else jnp.asarray(adversary)
    given = jnp.asarray(groups.labels), key, jnp.asarray(radius, jnp.float32), adversary
    return np.asarray(_found(f, x, target, *given, num=groups.num, **{**settings, **options}))


@functools.partial(jax.jit, static_argnames="num p clip objective bound per_group rounding layer num_samples chunk".split())
def _found(f, x, target, labels, key, radius, adversary, *, num, **options):
    return overlaps(f, x, target, key, Features(labels, num), radius=radius, adversary=adversary, **options)


def attained(f, region, target, n, seed, adversary=None):
    """The greatest overlap at points of a region: drawn ones, and corners towards which a gradient there points."""
    return float(_attained(f, region, target, None if adversary is None else jnp.asarray(adversary), seed, n=n))


@functools.partial(jax.jit, static_argnames="n")
def _attained(f, region, target, adversary, seed, *, n):
    classes = jnp.arange(jax.eval_shape(lambda v: f(v), region.lower).shape[0])

    def overlap(v):
        logits = f(v)
        rivals = classes != target if adversary is None else classes == adversary
        return jnp.where(rivals, logits, -jnp.inf).max() - logits[target]

    def both(k):
        v = random_point(region, k)
        slope = jax.grad(overlap)(v)
        corner = jnp.where(slope > 0, region.upper, region.lower) if math.isinf(region.p) else v
        return jnp.maximum(overlap(v), overlap(corner))

    return jax.vmap(both)(jax.random.split(jax.random.key(seed), n)).max()


def held(x, radius, segments, u, p=math.inf, clip=None):
    free = np.asarray(segments != u).reshape(segments.shape + (1,) * (x.ndim - segments.ndim))
    return _ball(x, np.float32(radius * free), p, clip)


_ball = jax.jit(ball, static_argnums=(2, 3))
