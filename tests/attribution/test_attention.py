"""Attention multiplied through the layers: tiny stacks by hand, and vision transformers against NumPy."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from jax.tree_util import Partial

from jxai import models
from jxai.attribution import attention_rollout, chefer
from jxai.models import weights
from jxai.models.vit import KINDS
from jxai.testing import attentive, example
from jxai.tracing.stacks import stack

RNG = np.random.default_rng(0)
T, D, H = 4, 6, 2
WEIGHTS = {
    "layers": [{name: np.float32(RNG.normal(size=(D, D))) for name in "qkvo"} for _ in range(3)],
    "head": np.float32(RNG.normal(size=(D, 3))),
    "query": np.float32(RNG.normal(size=D)),
}
X = np.float32(RNG.normal(size=(T, D)))


def attended(w, x, mask=None, last=None):
    q, k, v = (jnp.reshape(x @ w[name], (T, H, D // H)) for name in "qkv")
    logits = jnp.einsum("ihd,jhd->hij", q, k) / np.sqrt(D // H)
    p = jax.nn.softmax(logits if mask is None else jnp.where(mask, logits, -jnp.inf))
    p = p if last is None else p + last
    return x + jnp.tanh(jnp.einsum("hij,jhd->ihd", p, v).reshape(T, D)) @ w["o"], p


def transformer(weights, x, read="mean", mask=None, added=(0, 0, 0)):
    """Logits, and the probabilities of the layers; with numbers added to these."""
    found = []
    for w, more in zip(weights["layers"], added):
        x, p = attended(w, x, mask, more)
        found.append(p)
    if read == "pooling":
        p = jax.nn.softmax(x @ weights["query"])
        found.append(p[None, None])
        x = p @ x
    else:
        x = x.mean(0) if read == "mean" else x[read]
    return x @ weights["head"], found


def model(**options):
    return Partial(Partial(lambda weights, x, **o: transformer(weights, x, **o)[0], **options), WEIGHTS)


CAUSAL = np.tril(np.ones((T, T), bool))
READS = {"mean": np.full(T, 1 / T), 0: np.eye(T)[0], 3: np.eye(T)[3]}
FUSE = {"mean": np.mean, "max": np.max, "min": np.min}


@pytest.mark.parametrize(
    ("read", "mask", "fusion", "discard", "start"),
    [
        (0, None, "max", 0.5, 0),
        ("pooling", None, "mean", 0.0, 0),
        pytest.param("mean", None, "mean", 0.0, 0, marks=pytest.mark.slow),
        pytest.param(3, CAUSAL, "min", 0.0, 1, marks=pytest.mark.slow),
    ],
)
def test_rollout_by_hand(read, mask, fusion, discard, start):
    layers = [np.asarray(p) for p in transformer(WEIGHTS, X, read, mask)[1]]
    want = np.eye(T)
    for p in layers[start:3]:
        a = FUSE[fusion](p, axis=0)
        least = np.sort(a.ravel())[: int(a.size * discard)]
        a = np.where(np.isin(a, least), 0, a)
        a = 0.5 * a + 0.5 * np.eye(T)
        want = a / a.sum(1, keepdims=True) @ want
    want = (layers[3][0, 0] if read == "pooling" else READS[read]) @ want
    got = jax.jit(lambda f, x: attention_rollout(f, x, 0, head_fusion=fusion, discard=discard, start=start))(model(read=read, mask=mask), X)
    assert got.shape == (T, 1)
    np.testing.assert_allclose(got[:, 0], want, atol=1e-6)
    np.testing.assert_allclose(got.sum(), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("read", "mask", "score"),
    [(3, CAUSAL, "logit"), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((0, None, "probability"), ("pooling", None, "logit")))],
)
def test_chefer_by_hand(read, mask, score):
    target = 2
    scored = (lambda z: z[target]) if score == "logit" else (lambda z: jax.nn.softmax(z)[target])
    layers = [np.asarray(p) for p in transformer(WEIGHTS, X, read, mask)[1]]
    nothing = tuple(jnp.zeros((H, T, T)) for _ in range(3))
    slopes = jax.grad(lambda added: scored(transformer(WEIGHTS, X, read, mask, added)[0]))(nothing)
    r = np.eye(T)
    for g, p in zip(slopes, layers):
        r = r + np.maximum(np.asarray(g) * p, 0).mean(0) @ r
    if read == "pooling":
        x = X
        for w in WEIGHTS["layers"]:
            x = attended(w, x)[0]
        g = jax.grad(lambda p: scored(p @ x @ WEIGHTS["head"]))(layers[3][0, 0])
        want = np.maximum(np.asarray(g) * layers[3][0, 0], 0) @ r
    else:
        want = READS[read] @ r
    got = jax.jit(lambda f, x: chefer(f, x, target, score=score))(model(read=read, mask=mask), X)
    np.testing.assert_allclose(got[:, 0], want, atol=1e-5)


@pytest.mark.parametrize(("name", "tokens"), [("vit_class_token", 17), pytest.param("vit_mean", 16, marks=pytest.mark.slow)])
def test_which_tokens_are_read_follows_from_the_program(name, tokens):
    found = stack(zoo.IMAGE[name](0), jnp.zeros((16, 16, 3)))
    assert [one.shape for one in found.layers] == [(2, tokens, tokens)] * 2 and found.pooling is None
    assert list(found.read) == [True, *[name == "vit_mean"] * (tokens - 1)]


@pytest.mark.slow
def test_patches_are_laid_back_on_the_picture():
    """By flax's own parts of the network: what its LayerNorms gave, and its weights."""
    f, x = zoo.IMAGE["vit_class_token"](0), np.float32(np.random.default_rng(1).uniform(size=(16, 16, 3)))
    module, variables = f.module, f.variables
    _, state = module.apply(variables, x, mutable=["intermediates"], capture_intermediates=lambda m, _: isinstance(m, nn.LayerNorm))
    r = np.eye(17)
    for i in range(2):
        w, y = variables["params"][f"attention{i}"], state["intermediates"][f"norm{i}a"]["__call__"][0]
        q, k = (np.einsum("td,dhe->hte", y, w[part]["kernel"]) + np.asarray(w[part]["bias"])[:, None] for part in ("query", "key"))
        p = np.asarray(jax.nn.softmax(np.einsum("hte,hse->hts", q, k) / np.sqrt(q.shape[-1]))).mean(0)
        r = (0.5 * p + 0.5 * np.eye(17)) @ r
    got = np.asarray(jax.jit(lambda f, x: attention_rollout(f, x, 0, interpolation="nearest"))(f, x))
    assert got.shape == (16, 16, 1)
    np.testing.assert_allclose(got[::4, ::4, 0], r[0, 1:].reshape(4, 4), atol=1e-6)


