"""DeepLIFT by hand: chords, products, maxima, RevealCancel and the mean over baselines, in closed form; complete on nets drawn at random."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from jxai import each
from jxai.attribution import deep_lift, deep_shap
from jxai.relevance import differences

RNG = np.random.default_rng(0)
X, B = np.float32([0.9, -1.2, 0.4, 2.0]), np.float32([0.2, 0.7, 0.4, -0.5])
W = RNG.normal(size=(4, 5)).astype("f")
V = RNG.normal(size=(5, 3)).astype("f")
NHWC = dict(window_strides=(1, 1), padding="SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def lifted(f, x, target=None, **options):
    return np.asarray(jax.jit(lambda x: deep_lift(f, x, target, **options))(x))


def scalar(f):
    """What a function of X is shared out as, against B."""
    return lifted(f, X, None, baseline=B)


D = X - B
CLOSED = {
    "chords of a ReLU": (lambda x: jax.nn.relu(x).sum(), np.maximum(X, 0) - np.maximum(B, 0)),
    "a ReLU that is written as a product": (lambda x: (x * (x > 0)).sum(), np.maximum(X, 0) - np.maximum(B, 0)),
    "a ReLU that is chosen": (lambda x: jnp.where(x > 0, x, 0.0).sum(), np.maximum(X, 0) - np.maximum(B, 0)),
    "chords of a curve": (lambda x: jnp.tanh(x).sum(), np.tanh(X) - np.tanh(B)),
    "a step": (lambda x: jnp.sign(x).sum(), np.sign(X) - np.sign(B)),
    "a product": (lambda x: x[0] * x[1], [(X[1] + B[1]) / 2 * D[0], (X[0] + B[0]) / 2 * D[1], 0, 0]),
    "a quotient": (
        lambda x: x[0] / (3 + x[1]),
        [(1 / (3 + X[1]) + 1 / (3 + B[1])) / 2 * D[0], -(X[0] + B[0]) / 2 / (3 + X[1]) / (3 + B[1]) * D[1], 0, 0],
    ),
    "a product of matrices": (lambda x: x @ W @ W.T @ x, D * (W @ W.T @ (X + B))),
    "a power of two": (
        lambda x: (2 + x[0]) ** (1 + x[3]),
        [
            ((2 + X[0]) ** 0.5 - (2 + B[0]) ** 0.5 + (2 + X[0]) ** 3 - (2 + B[0]) ** 3) / 2,
            *(0, 0, ((2 + X[0]) ** 3 - (2 + X[0]) ** 0.5 + (2 + B[0]) ** 3 - (2 + B[0]) ** 0.5) / 2),
        ],
    ),
    "a maximum rises by the new largest": (lambda x: x.max(), [0, 0, 0, X[3] - B[1]]),
    "a maximum falls by the old largest": (lambda x: x[1:3].max(), [0, X[2] - B[1], 0, 0]),
    "a maximum of two": (lambda x: jnp.maximum(x[1], x[2]), [0, X[2] - B[1], 0, 0]),
    "a minimum": (lambda x: x.min(), [0, X[1] - B[3], 0, 0]),
    "the same step twice": (lambda x: sum(jnp.tanh(jnp.tanh(x))), np.tanh(np.tanh(X)) - np.tanh(np.tanh(B))),
    "a loop": (lambda x: lax.scan(lambda c, v: (c * v, None), 1.0, x[:2])[0], [(X[1] + B[1]) / 2 * D[0], (X[0] + B[0]) / 2 * D[1], 0, 0]),
    "a choice by what does not move": (lambda x: lax.cond(x.size > 3, jnp.sin, jnp.cos, x).sum(), np.sin(X) - np.sin(B)),
}


@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms(name):
    f, expected = CLOSED[name]
    np.testing.assert_allclose(scalar(f), np.float32(expected), rtol=2e-5, atol=2e-6)


def spelled(x):
    e = jnp.exp(x - 0.3)
    return e / e.sum()


@pytest.mark.parametrize("softmax", [jax.nn.softmax, spelled])
def test_a_softmax_is_one_however_it_is_spelled(softmax):
    """Its derivative, at logarithmic means of the probabilities at both points."""
    g = np.float32([1.0, -2.0, 0.5, 3.0])
    p, q = np.asarray(jax.nn.softmax(X)), np.asarray(jax.nn.softmax(B))
    m = (p - q) / (np.log(p) - np.log(q))
    found = scalar(lambda x: softmax(x) @ g)
    np.testing.assert_allclose(found, m * (g - m @ g / m.sum()) * D, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.sum(), (p - q) @ g, rtol=1e-5)


def test_a_softmax_that_is_sure_or_masked_is_complete():
    x, base = np.float32([300.0, -200.0, 5.0, 7.0]), np.float32([-50.0, 90.0, 5.0, 9.0])
    f = lambda x: jax.nn.softmax(jnp.where(jnp.array([True, True, True, False]), x, -jnp.inf)) @ jnp.float32([1.0, 2.0, 3.0, 4.0])
    found = lifted(f, x, baseline=base)
    assert found[3] == 0 and np.isclose(found.sum(), f(x) - f(base), rtol=1e-5)


def several(x):
    """Steps whose rule has no simple closed form: each is complete."""
    p = jnp.abs(x) + 0.3
    picked = jnp.take(jnp.sort(x), jnp.array([0, 2])).sum() + lax.top_k(x, 2)[0][1] + jnp.median(x)
    run = lax.cumprod(p).sum() + lax.cumlogsumexp(x).sum() + lax.cummax(x).sum() + jnp.cumsum(x)[2] + p.prod()
    chosen = lax.cond(x[0] > 0.5, jnp.exp, jnp.cos, x).sum() + jnp.where(jnp.any(x > 1.5), x[0], 2.0) + jnp.clip(x, -0.5, 0.6).sum()
    spectrum = jnp.abs(jnp.fft.fft(x).real).sum() + jnp.floor(x).astype(jnp.int32).sum() + jnp.logaddexp(x[0], x[1]) + jnp.arctan2(x[1], p[2])
    return picked, run, chosen, spectrum


@pytest.mark.parametrize("parts", [pytest.param([0, 1, 2, 3], marks=pytest.mark.slow), [2]])
def test_steps_without_a_closed_form_are_complete(parts):
    f = lambda x: sum((n + 1) * several(x)[n] for n in parts)
    np.testing.assert_allclose(scalar(f).sum(), f(X) - f(B), rtol=1e-5)


def cancelling(x):
    """min(x₀, x₁), as the paper has it: x₀ − relu(x₀ − x₁)."""
    return x[0] - jax.nn.relu(x[:2] @ jnp.float32([1.0, -1.0]))


def test_reveal_cancel_shares_a_minimum_evenly():
    """The paper's example of what Rescale gives to one of two."""
    x = np.float32([3.0, 2.0])
    np.testing.assert_allclose(lifted(cancelling, x), [0, 2], atol=1e-6)
    np.testing.assert_allclose(lifted(cancelling, x, rule="reveal_cancel"), [1, 1], rtol=1e-6)


