"""The walk: where it starts, what it passes through, how often the model runs, and what is refused."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import layered_nets
import numpy as np
import pytest

from jxai import concepts, relevance, taps
from jxai.attribution import lrp

F = layered_nets.net(("residual", "conv"), seed=4)
X = layered_nets.image()


@functools.cache
def layers():
    """By index: both rectifiers of the residual block and after it, and the sum."""
    found = taps.layers(F, X)
    return [item.index for item in found if item.primitive == "relu"], next(
        item.index for item in found if item.primitive == "add" and item.shape == (8, 8, 4) and "layers" not in item.name
    )


@functools.cache
def plain():
    return jax.jit(lambda f, x: jax.vmap(lambda c: relevance.propagate(f, x, c))(np.arange(4)))(F, X)


def convolutions(jaxpr, count=0):
    for eqn in jaxpr.eqns:
        count += eqn.primitive.name == "conv_general_dilated"
        for inner in jax.extend.core.jaxprs_in_params(eqn.params):
            count = convolutions(inner, count)
    return count


def test_targets_and_masks_share_the_forward_pass():
    relus, _ = layers()
    one = lambda c: relevance.propagate(F, X, c).map
    many = lambda mask: concepts.conditional(F, X, 1, {relus[1]: mask}).map
    for fn, batch in ((one, np.arange(4)), (many, np.eye(4, dtype=bool))):
        alone, together = jax.make_jaxpr(fn)(batch[0]).jaxpr, jax.make_jaxpr(jax.vmap(fn))(batch).jaxpr
        assert convolutions(alone) == convolutions(together)
        forward = [e for e in together.eqns if e.primitive.name == "conv_general_dilated" and e.outvars[0].aval.shape == (1, 8, 8, 4)]
        assert len(forward) >= 3  # not multiplied by the batch
    got = jax.jit(jax.vmap(many))(np.eye(4, dtype=bool))
    np.testing.assert_allclose(got.sum(0), plain().map[1], atol=1e-5)  # what runs through each channel of a layer that all passes


def test_where_it_starts():
    logits = np.asarray(F(X))
    run = jax.jit(lambda f, x, init: relevance.propagate(f, x, 2, init=init), static_argnames="init")
    found = {init: run(F, X, init=init) for init in ("logit", "one", "absolute", "contrastive")}
    start = {"logit": logits[2], "one": 1.0, "absolute": abs(logits[2]), "contrastive": logits[2] - np.delete(logits, 2).mean()}
    for init, one in found.items():
        assert float(one.map.sum() + one.absorbed) == pytest.approx(float(start[init]), abs=1e-4)
    np.testing.assert_allclose(found["one"].map * logits[2], found["logit"].map, atol=1e-5)
    scalar = relevance.propagate(lambda x: F(x)[2], X, None)
    np.testing.assert_allclose(scalar.map, found["logit"].map, atol=1e-6)
    share = relevance.propagate(F, X, 2, score="sigmoid")
    assert float(share.map.sum() + share.absorbed) == pytest.approx(float(jax.nn.sigmoid(logits[2])), abs=1e-4)
    np.testing.assert_allclose(plain().map[2], found["logit"].map, atol=1e-6)
    assert np.isnan(jax.jit(lambda c: lrp(F, X, c))(7)).all()


def test_conditions_by_hand():
    """Two channels, a skip: `y = w·(relu(a) + x)`; paths through the rectifier, its channels, and past it."""
    a, w = jnp.asarray([[1.0, -0.5], [2.0, 1.0]]), jnp.asarray([[0.5], [2.0]])
    f = lambda x: (jax.nn.relu(x @ a) + x) @ w
    x = np.float32([1.0, 2.0])
    relu = next(item.index for item in taps.layers(f, x) if item.primitive == "relu")
    h = np.maximum(x @ np.asarray(a), 0)
    through = h * np.asarray(w)[:, 0]
    share = np.asarray(x)[:, None] * np.asarray(a) / h  # of x in each channel
    run = lambda **options: relevance.propagate(f, x, 0, composite="epsilon", **options)
    for channels in ([0], [1], [0, 1], []):
        found = run(conditions={relu: channels}, at=(relu,))
        np.testing.assert_allclose(found.at[relu], np.where(np.isin([0, 1], channels), through, 0), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(found.map, sum(share[:, c] * through[c] for c in channels) if channels else 0 * x, rtol=1e-4, atol=1e-6)
        past = run(conditions={relu: channels}, exclude_parallel=False)
        masks = np.isin([0, 1], channels)[None]
        for exclude, wanted in ((True, found), (False, past)):
            each = relevance.propagate_each(f, x, 0, relu, masks, composite="epsilon", exclude_parallel=exclude)
            np.testing.assert_allclose(each[0], wanted.map, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(past.map, found.map + x * np.asarray(w)[:, 0], rtol=1e-4, atol=1e-5)
    half = run(conditions={relu: jnp.asarray([0.5, 0.0])})
    np.testing.assert_allclose(half.map, share[:, 0] * through[0] / 2, rtol=1e-4)
    begun = relevance.propagate_from(f, x, relu, jnp.asarray([0.0, through[1]]), composite="epsilon", at=(relu,))
    np.testing.assert_allclose(begun.map, share[:, 1] * through[1], rtol=1e-4)


def test_masks_of_several_layers_multiply_along_their_path():
    relus, joined = layers()
    masks = {relus[2]: [1, 3], relus[0]: [0, 2]}
    both, one = (concepts.conditional(F, X, 1, m, at=tuple(relus)) for m in (masks, {relus[2]: [1, 3]}))
    np.testing.assert_allclose(both.at[relus[0]], one.at[relus[0]] * np.float32([1, 0, 1, 0]), atol=1e-6)
    assert float(jnp.abs(both.map).max()) > 0 and not np.allclose(both.map, one.map)
    mask = jnp.zeros((8, 8, 1)).at[2, 3].set(1.0)  # of a position
    placed = concepts.conditional(F, X, 1, {relus[2]: mask})
    outside = np.ones((8, 8), bool)
    outside[:6, :7] = False  # the receptive field of three 3×3 convolutions around (2, 3)
    assert not placed.map[outside].any() and placed.map.any()


def test_the_value_of_a_linear_step_is_what_leaves_it():
    """At a convolution, without the axis of its batch, and at its folded batch norm relevance and masks are the same, each in its own shape."""
    f = layered_nets.net(("batch_normed",))
    found = [item for item in taps.layers(f, X) if "[0]" in item.name]
    where = [item.index for item in found if item.primitive in ("conv_general_dilated", "squeeze", "sub", "div", "mul", "add")]
    shapes = {item.index: item.shape for item in found}
    at = relevance.propagate(f, X, 1, at=tuple(where)).at
    assert len(where) >= 5 and shapes[where[0]] == (1, 8, 8, 4)
    kept = relevance.propagate(f, X, 1, conditions={where[-1]: [1, 2]}).map
    for index in (where[0], where[2]):
        mask = np.float32([0, 1, 1, 0])
        for one in (relevance.propagate(f, X, 1, conditions={index: mask}).map, relevance.propagate_each(f, X, 1, index, mask[None])[0]):
            np.testing.assert_allclose(one, kept, atol=1e-6)
        np.testing.assert_allclose(relevance.propagate_from(f, X, index, at[index] * mask).map, kept, atol=1e-6)
    for index in where:
        assert at[index].shape == shapes[index]
        np.testing.assert_array_equal(at[index].reshape(8, 8, 4), at[where[-1]])


def test_it_has_derivatives_and_runs_in_half_precision():
    small = lambda x: jax.nn.silu(x @ jnp.asarray([[1.0, -2.0], [0.5, 1.0], [1.5, 0.3]])) @ jnp.asarray([[1.0], [-1.0]])
    loss = lambda x: (lrp(small, x, 0, composite="epsilon") ** 2).sum()
    x = np.float32([0.3, -0.2, 0.9])
    slope = jax.grad(loss)(x)
    for n in range(3):
        step = 1e-2 * np.eye(3, dtype=np.float32)[n]
        assert float(slope[n]) == pytest.approx(float((loss(x + step) - loss(x - step)) / 2e-2), rel=0.05, abs=0.02)
    whole = relevance.propagate(F, X, 1)
    for dtype in (jnp.bfloat16, jnp.float16):
        cast = jax.tree.map(lambda leaf, dtype=dtype: leaf.astype(dtype), F)
        half = jax.jit(lambda f, x: relevance.propagate(f, x, 1))(cast, jnp.asarray(X, dtype))
        assert half.map.dtype == jnp.float32 and float(half.map.sum() + half.absorbed) == pytest.approx(
            float(cast(jnp.asarray(X, dtype))[1]), rel=0.02, abs=0.02
        )
        assert np.corrcoef(np.ravel(half.map), np.ravel(whole.map))[0, 1] > 0.98


def test_bad_input_is_named():
    relus, _ = layers()
    bad = functools.partial(relevance.propagate, F, X, 1)
    side = lambda x: jnp.tanh(x[:2]) @ jnp.ones((2, 3)) + jax.nn.relu(x[2:]) @ jnp.ones((2, 3))
    ends = [item.index for item in taps.layers(side, np.ones(4, np.float32)) if item.primitive in ("tanh", "relu")]
    unused = lambda x: x @ jnp.ones((4, 3)) + 0 * jax.lax.stop_gradient(jnp.tanh(x)).sum()
    for said, call in {
        r"composite='epsilon_plusflat' must be one of .* the nearest are epsilon_plus": lambda: bad(composite="epsilon_plusflat"),
        "first=3 must be a rule": lambda: relevance.Composite(first=3),
        "bias='keep' must be one of 'absorb', 'ignore'": lambda: bad(bias="keep"),
        "batch_norm='merge'": lambda: bad(batch_norm="merge"),
        "init='zero'": lambda: bad(init="zero"),
        "epsilon=-1": lambda: bad(epsilon=-1),
        r"low=0.0 and high=0.5 must hold x, which has 0.\d+": lambda: bad(composite="epsilon_gamma_box", high=0.5),
        r"low of shape \(2,\) must be a number, or broadcast against x": lambda: bad(composite="epsilon_gamma_box", low=np.zeros(2)),
        "low = 'black' must be": lambda: bad(composite="epsilon_gamma_box", low="black"),
        "epsilon=0.0 must be a number above 0": lambda: bad(epsilon=0.0),
        r"at='relu' must be a sequence of layers, as at=\('relu',\)": lambda: bad(at="relu"),
        "at=3 must be a sequence": lambda: bad(at=3),
        r"conditions=\[1\] must map each layer": lambda: bad(conditions=[1]),
        r"=slice\(None, 2, None\) must be channels": lambda: bad(conditions={relus[1]: slice(2)}),
        r"=\[0.5, 1.0\] must be whole numbers": lambda: bad(conditions={relus[1]: [0.5, 1.0]}),
        r"at=\(\d+,\) is no option of propagate_each": lambda: relevance.propagate_each(F, X, 1, relus[1], np.eye(4), at=(relus[1],)),
        "epsilonn=1.0 is no option of propagate_each": lambda: relevance.propagate_each(F, X, 1, relus[1], np.eye(4), epsilonn=1.0),
        "layer='conv9' is part of no layer's name": lambda: bad(at=("conv9",)),
        "whole numbers 0 to 3": lambda: bad(conditions={relus[1]: [4]}),
        r"mask of shape \(5,\)": lambda: bad(conditions={relus[1]: np.ones(5, bool)}),
        "no path goes through": lambda: relevance.propagate(side, np.ones(4, np.float32), 1, conditions={end: [0] for end in ends}),
        "is not on the path of relevance; layers that are": lambda: relevance.propagate(unused, np.ones(4, np.float32), 1, at=(1,)),
        r"conditions=\{\} must name a layer": lambda: concepts.conditional(F, X, 1, {}),
        r"relevance of shape \(3,\) must broadcast": lambda: relevance.propagate_from(F, X, relus[1], np.ones(3, np.float32)),
        "init='contrastive' needs a target": lambda: relevance.propagate(lambda x: F(x)[0], X, None, init="contrastive"),
        "target=4": lambda: relevance.propagate(F, X, 4),
    }.items():
        with pytest.raises(ValueError, match=said):
            call()
    assert relevance.propagate(side, np.ones(4, np.float32), 1, conditions={end: [0] for end in ends}, exclude_parallel=False).map.any()


def test_a_layer_may_be_named_twice():
    relus, _ = layers()
    half, whole = np.full(4, 0.5, np.float32), relevance.propagate(F, X, 1).map
    twice = relevance.propagate(F, X, 1, conditions={relus[1]: half, f"{relus[1]}@0,1": half})
    np.testing.assert_allclose(twice.map, whole / 4, rtol=1e-5, atol=1e-7)


def test_bounds_are_rounded_as_x_is_and_traced_channels_out_of_range_give_no_map():
    relus, _ = layers()
    half = lambda x: F(x.astype(jnp.float32))
    x = X.clip(0.1, 0.7).astype(np.float16)  # 0.1 is less in half precision
    assert np.isfinite(relevance.propagate(half, x, 1, composite="epsilon_gamma_box", low=0.1, high=0.7).map).all()
    one = jax.jit(lambda channel: relevance.propagate(F, X, 1, conditions={relus[1]: channel}).map)
    assert np.isnan(one(4)).all() and np.isfinite(one(3)).all()


def test_many_channels_at_once_are_each_of_them_alone():
    relus, _ = layers()
    run = jax.jit(lambda f, x, chunk: concepts.channel_maps(f, x, 1, relus[1], chunk=chunk), static_argnames="chunk")
    found, other = run(F, X, chunk=3), run(F, X, chunk=4)
    alone = jax.jit(jax.vmap(lambda mask: concepts.conditional(F, X, 1, {relus[1]: mask}).map))(np.eye(4, dtype=bool))
    np.testing.assert_allclose(found, alone, atol=1e-6)
    np.testing.assert_allclose(other, alone, atol=1e-6)
    np.testing.assert_allclose(concepts.channel_maps(F, X, 1, relus[1], [2, 0]), alone[np.array([2, 0])], atol=1e-6)
    beside = concepts.channel_maps(F, X, 1, relus[0], [3], exclude_parallel=False)[0]
    np.testing.assert_allclose(beside, relevance.propagate(F, X, 1, conditions={relus[0]: [3]}, exclude_parallel=False).map, atol=1e-6)
    for channels in ([4], [-1], [0.5], []):
        with pytest.raises(ValueError, match="must be numbers from 0 to 3, the channels of layer="):
            concepts.channel_maps(F, X, 1, relus[1], channels)
    with pytest.raises(ValueError, match=r"masks of shape \(2, 5\)"):
        relevance.propagate_each(F, X, 1, relus[1], np.ones((2, 5)))
