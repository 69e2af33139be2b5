"""Drops for parts of x, and the intrinsic pair, against their formulas on models whose probabilities are known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jxai.metrics.curves import insertion
from jxai.metrics.intrinsic import completeness_score, soundness_score
from jxai.metrics.rationales import average_drop, average_gain, average_increase, comprehensiveness, sufficiency

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
W = RNG.uniform(0.2, 1, (5, 8)).astype(np.float32)
X = RNG.uniform(0.2, 1, (5, 8, 1)).astype(np.float32)
EXACT = W[..., None] * X
TERMS = np.sort(EXACT.ravel())[::-1]


@functools.cache
def compiled(metric, f, scalar, options):
    return jax.jit(lambda x, t, a, more: metric(f, x, None if scalar else t, a, **dict(options), **more))


def judged(metric, f, x, target, a, *, segments=None, alpha=None, beta=None, eps=None, **options):
    """The metric compiled whole, and once for each set of options: maps, targets and prices are data."""
    more = {name: value for name, value in dict(segments=segments, alpha=alpha, beta=beta, eps=eps).items() if value is not None}
    return jax.tree.map(np.asarray, compiled(metric, f, target is None, tuple(sorted(options.items())))(x, np.int32(target or 0), a, more))


def linear(x):
    return (W * x[..., 0]).sum()


def share(x):
    """The linear form as a probability of class 0: its logits are log p and log (1 − p)."""
    p = jnp.clip(linear(x) / 40, 1e-6, 1 - 1e-6)
    return jnp.log(jnp.stack([p, 1 - p]))


def test_comprehensiveness_and_sufficiency_average_over_the_fractions():
    # Of 40 features: 1, 2, 4, 8, 20.
    top = np.array([TERMS[:n].sum() for n in (1, 2, 4, 8, 20)])
    assert np.allclose(judged(comprehensiveness, linear, X, None, EXACT), top.mean(), atol=1e-5)
    assert np.allclose(judged(sufficiency, linear, X, None, EXACT), (TERMS.sum() - top).mean(), atol=1e-5)
    assert np.allclose(judged(comprehensiveness, share, X, 0, EXACT, fractions=(0.1,), score="probability"), TERMS[:4].sum() / 40, atol=1e-5)
    assert np.allclose(judged(sufficiency, share, X, 1, EXACT, fractions=(0.2, 1.0), score="probability"), -(TERMS[8:].sum() / 40) / 2, atol=1e-5)


def test_the_exact_attribution_is_best_and_its_reverse_worst():
    noise = [RNG.normal(size=X.shape).astype(np.float32) for _ in range(4)]
    for metric, best in ((comprehensiveness, max), (sufficiency, min)):
        values = [judged(metric, linear, X, None, a) for a in (EXACT, *noise, -EXACT)]
        assert best(values) == values[0] and (max if best is min else min)(values) == values[-1]


def test_segments_that_belong_to_nothing_stay_in_both():
    labels = np.full((5, 8), 3)
    labels[0], labels[1] = 0, 1
    options = dict(segments=labels, num_segments=3, fractions=(0.5, 1.0))
    rows = EXACT.sum((1, 2))
    first = max(rows[0] / 8, rows[1] / 8) * 8
    assert np.allclose(judged(comprehensiveness, linear, X, None, EXACT, **options), (first + rows[:2].sum()) / 2, atol=1e-5)
    assert np.allclose(judged(sufficiency, linear, X, None, EXACT, **options), (rows[:2].sum() - first) / 2, atol=1e-5)


def test_drop_gain_and_increase_see_x_through_the_map():
    a = RNG.normal(size=(5, 8, 1)).astype(np.float32)
    seen = np.maximum(a, 0) / np.max(a) * X
    p, q = ((W * v[..., 0]).sum() / 40 for v in (X, seen))
    drop, gain, increase = (lambda t, a, m=metric: judged(m, share, X, t, a) for metric in (average_drop, average_gain, average_increase))
    assert q < p
    assert np.allclose(drop(0, 3 * a), (p - q) / p, atol=1e-5) and gain(0, a) == 0
    # For the other class, what is lost to the first is gained.
    assert np.allclose(gain(1, a), (p - q) / p, atol=1e-5) and drop(1, a) == 0
    assert increase(0, a) == 0 and increase(1, a) == 1
    # Nothing positive is a black map; a constant positive one shows everything.
    assert np.allclose(judged(average_drop, linear, X, None, -np.abs(a)), 1) and drop(0, np.full_like(a, 0.3)) == 0
    assert increase(0, np.full_like(a, 0.3)) == 0
    assert judged(average_gain, certain, X, 0, a) == 0 and judged(average_drop, certain, X, 1, a) == 0


def certain(x):
    return jnp.array([200.0, 0.0])


@pytest.mark.parametrize("target", [0, 1])
def test_completeness_and_soundness_are_the_papers_ratios(target):
    p = abs(target - EXACT.sum() / 40)
    q = judged(insertion, share, X, target, EXACT, steps=28, fill=0.0, score="probability").auc
    for alpha, eps in ((1.0, 0.01), (0.1, 0.01), (1.0, 0.9)):
        value = judged(completeness_score, share, X, target, EXACT, alpha=alpha, eps=eps, fill=0.0)
        assert np.allclose(value, min(max(eps, q) / min(alpha, p), 1), atol=1e-5)
    for beta in (0.1, 0.0, 0.9):
        value = judged(soundness_score, share, X, target, EXACT, beta=beta, fill=0.0)
        assert np.allclose(value, min(max(beta, p) / q, 1), atol=1e-5)


def test_a_map_that_raises_an_unlikely_label_is_unsound():
    # Class 1 wants the left half alone: the right half speaks against it.
    sign = np.where(np.arange(8) < 4, 1, -3).astype(np.float32)
    f = lambda x: jnp.stack([jnp.float32(0), (sign * x[..., 0]).sum()])
    honest, cheating = (judged(soundness_score, f, np.ones_like(X), 1, np.tile(v, (5, 1))[..., None], fill=0.0) for v in (-sign, sign))
    assert cheating < 0.3 < 0.9 < honest


def test_undefined_attributions_give_nan():
    bad = np.where(np.arange(40).reshape(5, 8, 1) == 0, np.nan, EXACT)
    for metric in (comprehensiveness, sufficiency, average_drop, average_gain, average_increase, completeness_score, soundness_score):
        run = lambda a, t, metric=metric: judged(metric, share, X, t, a)
        assert np.isnan(run(bad, 0)) and np.isnan(run(EXACT, 4)) and np.isfinite(run(np.ones_like(X), 0)), metric.__name__


def test_bad_input_says_so():
    for fractions in ((), (0.0, 0.5), (0.5, 0.1), (0.5, 1.5)):
        with pytest.raises(ValueError, match="fractions="):
            comprehensiveness(share, X, 0, EXACT, fractions=fractions)
    for metric in (comprehensiveness, sufficiency, average_drop, average_gain, average_increase, completeness_score, soundness_score):
        with pytest.raises(ValueError, match="attribution must"):
            metric(share, X, 0, EXACT[1:])
        with pytest.raises(ValueError, match="target=2"):
            metric(share, X, 2, EXACT)
