"""DeepLIFT on the zoo and on networks with real weights: maps add up to the difference of the scores, whoever wrote the model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from trained import NETWORKS, network

from jxai import fills
from jxai.attribution import deep_lift

ZOO = [(kind, name) for kind in zoo.SHAPES for name in getattr(zoo, kind)]


def check(f, x, bases, rules=("rescale", "reveal_cancel")):
    """The gap is at most 1e-4 of the scores' difference, or of a twentieth of the scores where they all but agree."""
    run = jax.jit(lambda f, x, base, rule: (deep_lift(f, x, 2, baseline=base, rule=rule), f(x)[2], f(base)[2]), static_argnums=3)
    for rule in rules:
        for base in bases:
            found, at_x, at_base = (np.asarray(v, np.float64) for v in run(f, x, base, rule))
            size = max(abs(at_x - at_base), 0.05 * max(abs(at_x), abs(at_base)))
            assert found.any() and abs(found.sum() - (at_x - at_base)) <= 1e-4 * size, (rule, found.sum(), at_x, at_base)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), ZOO)
def test_the_zoo_adds_up(kind, name):
    rng = np.random.default_rng(3)
    x = jnp.asarray(rng.uniform(size=zoo.SHAPES[kind]), jnp.float32)
    bases = jnp.zeros_like(x), jnp.where(rng.uniform(size=x.shape) < 0.9, x, 0.2)  # the other differs in few places
    check(jax.tree_util.Partial(getattr(zoo, kind)[name](1)), x, bases)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(NETWORKS) - {"resnet56"}))
def test_trained_networks_add_up_on_a_photograph(name):
    f, x = network(name)
    check(f, x, (jnp.zeros_like(x), fills.gaussian_blur(x, 3.0)))