def revealed(phi, matrix, x, base, shift):
    """RevealCancel of `Σ phi(matrix x + shift)` as the paper writes it, entry by entry; for changes that are all but 0."""
    delta, z0 = x - base, matrix @ base + shift
    up, down = (np.where(keep(matrix * delta), matrix * delta, 0).sum(1) for keep in (lambda v: v > 0, lambda v: v < 0))
    rise = (phi(z0 + up) - phi(z0) + phi(z0 + up + down) - phi(z0 + down)) / 2
    fall = (phi(z0 + down) - phi(z0) + phi(z0 + up + down) - phi(z0 + up)) / 2
    share = lambda total, part: np.where(part != 0, total / np.where(part != 0, part, 1), 0)
    m = np.where(matrix * delta > 0, share(rise, up)[:, None], share(fall, down)[:, None])
    return (m * matrix * delta).sum(0)


def test_reveal_cancel_after_dense_steps_with_scales_and_shifts():
    """A batch norm of both signs between the dense step and the nonlinearity is folded into it."""
    scale, shift = np.float32([1.0, -2.0, 0.5, -0.3, 1.5]), np.float32([0.1, 0.2, -0.3, 0.0, 0.4])
    f = lambda x: jnp.tanh(((x @ W - shift) * scale / 2).reshape(5, 1)).sum()
    x = np.where(X == B, X + 0.1, X)
    expected = revealed(np.tanh, (W * scale / 2).T, x, B, -shift * scale / 2)
    np.testing.assert_allclose(lifted(f, x, baseline=B, rule="reveal_cancel"), expected, rtol=1e-4, atol=1e-6)


IMAGE = RNG.normal(size=(4, 5, 2)).astype("f")
KERNEL, HEAD = RNG.normal(size=(3, 3, 2, 3)).astype("f"), RNG.normal(size=(60, 4)).astype("f") * 0.3


def convolved(x):
    return lax.conv_general_dilated(x[None], KERNEL, **NHWC)[0]


