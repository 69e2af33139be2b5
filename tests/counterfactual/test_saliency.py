"""Greedy searches: step by step what the formulas say, written out in NumPy, and the limits that they keep to."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from jax.tree_util import Partial

from jxai.counterfactual import run
from jxai.counterfactual.saliency import deduce, jsma
from jxai.uncertainty import GaussianDensity, fit_gaussian_density

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
SHAPE, SIZE, CLASSES = (4, 3, 1), 12, 3
W, B = RNG.normal(size=(CLASSES, SIZE)), RNG.normal(size=CLASSES)
H = RNG.normal(size=(5, SIZE))
PIXELS = RNG.uniform(size=(90, SIZE))
LABELS = np.repeat(np.arange(3), 30)
DENSITY = fit_gaussian_density((PIXELS @ H.T + LABELS[:, None]).astype(np.float32), None, LABELS, num_classes=3)
FEATURES = Partial(lambda h, x: h @ x.ravel(), H.astype(np.float32))
REGION = np.arange(12).reshape(4, 3) % 2 > 0


def model():
    return Partial(lambda w, b, x: w @ x.ravel() + b, W.astype(np.float32), B.astype(np.float32))


def examples(n, seed=1):
    return np.random.default_rng(seed).uniform(0, 1, (n, *SHAPE)).round(1).astype(np.float32)


def least_likely(x):
    return (x.reshape(len(x), SIZE) @ W.T + B).argmin(1)


def _log_softmax(x):
    logits = W @ x + B
    return logits - scipy.special.logsumexp(logits)


def reference(x, target, *, delta=0.2, threshold=0.5, max_changes=None, momentum=0.0, certainty=None, normalize=True, steps=700, stay=False):
    """The algorithm on the linear model, in NumPy and float64; certainty None: without density."""
    x, changes, before, closed = x.ravel().astype(float), np.zeros(SIZE), np.zeros(SIZE), np.zeros(SIZE, bool)
    for step in range(steps + 1):
        log_p = _log_softmax(x)
        if np.exp(log_p[target]) >= threshold or step == steps:
            break
        slope = -(W[target] - np.exp(log_p) @ W)
        if certainty is not None:
            factor, mean = np.linalg.inv(np.asarray(DENSITY.whitening[target], float)), np.asarray(DENSITY.mean[target], float)
            u = np.linalg.solve(factor, H @ x - mean)
            log_n = -0.5 * u @ u - np.log(np.diag(factor)).sum() - 2.5 * np.log(2 * np.pi)
            alpha, beta = (1 / abs(log_n), 1 / abs(log_p[target])) if normalize else (1, 1)
            slope = alpha * H.T @ np.linalg.solve(factor.T, u) + beta * certainty * slope
        slope[closed | (changes >= (max_changes or np.inf))] = 0
        carried = slope + momentum * before
        moved = np.clip(x - delta * np.sign(carried), 0, 1)
        can = (slope != 0) & (abs(moved - x) > 1e-6)
        if not can.any():
            break
        i = np.argmax(np.where(can, abs(slope), -1))
        x[i], before = moved[i], carried
        changes[i] += 1
        closed[i] |= stay and min(x[i], 1 - x[i]) < 1e-6
    return x, step


@pytest.mark.parametrize("max_changes", [pytest.param(None, marks=pytest.mark.slow), 2])
def test_jsma_takes_the_steps_of_its_formula(max_changes):
    x, f = examples(6), model()
    target = least_likely(x)
    found = run(jsma.search(max_changes=max_changes), f, x, target, batch_size=1)
    for i in range(6):
        truth, steps = reference(x[i], target[i], max_changes=max_changes, stay=True)
        assert found.steps[i] == steps
        assert found.valid[i] == (np.exp(_log_softmax(truth)[target[i]]) >= 0.5)
        # Of a search that fails, the best point is not the last.
        if found.valid[i]:
            np.testing.assert_allclose(found.x[i].ravel(), truth, atol=1e-5)
    assert found.valid.any() and found.steps.max() > 3


@pytest.mark.parametrize(
    "options",
    [
        dict(),
        dict(normalize=False, certainty=3.0, max_changes=1, delta=0.5),
        *(
            pytest.param(options, marks=pytest.mark.slow)
            for options in [dict(normalize=False), dict(momentum=0.0, certainty=3.0), dict(max_changes=1, delta=0.5)]
        ),
    ],
    ids=str,
)
def test_deduce_takes_the_steps_of_its_formula(options):
    x, f = examples(6), model()
    target = least_likely(x)
    found = run(deduce.search(density=DENSITY, features=FEATURES, **options), f, x, target, batch_size=1)
    given = {**dict(max_changes=5, momentum=0.6, certainty=1.0), **options}
    ended = []
    for i in range(6):
        truth, steps = reference(x[i], target[i], **given)
        ended.append(np.exp(_log_softmax(truth)[target[i]]) >= 0.5)
        assert found.steps[i] == steps and found.valid[i] == ended[-1]
        if ended[-1]:
            np.testing.assert_allclose(found.x[i].ravel(), truth, atol=1e-5)
    assert any(ended)


def test_deduce_reads_features_from_a_layer_in_the_same_pass():
    def network(h, w, x):
        pixels = x.ravel()
        with jax.named_scope("features"):
            hidden = h @ pixels
        return w @ jnp.tanh(hidden)

    w = RNG.normal(size=(3, 5)).astype(np.float32)
    f, x = Partial(network, H.astype(np.float32), w), examples(4)
    target = (np.tanh(x.reshape(4, SIZE) @ H.T) @ w.T).argmin(1)
    by_layer, by_function = (run(deduce.search(density=DENSITY, features=h, threshold=0.4), f, x, target, batch_size=1) for h in ("features", FEATURES))
    np.testing.assert_array_equal(by_layer.steps, by_function.steps)
    np.testing.assert_allclose(by_layer.x, by_function.x, atol=1e-5)


def test_each_step_changes_one_entry_by_delta_and_none_too_often():
    x, f = examples(4), model()
    target = least_likely(x)
    for steps in (1, 3):
        found = run(jsma.search(steps=steps, threshold=0.999), f, x, target, batch_size=1)
        assert ((found.x != x).sum((1, 2, 3)) <= found.steps).all() and (found.steps <= steps).all()
        assert (abs(found.x - x).sum((1, 2, 3)) <= 0.2 * found.steps + 1e-5).all()
    found = run(deduce.search(density=DENSITY, features=FEATURES, max_changes=2, threshold=0.999), f, x, target, batch_size=1)
    assert abs(found.x - x).max() <= 0.4 + 1e-5
    # Nothing is left to change long before the steps run out.
    assert (found.steps <= 24).all()


@pytest.mark.parametrize(
    "method, dtype",
    [
        pytest.param(jsma, np.float16, id="jsma-float16"),
        pytest.param(functools.partial(deduce, density=DENSITY, features=FEATURES), np.float32, id="deduce-float32"),
        pytest.param(jsma, np.float32, id="jsma-float32", marks=pytest.mark.slow),
        pytest.param(functools.partial(deduce, density=DENSITY, features=FEATURES), np.float16, id="deduce-float16", marks=pytest.mark.slow),
    ],
)
def test_regions_hold_and_transformations_agree(method, dtype):
    build = getattr(method, "search", None) or functools.partial(deduce.search, **method.keywords)
    x, f, target = examples(3).astype(dtype), model(), np.asarray([0, 1, 2])
    found = run(build(region=REGION), f, x, target, batch_size=1)
    assert found.x.dtype == dtype
    np.testing.assert_array_equal(found.x[:, ~REGION], x[:, ~REGION])
    assert found.x.min() >= 0 and found.x.max() <= 1
    alone = jax.jit(jax.vmap(lambda x, t: method(f, x, t, region=REGION)))(x, target)
    np.testing.assert_allclose(alone.x, found.x, atol=1e-3)
    np.testing.assert_array_equal(alone.steps, found.steps)
    regions = np.stack([REGION, ~REGION, REGION])
    each = run(build(), f, x, target, batch_size=1, per_example={"region": regions})
    for i in range(3):
        np.testing.assert_array_equal(each.x[i][~regions[i]], x[i][~regions[i]])


def test_values_come_to_the_ends_of_the_range_exactly():
    f = Partial(lambda w, x: jnp.stack([w @ x, jnp.zeros(())]), np.float32([1, -1]))
    found = jax.jit(lambda x: jsma(f, x, 1, threshold=0.7))(np.float32([1, 0]))
    np.testing.assert_array_equal(found.x, [0, 1])
    assert found.steps == 10


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(delta=0.0), "delta=0.0 must lie in"),
        (dict(threshold=1.0), "threshold=1.0 must lie in"),
        (dict(threshold=0.0), "threshold=0.0 must lie in"),
        (dict(steps=0), "steps=0 must be a positive integer"),
        (dict(max_changes=0), "max_changes=0 must be a positive integer"),
        (dict(region=np.zeros((4, 3), bool)), "region freezes every entry"),
        (dict(region=np.ones((3, 4), bool)), r"region of shape \(3, 4\) must have the shape of x"),
    ],
)
def test_bad_options_are_errors(options, message):
    x = examples(1)[0]
    with pytest.raises(ValueError, match=message):
        jsma(model(), x, 0, **options)
    with pytest.raises(ValueError, match=message):
        deduce(model(), x, 0, density=DENSITY, features=FEATURES, **options)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(momentum=2.0), "momentum=2.0 must lie in"),
        (dict(certainty=-1.0), "certainty=-1.0 must lie in"),
        (dict(density=3), "density must be a GaussianDensity, got int"),
        (dict(features=None), "features=None must be a callable"),
        (dict(features="nowhere"), "layer='nowhere' is part of no layer's name"),
        (dict(features=Partial(jnp.ravel)), r"h must be features \[5\], got 12 values"),
        (dict(density=GaussianDensity(DENSITY.mean[:2], DENSITY.whitening[:2], DENSITY.log_prior[:2])), r"density has 2 classes, but f\(x\) 3"),
    ],
)
def test_bad_densities_and_features_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        deduce(model(), examples(1)[0], 0, **{**dict(density=DENSITY, features=FEATURES), **options})


def test_a_target_is_needed():
    with pytest.raises(ValueError, match="target=None must be a class"):
        jsma(model(), examples(1)[0], None)
