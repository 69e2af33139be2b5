"""Relevance through the zoo and through networks with real weights: what biases absorbed makes up the rest, whoever wrote the model."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from trained import NETWORKS, network

from jxai import concepts, relevance, taps

CLAIMS_NOTHING = ("attn_lrp", "excitation_backprop")
ZOO = {(family, name): make for family in zoo.SHAPES for name, make in getattr(zoo, family).items()}
ATTENDED = {"vit_class_token", "vit_mean", "shifted_windows"}


def gaps(f, x, target, composites, **options):
    out = {name: relevance.propagate(f, x, target, composite=name, **options) for name in composites}
    return {name: (f(x)[target] - one.map.sum() - one.absorbed, jnp.abs(one.map).sum(), one.map) for name, one in out.items()}


@pytest.mark.slow
@pytest.mark.parametrize(("family", "name"), ZOO)
def test_the_zoo_conserves(family, name):
    f, x = ZOO[family, name](1), jax.random.uniform(jax.random.key(3), zoo.SHAPES[family])
    names = ("cp_lrp", "attn_lrp") if name in ATTENDED else relevance.COMPOSITES
    for batch_norm in ("fold", "pass"):
        for composite, (gap, size, found) in jax.jit(lambda x, way=batch_norm: gaps(f, x, 2, names, batch_norm=way))(x).items():
            assert np.isfinite(found).all() and size > 0
            if composite not in CLAIMS_NOTHING:
                assert abs(gap) < 1e-4 * max(1.0, size), (composite, batch_norm, gap)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_trained_networks_conserve_on_a_photograph(name):
    f, x = network(name)
    target = int(f(x).argmax())
    names = ("cp_lrp", "attn_lrp") if "vit" in name else relevance.COMPOSITES
    for composite, (gap, size, found) in jax.jit(lambda f, x: gaps(f, x, target, names))(f, x).items():
        assert np.isfinite(found).all() and size > 0
        if composite not in CLAIMS_NOTHING:
            assert abs(gap) < 1e-4 * max(1.0, abs(float(f(x)[target])), size), (composite, gap)


@pytest.mark.slow
def test_channels_of_a_trained_network_add_up_to_its_map():
    """Conditional maps of all channels of the last block's input, and the relevance of each."""
    f, x = network("resnet20")
    layer = [item.index for item in taps.layers(f, x) if item.primitive == "relu"][-3]
    whole = relevance.propagate(f, x, 3, at=(layer,))
    maps = jax.jit(lambda f, x: concepts.channel_maps(f, x, 3, layer, chunk=16))(f, x)
    np.testing.assert_allclose(maps.sum(0), whole.map, atol=1e-4 * float(jnp.abs(whole.map).max()))
    strong = np.asarray(whole.at[layer].sum((0, 1)))
    sums = np.asarray(maps.sum((1, 2, 3)))
    assert np.corrcoef(strong, sums)[0, 1] > 0.8  # biases below take shares