def test_reveal_cancel_after_convolutions():
    matrix = np.asarray(jax.jacobian(lambda x: convolved(x).reshape(-1))(IMAGE)).reshape(60, -1)
    found = lifted(lambda x: jax.nn.relu(convolved(x)).sum(), IMAGE, baseline=0.1, rule="reveal_cancel")
    expected = revealed(lambda v: np.maximum(v, 0), matrix, IMAGE.reshape(-1), np.full(40, 0.1, "f"), 0.0)
    np.testing.assert_allclose(found.reshape(-1), expected, rtol=1e-3, atol=1e-5)


def test_genomics_is_rescale_after_convolutions_and_reveal_cancel_after_dense_steps():
    first = lambda x: jax.nn.relu(convolved(x)).sum()
    second = lambda x: jax.nn.relu(x.reshape(-1) @ HEAD[:40]).sum()
    for f, same, other in ((first, "rescale", "reveal_cancel"), (second, "reveal_cancel", "rescale")):
        found = {rule: lifted(f, IMAGE, baseline=0.1, rule=rule) for rule in ("genomics", "rescale", "reveal_cancel")}
        np.testing.assert_array_equal(found["genomics"], found[same])
        assert np.abs(found["genomics"] - found[other]).max() > 0.01


def attend(t, q, k, v):
    t = (t - t.mean(-1, keepdims=True)) * lax.rsqrt(t.var(-1, keepdims=True) + 1e-5)
    return jax.nn.softmax((t @ q) @ (t @ k).T / 2) @ (t @ v)


DRAWN = {
    "dense": lambda w, x: jax.nn.relu(x.reshape(4, 4) @ w[:4] + w[4]).reshape(-1) @ w[:16],
    "residual": lambda w, x: (x.reshape(4, 4) + jax.nn.gelu(x.reshape(4, 4) @ w[:4])).reshape(-1) @ w,
    "attention": lambda w, x: (x.reshape(4, 4) + attend(x.reshape(4, 4), w[:4], w[4:8], w[8:12])).reshape(-1) @ w,
    "gated": lambda w, x: (jax.nn.silu(x.reshape(4, 4) @ w[:4]) * jax.nn.sigmoid(x.reshape(4, 4).mean(0) @ w[4:8])).reshape(-1) @ w,
    "pooled": lambda w, x: lax.reduce_window(x.reshape(4, 4) @ w[:4], -jnp.inf, lax.max, (2, 3), (1, 2), "SAME").reshape(-1) @ w[:8],
    "joined": lambda w, x: jnp.concatenate([jnp.exp(x[:4] @ w[:4]), jnp.maximum(x[4:8], x[8:12]), x[12:]]) @ w[4:16],
    "recurrent": lambda w, x: lax.scan(lambda c, v: (jnp.tanh(c @ w[:4] + v @ w[4:8]) * jax.nn.sigmoid(c), None), x[:4], x.reshape(4, 4))[0] @ w[:4],
}


@functools.cache
def sums(rule, *names):
    """Sums of the maps of drawn nets, with the scores at x and at the baseline."""

    def run(w, x, base):
        found = {}
        for name in names:
            f = lambda x, name=name: DRAWN[name](w, x)[0]
            found[name] = deep_lift(f, x, None, baseline=base, rule=rule).sum(), f(x), f(base)
        return found

    return jax.jit(run)


EVERY = [pytest.param(rule, tuple(DRAWN), marks=pytest.mark.slow) for rule in ("rescale", "reveal_cancel")]


@pytest.mark.parametrize(("rule", "names"), [("rescale", ("attention", "pooled")), *EVERY])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([0.1, 0.5, 1.0]), kept=st.sampled_from([0.0, 0.5, 0.9]))
def test_maps_add_up_on_nets_drawn_at_random(rule, names, seed, scale, kept):
    """Also where x is the baseline in most places."""
    rng = np.random.default_rng(seed)
    w, x, base = (rng.normal(size=size).astype("f") for size in ((16, 4), 16, 16))
    base = np.where(rng.uniform(size=16) < kept, x, base)
    for name, (total, at_x, at_base) in sums(rule, *names)(w * scale, x, base).items():
        assert abs(total - (at_x - at_base)) <= 1e-4 * max(abs(at_x - at_base), 0.05 * (abs(at_x) + abs(at_base)), 1e-3), name


def net(x):
    return jax.nn.relu(x @ W + 0.1) @ V


BASELINES = RNG.normal(size=(5, 4)).astype("f")