def crossed(x):
    """Two tokens that are not of x look at its tokens, and read them out."""
    return (jax.nn.softmax(np.ones((2, D), np.float32) @ x.T) @ x).mean(0)


def beside(w, x):
    return (attended(w["layers"][0], x)[0] + attended(w["layers"][1], x)[0]).mean(0)


REFUSED = {
    "no attention": (lambda x: x.mean(0), X, "f has no attention"),
    "windows": (zoo.MOVING["shifted_windows"](0), np.zeros((16, 16, 3), np.float32), r"0 of \[4, 16, 16\]: in windows"),
    "queries of its own": (crossed, X, "queries that are no tokens read the tokens"),
    "half looks at the other half": (lambda x: (jax.nn.softmax(x[:2] @ x[2:].T) @ x[2:]).mean(0), X, "tokens look at other tokens"),
    "side by side": (Partial(beside, WEIGHTS), X, "attention 1 is beside attention 0"),
    "over channels": (lambda x: (jax.nn.softmax(x.T @ x) @ x.T).mean(1), X, "no positions of x"),
    "pooling alone": (lambda x: jax.nn.softmax(x @ np.ones(D, np.float32)) @ x, X, "do not look at each other before"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_multiplied_through_is_said(name):
    f, x, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda x: attention_rollout(f, x, 0), x)


def test_bad_options():
    f, x = attentive((3, 3, 2)), example((3, 3, 2))
    for options, message in (
        ({"discard": 1.0}, "discard=1.0 must"),
        ({"start": 2}, "start=2 must be at least 0 and below 2"),
        ({"head_fusion": "sum"}, "'mean', 'max', 'min'"),
    ):
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(lambda x: attention_rollout(f, x, 0, **options), x)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pgd", "ibp"])
def test_trained_transformers_against_numpy(kind):
    """The whole network by NumPy, from the arrays of its file."""
    layers, patch = KINDS[kind]
    try:
        f, w = models.cifar_vit(kind), np.load(weights.find(f"cifar10_vit_{kind}_{layers}_3_{patch}.npz"))
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
    x = np.random.default_rng(0).uniform(size=(32, 32, 3)).astype(np.float32)

    def norm(v, name):
        g, b, mean, var = (w[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var"))
        return (v - mean) / np.sqrt(var + 1e-5) * g + b

    dense = lambda v, name: v @ w[f"{name}.weight"].T + w[f"{name}.bias"]
    side = 32 // patch
    pixels = ((x - (0.4914, 0.4822, 0.4465)) / (0.2023, 0.1994, 0.2010)).reshape(side, patch, side, patch, 3).transpose(0, 2, 4, 1, 3).reshape(side**2, -1)
    v = pixels @ w["projection.weight"].reshape(48, -1).T + w["projection.bias"]
    v = np.concatenate([w["cls_token"].reshape(1, -1), v]) + w["positions"]
    r = np.eye(len(v))
    for n in range(layers):
        y = norm(v, f"block{n}.attn.norm")
        q, k, u = (dense(y, f"block{n}.attn.{part}").reshape(-1, 3, 16).transpose(1, 0, 2) for part in ("query", "key", "value"))
        e = np.exp(q @ k.transpose(0, 2, 1) * 0.25)
        p = e / e.sum(-1, keepdims=True)
        v = v + dense((p @ u).transpose(1, 0, 2).reshape(-1, 48), f"block{n}.attn.out")
        v = v + dense(np.maximum(dense(norm(v, f"block{n}.mlp.norm"), f"block{n}.mlp.fc1"), 0), f"block{n}.mlp.fc2")
        r = (p.mean(0) + np.eye(len(v))) / 2 @ r
    np.testing.assert_allclose(jax.jit(lambda f, x: f(x))(f, x), dense(norm(v.mean(0), "head.norm"), "head"), atol=1e-4)
    got = jax.jit(lambda f, x: attention_rollout(f, x, 0, interpolation="nearest"))(f, x)
    np.testing.assert_allclose(got[::patch, ::patch, 0], r.mean(0)[1:].reshape(side, side), atol=1e-6)
    evidence = jax.jit(lambda f, x: chefer(f, x, 0))(f, x)
    assert np.isfinite(evidence).all() and evidence.shape == (32, 32, 1) and float(evidence.std()) > 0
