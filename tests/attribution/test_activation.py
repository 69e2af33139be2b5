"""Class activation maps, by hand on a network with two channels, and guided backpropagation by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from jxai import attribution as A
from jxai import masks

A1 = np.array([[1.0, 2.0], [0.0, 3.0]])
A2 = np.array([[4.0, 0.0], [1.0, 1.0]])
X = np.float32(np.stack([A1, A2], -1))
V = np.float32([[2.0, -1.0], [-3.0, 1.0], [0.5, 0.25]])  # [classes, channels]


def on(x, f, method, target=None, **options):
    """The map of a method, compiled whole, for a class or for each of several."""
    run = jax.jit(lambda x, target: getattr(A, method)(f, x, target, **options))
    return np.asarray(run(x, target))


@functools.cache
def maps(method, **options):
    """The maps of every class at X, by one program."""
    run = jax.jit(jax.vmap(lambda target: getattr(A, method)(f, X, target, **options)))
    return np.asarray(run(np.arange(3)))[..., 0]


def f(x):
    """Two channels, ReLU, then `logit_c = Σ_k v_ck mean(a_k)²`; at X the channels are X itself."""
    a = jax.nn.relu(x)
    return V @ (a.mean((0, 1)) ** 2)


MEANS = np.array([A1.mean(), A2.mean()])
G = np.asarray(V)[:, :] * 2 * MEANS / 4  # the gradient at every position of a channel, by class


@pytest.mark.parametrize("c", [0, 1, 2])
def test_grad_cam_by_hand(c):
    by_hand = np.maximum(G[c, 0] * A1 + G[c, 1] * A2, 0)
    assert np.allclose(maps("grad_cam")[c], by_hand, atol=1e-5)
    assert np.allclose(maps("grad_cam", relu=False)[c], G[c, 0] * A1 + G[c, 1] * A2, atol=1e-5)


@pytest.mark.parametrize("c", [0, 1, 2])
def test_variants_by_hand(c):
    a, g = np.asarray(X), np.broadcast_to(G[c], X.shape)
    assert np.allclose(maps("hires_cam")[c], (a * g).sum(-1), atol=1e-5)
    assert np.allclose(maps("layer_cam")[c], np.maximum((np.maximum(g, 0) * a).sum(-1), 0), atol=1e-5)
    weight = (a * g).sum((0, 1)) / a.sum((0, 1))
    assert np.allclose(maps("xgrad_cam")[c], np.maximum((a * weight).sum(-1), 0), atol=1e-5)
    for reduction, total in (("sum", np.sum), ("mean", np.mean)):
        alpha = g**2 / (2 * g**2 + total(a, axis=(0, 1), keepdims=True) * g**3)
        weight = total(alpha * np.maximum(g, 0), axis=(0, 1))
        expected = np.maximum((a * weight).sum(-1), 0)
        assert np.allclose(maps("grad_cam_plus_plus", reduction=reduction)[c], expected, atol=1e-5)


@pytest.mark.parametrize("c", [0, 1, 2])
def test_ablation_cam_by_hand(c):
    s = np.asarray(V)[c] * MEANS**2
    weights = (s.sum() - (s.sum() - s)) / s.sum()
    assert np.allclose(maps("ablation_cam", relu=False)[c], weights[0] * A1 + weights[1] * A2, rtol=1e-4, atol=1e-5)


def masked_outputs():
    """f(X ⊙ mask) for the two masks made of the channels, scaled to [0, 1]."""
    masks = [(a - a.min()) / (a.max() - a.min()) for a in (A1, A2)]
    return np.stack([V @ ((X * mask[..., None]).mean((0, 1)) ** 2) for mask in masks])


@pytest.mark.parametrize("c", [0, 1, 2])
def test_score_cam_by_hand(c):
    logits = masked_outputs()
    weights = np.exp(logits[:, c]) / np.exp(logits[:, c]).sum()
    assert np.allclose(maps("score_cam")[c], weights[0] * A1 + weights[1] * A2, rtol=1e-4)
    probabilities = softmax(logits, -1)[:, c]
    official = maps("score_cam", weights="score", score="probability")[c]
    assert np.allclose(official, probabilities[0] * A1 + probabilities[1] * A2, rtol=1e-4)


def test_score_cam_leaves_out_constant_channels():
    flat = np.float32(np.stack([A1, 7 + 0 * A1], -1))
    run = jax.jit(lambda x: A.score_cam(f, x, 0))
    assert np.allclose(np.asarray(run(flat))[..., 0], A1, rtol=1e-4)
    assert np.allclose(run(np.ones((2, 2, 2), np.float32)), 0)


@pytest.mark.parametrize("c", [0, 1, 2])
def test_sidu_by_hand(c):
    # Two masks are equally unlike each other: min-max leaves nothing, so a third channel is needed.
    assert np.allclose(maps("sidu")[c], 0, atol=1e-6)
    third = np.float32(np.concatenate([X, (A1.T * (A1.T > 1))[..., None]], -1))
    value = np.concatenate([V, np.float32([[1], [2], [-2]])], 1)
    g = lambda x: value @ (jax.nn.relu(x).mean((0, 1)) ** 2)
    binary = (third > 0.1).astype(float)
    of = lambda x: softmax(value @ (np.maximum(x, 0).mean((0, 1)) ** 2))
    p = np.stack([of(third * binary[..., k : k + 1]) for k in range(3)])
    similar = np.exp(-((of(third) - p) ** 2) / (2 * 0.25**2))
    unique = np.array([sum(np.linalg.norm(p[i] - p[j]) for j in range(3)) for i in range(3)])
    unique = (unique - unique.min()) / (unique.max() - unique.min())
    expected = (binary * (similar[:, c] * unique)).sum(-1) / 1.5
    assert np.allclose(on(third, g, "sidu", c)[..., 0], expected, atol=1e-5)


def test_eigen_cam_is_the_first_singular_projection():
    flat = np.asarray(X).reshape(-1, 2)
    for center in (False, True):
        matrix = flat - flat.mean(0) * center
        _, _, vt = np.linalg.svd(matrix, full_matrices=False)
        projection = matrix @ vt[0]
        ours = on(X, f, "eigen_cam", center=center).ravel()
        assert np.allclose(np.abs(ours), np.abs(projection), atol=1e-5)
        assert np.corrcoef(ours, flat.mean(1))[0, 1] > 0


def test_maps_are_resized_to_x_and_layers_may_be_named():
    g = lambda x: f(x.reshape(2, 4, 2, 4, 2).mean((1, 3)))
    big = np.repeat(np.repeat(X, 4, 0), 4, 1)
    small = maps("grad_cam", relu=False)[0]
    for interpolation in ("bilinear", "nearest", "bicubic"):
        cam = on(big, g, "grad_cam", 0, relu=False, interpolation=interpolation)
        assert cam.shape == (8, 8, 1)
        resized = jax.jit(functools.partial(masks.upsample, shape=(8, 8), interpolation=interpolation))(small)
        assert np.allclose(cam[..., 0], resized, atol=1e-5)
    with pytest.raises(ValueError, match="has no spatial extent"):
        A.grad_cam(f, X, 0, layer=1)
    with pytest.raises(ValueError, match="no value has spatial extent over x of shape"):
        A.grad_cam(lambda v: jnp.tanh(v), np.ones(3, np.float32), 0)


def test_guided_backprop_and_deconvnet_by_hand():
    w1, w2 = np.float32([[1.0, -2.0], [3.0, 1.0], [-1.0, 0.5]]), np.float32([[1.0, -1.0, 2.0], [2.0, 1.0, -1.0]])
    net = lambda v: w2 @ jax.nn.relu(w1 @ v)
    x = np.float32([1.0, 0.2])
    gate = np.asarray(w1 @ x > 0, float)
    assert gate.tolist() == [1, 1, 0]
    found = jax.jit(jax.vmap(lambda c: (A.guided_backprop(net, x, c), A.deconvnet(net, x, c), A.gradient(net, x, c))))(np.arange(2))
    for c, (guided, reversed_, gradient) in enumerate(zip(*map(np.asarray, found))):
        positive = np.maximum(w2[c], 0)
        assert np.allclose(guided, w1.T @ (gate * positive))
        assert np.allclose(reversed_, w1.T @ positive)
        assert np.allclose(gradient, w1.T @ (gate * w2[c]))


SPELLINGS = {
    "relu": jax.nn.relu,
    "maximum": lambda v: jnp.maximum(v, 0),
    "where": lambda v: jnp.where(v > 0, v, 0),
    "relu6": jax.nn.relu6,
    "clip": lambda v: jnp.clip(v, 0, 6),
    "leaky": jax.nn.leaky_relu,
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
    "gelu exact": lambda v: jax.nn.gelu(v, approximate=False),
    "silu": jax.nn.silu,
    "hard swish": lambda v: v * jnp.clip(v + 3, 0, 6) / 6,
    "softplus": jax.nn.softplus,
    "jitted": jax.jit(lambda v: jax.nn.relu(v)),
    "remat": jax.checkpoint(lambda v: jax.nn.relu(v)),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_rectifiers_are_found_however_they_are_spelled(name):
    phi = SPELLINGS[name]
    rng = np.random.default_rng(0)
    w1, w2, x = (np.float32(rng.normal(size=shape)) for shape in ((5, 4), (3, 5), (4,)))
    net = lambda v: w2 @ phi(w1 @ v)
    slope, guided, reversed_ = jax.jit(lambda x: (jax.vmap(jax.grad(lambda v: phi(v)))(w1 @ x), A.guided_backprop(net, x, 1), A.deconvnet(net, x, 1)))(x)
    assert np.allclose(guided, w1.T @ (np.asarray(slope) * np.maximum(w2[1], 0)), atol=1e-5)
    assert np.allclose(reversed_, w1.T @ np.maximum(w2[1], 0), atol=1e-5)


@pytest.mark.parametrize(
    "phi", [jnp.tanh, jax.nn.sigmoid, jax.nn.softmax, jnp.exp, jnp.abs, lambda v: v * 2, lambda v: v * jax.lax.rsqrt(jnp.maximum(v.var(), 0) + 1e-5)]
)
def test_what_is_no_rectifier_is_left_alone_and_said(phi):
    with pytest.raises(ValueError, match="no ReLU or other rectifier"):
        A.guided_backprop(lambda v: phi(v) * np.arange(3.0, dtype=np.float32), np.full(3, 0.3, np.float32), 1)


def test_a_rectifier_in_a_loop_out_of_reach_is_said():
    net = lambda v: jax.lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, jax.nn.relu(s[1])), (0, v))[1]
    with pytest.raises(ValueError, match="rectifier inside a while"):
        A.guided_backprop(net, np.ones(3, np.float32), 1)


def test_guided_grad_cam_is_the_product():
    product = on(X, f, "guided_backprop", 0) * maps("grad_cam")[0][..., None]
    assert np.allclose(on(X, f, "guided_grad_cam", 0), product) and np.abs(product).max() > 0