def test_deep_shap_is_the_mean_over_baselines():
    found = jax.jit(lambda x: deep_shap(net, x, 1, baselines=BASELINES, rule="reveal_cancel", chunk=2))(X)
    every = jax.jit(jax.vmap(lambda b: deep_lift(net, X, 1, baseline=b, rule="reveal_cancel")))(BASELINES)
    np.testing.assert_allclose(found, every.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(every.sum(1), net(X)[1] - jax.vmap(net)(BASELINES)[:, 1], rtol=1e-4, atol=1e-5)  # of every pair


def test_all_targets_share_a_pair_of_forward_passes():
    products = lambda run, *args: [e.outvars[0].aval.shape for e in jax.make_jaxpr(run)(*args).eqns if e.primitive.name == "dot_general"]
    shapes = products(jax.vmap(lambda t: deep_lift(net, X, t, baseline=B)), jnp.arange(3))
    assert shapes.count((5,)) == 2 and shapes.count((3,)) == 2 and sorted(shapes)[0] == (3,)
    found = jax.jit(jax.vmap(lambda t: deep_lift(net, X, t, baseline=B)))(jnp.array([0, 2, 3]))
    assert np.isfinite(found[:2]).all() and np.isnan(found[2]).all()  # there is no class 3
    np.testing.assert_allclose(found[1], lifted(net, X, 2, baseline=B), rtol=1e-6)


def test_maps_are_differentiable():
    smooth = lambda x: jnp.tanh(x @ W) @ V
    total = jax.jit(lambda x: (deep_lift(smooth, x, 0, baseline=B, rule="reveal_cancel") ** 2).sum())
    x = np.where(X == B, X + 0.1, X)
    slope = jax.jit(jax.grad(total))(x)
    for n in range(4):
        step = 1e-2 * np.eye(4, dtype="f")[n]
        np.testing.assert_allclose((total(x + step) - total(x - step)) / 2e-2, slope[n], rtol=2e-2)


def test_half_precision_and_batches():
    maps = each(deep_lift, net, np.stack([X, 2 * X]), np.array([1, 2]), per_example={"baseline": np.stack([B, B])})
    np.testing.assert_allclose(maps[0], lifted(net, X, 1, baseline=B), rtol=1e-5)
    half = lifted(net, X.astype(np.float16), 1, baseline=B)
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, maps[0], rtol=0.05, atol=0.05)


def test_a_call_is_what_it_holds_not_what_it_is_called():
    """A jitted function may be named as a primitive is."""

    @jax.jit
    def neg(x):
        return x * jnp.tanh(x)

    np.testing.assert_allclose(scalar(lambda x: neg(x).sum()), X * np.tanh(X) - B * np.tanh(B), rtol=1e-5)


def test_what_does_not_depend_on_x_has_no_part():
    assert not lifted(lambda x: jnp.ones(3), X, 1, baseline=B).any()
    assert differences.plan(lambda x: x.sum(), jnp.asarray(X)).varying


WRONG = {
    "argmax": (lambda x: x[jnp.argmax(x)], "'gather'.*where it reads or writes depends on x|'argmax'.*a place is no number"),
    "argsort": (lambda x: x[jnp.argsort(x)[0]], "'sort'.*a place is no number|'gather'|'dynamic_slice'"),
    "cholesky": (jax.named_scope("inner")(lambda x: jnp.linalg.cholesky(x.reshape(2, 2))[0, 0]), r"no rule for the primitive 'cholesky' \(in .*inner.*\)"),
    "while": (lambda x: lax.while_loop(lambda c: c.sum() < 9, lambda c: c + 1, x).sum(), "'while'.*how often it runs depends on x"),
    "three branches": (lambda x: lax.switch(x[0].astype(int), [jnp.sin, jnp.cos, jnp.tan], x).sum(), "more than two by a number"),
    "complex": (lambda x: jnp.abs(jnp.fft.fft(x)).sum(), "complex numbers"),
    "clamp": (lambda x: lax.clamp(x[0], x, x[3]).sum(), "its bounds depend on x"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_step_without_a_rule_is_named(name):
    f, match = WRONG[name]
    with pytest.raises(ValueError, match=match):
        jax.eval_shape(lambda x: deep_lift(f, x, None, baseline=B), X)


def test_bad_options_are_errors():
    with pytest.raises(ValueError, match="rule='linear' must be one of 'rescale', 'reveal_cancel', 'genomics'"):
        deep_lift(net, X, 1, rule="linear")
    with pytest.raises(ValueError, match=r"baselines must have shape \[B, …\] with examples of x's shape \(4,\), got \(2, 3\)"):
        deep_shap(net, X, 1, baselines=np.zeros((2, 3), "f"))
    with pytest.raises(ValueError, match="baselines must be finite"):
        deep_shap(net, X, 1, baselines=np.full((2, 4), np.nan, "f"))
    with pytest.raises(ValueError, match="baseline has shape"):
        deep_lift(net, X, 1, baseline=np.zeros(3, "f"))
