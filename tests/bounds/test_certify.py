"""Certificates of robustness: closed forms on linear models, and that no lie about the example, the model or the region passes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jxai.bounds import Ball, Box, ball
from jxai.bounds.attack import attack
from jxai.bounds.certify import certified_radius, certify
from jxai.certificates import digests, load, save, verify

pytestmark = pytest.mark.usefixtures("quick_compilation")

NORMS = (np.inf, 2, 1)
run = jax.jit(attack)
radius_of = jax.jit(certified_radius, static_argnames=("high", "rounds", "p", "clip"))


def slow(*quick):
    """The norms, all but these for the slow tests."""
    return [pytest.param(p, marks=() if p in quick else pytest.mark.slow) for p in NORMS]


def affine(weights, x):
    return weights[0] @ x.ravel() + weights[1]


def relu_net(weights, x):
    return weights[1] @ jax.nn.relu(weights[0] @ x.ravel())


def linear(seed=0, classes=4, size=20):
    rng = np.random.default_rng(seed)
    weights = jnp.asarray(rng.normal(size=(classes, size)), jnp.float32), jnp.asarray(rng.normal(size=classes), jnp.float32)
    return jax.tree_util.Partial(affine, weights)


def net(seed=0, size=12, classes=4, hidden=16):
    rng = np.random.default_rng(seed)
    shapes = (hidden, size), (classes, hidden)
    weights = [jnp.asarray(rng.normal(size=s) / np.sqrt(s[1]), jnp.float32) for s in shapes]
    return jax.tree_util.Partial(relu_net, weights)


def example(seed=0, size=12):
    return np.float32(np.random.default_rng(seed).uniform(0.2, 0.8, size))


def exact_radius(f, x, p):
    """`min_j (f[label] − f[j]) / ‖a_label − a_j‖_q`."""
    weights, bias = (np.asarray(v, np.float64) for v in f.args[0])
    logits = weights @ np.asarray(x, np.float64) + bias
    label = logits.argmax()
    q = {np.inf: 1, 2: 2, 1: np.inf}[p]
    return min((logits[label] - logits[j]) / np.linalg.norm(weights[label] - weights[j], q) for j in range(len(bias)) if j != label)


@pytest.mark.parametrize("p", slow(2))
def test_the_radius_of_a_linear_model(p):
    for seed in range(3):
        f, x = linear(seed), example(seed, 20)
        radius = exact_radius(f, x, p)
        lost = 1e-4 + 2e-4 * radius  # room for rounding
        assert radius - lost <= float(radius_of(f, x, p=p, high=4.0, rounds=20)) <= radius
        assert bool(certify(f, x, radius - lost, p=p).holds) and not bool(certify(f, x, radius + 1e-6, p=p).holds)
    assert float(radius_of(f, x, p=p, high=0.5 * radius)) == pytest.approx(0.5 * radius)


@pytest.mark.parametrize("p", slow(np.inf))
def test_the_radius_itself_is_certified_and_not_attacked(p):
    f, found, high = net(), [], 8.0 if p == 1 else 1.0
    for seed in range(3):
        x = example(seed)
        radius = radius_of(f, x, p=p, high=high, clip=(0, 1))
        found.append(radius)
        certificate = certify(f, x, radius, p=p, clip=(0, 1))
        assert 0 < radius < high and bool(certificate.holds) and verify(f, x, certificate).holds
        assert not bool(certify(f, x, radius + 2 * high / 2**16, p=p, clip=(0, 1)).holds)
        assert not run(f, certificate.region, certificate.label, jax.random.key(seed)).success
    if p == 2:
        xs = np.stack([example(seed) for seed in range(3)])
        many = jax.jit(jax.vmap(lambda f, x: certified_radius(f, x, p=p, clip=(0, 1)), (None, 0)))(f, xs)
        assert np.allclose(many, found, atol=2 / 2**16)


def test_what_is_given_another_class_has_radius_zero():
    f, x = linear(), example(0, 20)
    wrong = (int(np.asarray(f(x)).argmax()) + 1) % 4
    assert float(radius_of(f, x, wrong)) == 0 and not bool(certify(f, x, 0.0, wrong).holds)
    radii = jax.jit(jax.vmap(lambda label: certified_radius(f, x, label, rounds=8)))(np.arange(-1, 5))
    radii = np.asarray(radii)
    assert np.array_equal(np.isnan(radii), [True, False, False, False, False, True]) and (radii[1:5] > 0).sum() == 1
    assert np.isnan(radius_of(f, np.float32([np.nan, *x[1:]]), 0))


def test_features_of_radius_zero_are_held():
    f, x = linear(), example(0, 20)
    held = np.arange(20) < 15
    whole, part = (certify(f, x, radius, rounding="nearest").margins for radius in (0.1, np.where(held, np.float32(0), np.float32(0.1))))
    weights, label = np.asarray(f.args[0][0], np.float64), int(np.asarray(f(x)).argmax())
    lost = 0.1 * np.abs(weights[label] - weights)[:, held].sum(1)
    assert np.allclose(part - whole, lost, atol=1e-4)


@pytest.mark.parametrize("p", slow(2))
def test_lies_fail_and_weaker_truths_pass(p, tmp_path):
    f, x = net(), example()
    certificate = certify(f, x, 0.9 * radius_of(f, x, p=p, clip=(0, 1)), p=p)
    save(tmp_path / "c.npz", certificate)
    certificate = load(tmp_path / "c.npz")
    verdict = verify(f, x, certificate)
    assert verdict.holds and set(verdict.values) == {"same_x", "same_weights", "x_in_region", "margin"}
    assert verdict.values["margin"] == pytest.approx(float(np.delete(certificate.margins, int(certificate.label)).min()), rel=1e-5)

    def fails(names, f=f, x=x, **lies):
        verdict = verify(f, x, dataclasses.replace(certificate, **lies))
        assert not verdict.holds and {k for k, v in verdict.values.items() if not v > verdict.thresholds[k]} == names

    fails({"same_x"}, x=x + np.float32(1e-6) * (np.arange(12) == 3))
    fails({"same_x", "x_in_region"}, x=x + 1)
    fails({"same_weights", "margin"}, f=net(1))
    close = jax.tree.map(lambda w: np.asarray(w) + np.float32(1e-6) * (np.arange(w.size) == 0).reshape(w.shape), f)
    fails({"same_weights"}, f=close)
    # The margins that are stored are believed by nobody, either way.
    fails({"margin"}, label=jnp.int32((int(certificate.label) + 1) % 4))
    fails({"margin"}, region=ball(x, 5.0, p))
    fails({"margin"}, label=jnp.int32(9))
    assert verify(f, x, dataclasses.replace(certificate, margins=-certificate.margins)).holds
    assert verify(f, x, dataclasses.replace(certificate, region=ball(x, 1e-3, p))).holds
    # A region elsewhere, or no region at all, is no claim about x.
    fails({"x_in_region"}, region=ball(x + 1e-4, 1e-5, p))
    shut = Box(x + np.float32(1e-5), x - np.float32(1e-5)) if p == np.inf else Ball(x, 0 * x + np.float32(1e-4), x + np.float32(1e-5), x - np.float32(1e-5), p)
    fails({"x_in_region", "margin"}, region=shut)
    with pytest.raises(ValueError, match="x has shape"):
        verify(f, x[:5], certificate)


def test_certificates_under_a_trace():
    f, x = net(), example()
    made = jax.jit(lambda f, x: certify(f, x, 0.01))(f, x)
    plain = certify(f, x, 0.01)
    assert made.digests is None and bool(made.holds) and np.allclose(made.margins, plain.margins, rtol=1e-5) and made.label == plain.label
    assert not verify(f, x, made).holds
    assert verify(f, x, dataclasses.replace(made, digests=digests(f, x))).holds
    xs = np.stack([example(n) for n in range(3)])
    many = jax.jit(jax.vmap(lambda f, x: certify(f, x, 0.01), (None, 0)))(f, xs)
    assert np.array_equal(many.holds, [bool(certify(f, x, 0.01).holds) for x in xs]) and many.margins.shape == (3, 4)


@pytest.mark.parametrize("options", [{"method": "interval"}, {"method": "crown_ibp"}, {"rounding": "nearest"}, {"chunk": 3}])
def test_options_are_kept_and_used_again(options):
    f, x = net(), example()
    certificate = certify(f, x, 0.003, **options)
    assert bool(certificate.holds) and verify(f, x, certificate).holds
    assert {"method": certificate.method, "rounding": certificate.rounding, **dict(certificate.options)}.items() >= options.items()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radius": -0.1}, "radius=-0.1 must be"),
        ({"radius": np.nan}, "radius=nan must be"),
        ({"label": 4}, r"target=4 must be a class in \[0, 4\)"),
        ({"p": 3}, "p=3 must be 1, 2 or"),
        ({"clip": (0.0, 0.5)}, "x must lie in clip"),
        ({"method": "magic"}, "method='magic' must be one of"),
        ({"rounding": "up"}, "rounding='up' must be one of"),
        ({"f": lambda x: x[:1]}, "two classes or more"),
        ({"f": lambda x: x.sum()}, "must be a vector"),
        ({"x": jnp.full(12, jnp.nan)}, "x must be finite"),
        ({"x": jnp.arange(12)}, "x must be a floating-point array"),
        ({"f": lambda x: jnp.cumprod(x)}, "cumprod"),
    ],
)
def test_bad_input(options, message):
    given = {"f": net(), "x": example(), "radius": 0.1, **options}
    with pytest.raises(ValueError, match=message):
        certify(given.pop("f"), given.pop("x"), given.pop("radius"), **given)


@pytest.mark.parametrize("options", [{"high": 0.0}, {"high": float("nan")}, {"rounds": 0}])
def test_bad_input_of_the_radius(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))}="):
        certified_radius(net(), example(), **options)


def test_radii_and_ranges_may_be_each_feature_s():
    """`f(x) = Σ x` against 0 at x = (1, 1, 1), with radii s · (1, 2, 3): proved while 3 − 6 s > 0."""
    f, x, high = lambda x: jnp.stack([x.sum(), 0.0]), jnp.ones(3), jnp.array([1.0, 2.0, 3.0])
    found = certified_radius(f, x, high=high, method="interval")
    np.testing.assert_allclose(found / high, 0.5, atol=1e-4)
    assert (found / high < 0.5).all() and bool(certify(f, x, found, method="interval").holds)
    region = ball(x, 0.5, clip=(jnp.array([0.0, 0.9, -1.0]), jnp.array([1.0, 2.0, 1.0])))
    np.testing.assert_allclose([region.lower, region.upper], [[0.5, 0.9, 0.5], [1.0, 1.5, 1.0]])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: ball(x, 0.1, clip=(jnp.zeros(2), 1.0)), "clip's low has shape"),
        (lambda x: ball(x, 0.1, clip=(jnp.array([0.0, 2.0, 0.0]), 1.5)), "low <= high for every feature, but at"),
        (lambda x: ball(x, 0.1, clip=(0.0, jnp.array([2.0, 0.5, 2.0]))), r"at \(1,\) it is 1.0, outside of \[0.0, 0.5\]"),
        (lambda x: certified_radius(lambda v: v, x, high=jnp.array([1.0, 2.0])), "high has shape"),
        (lambda x: certified_radius(lambda v: v, x, high=jnp.array([1.0, -2.0, 1.0])), "high=-2.0"),
        (lambda x: certified_radius(lambda v: v, x, high=jnp.zeros(3)), "of some feature"),
    ],
)
def test_bad_ranges_of_features_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call(jnp.ones(3))


def test_x_in_half_precision_is_proved_in_half_precision():
    """With x in bfloat16 the model rounds what it compares: 1.0036 becomes 1, which is less than 1.002."""
    f = lambda x: jnp.append(jnp.where(x > 0, x, 0).astype(jnp.float32), jnp.float32(1.002))
    x = jnp.array([1.0078125], jnp.bfloat16)
    assert not bool(certify(f, x, 0.0042, method="interval").holds)
    assert bool(certify(f, x.astype(jnp.float32), 0.0042, method="interval").holds)
