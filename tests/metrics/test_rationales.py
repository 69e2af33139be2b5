"""Drops for parts of x, and the intrinsic pair, against their formulas on models whose probabilities are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jxai.metrics.curves import insertion
from jxai.metrics.intrinsic import completeness_score, soundness_score
from jxai.metrics.rationales import average_drop, average_gain, average_increase, comprehensiveness, sufficiency

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
W = jnp.asarray(RNG.uniform(0.2, 1, (5, 8)), jnp.float32)
X = jnp.asarray(RNG.uniform(0.2, 1, (5, 8, 1)), jnp.float32)
EXACT = W[..., None] * X
TERMS = np.sort(np.asarray(EXACT).ravel())[::-1]


def linear(x):
    return (W * x[..., 0]).sum()


def share(x):
    """The linear form as a probability of class 0: its logits are log p and log (1 − p)."""
    p = jnp.clip(linear(x) / 40, 1e-6, 1 - 1e-6)
    return jnp.log(jnp.stack([p, 1 - p]))


def test_comprehensiveness_and_sufficiency_average_over_the_fractions():
    # Of 40 features: 1, 2, 4, 8, 20.
    top = np.array([TERMS[:n].sum() for n in (1, 2, 4, 8, 20)])
    assert np.allclose(jax.jit(lambda a: comprehensiveness(linear, X, None, a))(EXACT), top.mean(), atol=1e-5)
    assert np.allclose(jax.jit(lambda a: sufficiency(linear, X, None, a))(EXACT), (TERMS.sum() - top).mean(), atol=1e-5)
    assert np.allclose(comprehensiveness(share, X, 0, EXACT, fractions=(0.1,)), TERMS[:4].sum() / 40, atol=1e-5)
    assert np.allclose(sufficiency(share, X, 1, EXACT, fractions=(0.2, 1.0)), -(TERMS[8:].sum() / 40) / 2, atol=1e-5)


def test_the_exact_attribution_is_best_and_its_reverse_worst():
    noise = [jnp.asarray(RNG.normal(size=X.shape), jnp.float32) for _ in range(4)]
    for metric, best in ((comprehensiveness, max), (sufficiency, min)):
        values = jax.vmap(lambda a, metric=metric: metric(linear, X, None, a))(jnp.stack([EXACT, *noise, -EXACT]))
        assert best(values) == values[0] and (max if best is min else min)(values) == values[-1]


def test_segments_that_belong_to_nothing_stay_in_both():
    labels = np.full((5, 8), 3)
    labels[0], labels[1] = 0, 1
    options = dict(segments=labels, num_segments=3, fractions=(0.5, 1.0))
    rows = np.asarray(EXACT).sum((1, 2))
    first = max(rows[0] / 8, rows[1] / 8) * 8
    assert np.allclose(comprehensiveness(linear, X, None, EXACT, **options), (first + rows[:2].sum()) / 2, atol=1e-5)
    assert np.allclose(sufficiency(linear, X, None, EXACT, **options), (rows[:2].sum() - first) / 2, atol=1e-5)


def test_drop_gain_and_increase_see_x_through_the_map():
    a = jnp.asarray(RNG.normal(size=(5, 8, 1)), jnp.float32)
    seen = np.maximum(a, 0) / np.max(a) * X
    p, q = (float(jnp.exp(share(v)[0])) for v in (X, seen))
    assert q < p
    assert np.allclose(average_drop(share, X, 0, 3 * a), (p - q) / p, atol=1e-5) and average_gain(share, X, 0, a) == 0
    # For the other class, what is lost to the first is gained.
    assert np.allclose(average_gain(share, X, 1, a), (p - q) / p, atol=1e-5) and average_drop(share, X, 1, a) == 0
    assert average_increase(share, X, 0, a) == 0 and average_increase(share, X, 1, a) == 1
    # Nothing positive is a black map; a constant positive one shows everything.
    assert np.allclose(average_drop(linear, X, None, -jnp.abs(a)), 1) and average_drop(share, X, 0, jnp.full_like(a, 0.3)) == 0
    assert average_increase(share, X, 0, jnp.full_like(a, 0.3)) == 0
    certain = lambda x: jnp.array([200.0, 0.0])
    assert average_gain(certain, X, 0, a) == 0 and average_drop(certain, X, 1, a) == 0


@pytest.mark.parametrize("target", [0, 1])
def test_completeness_and_soundness_are_the_papers_ratios(target):
    p = float(jnp.exp(share(X)[target]))
    q = float(insertion(share, X, target, EXACT, steps=28, fill=0.0).auc)
    for alpha, eps in ((1.0, 0.01), (0.1, 0.01), (1.0, 0.9)):
        value = completeness_score(share, X, target, EXACT, alpha=alpha, eps=eps, fill=0.0)
        assert np.allclose(value, min(max(eps, q) / min(alpha, p), 1), atol=1e-5)
    for beta in (0.1, 0.0, 0.9):
        value = soundness_score(share, X, target, EXACT, beta=beta, fill=0.0)
        assert np.allclose(value, min(max(beta, p) / q, 1), atol=1e-5)


def test_a_map_that_raises_an_unlikely_label_is_unsound():
    # Class 1 wants the left half alone: the right half speaks against it.
    sign = jnp.asarray(np.where(np.arange(8) < 4, 1.0, -3.0), jnp.float32)
    f = lambda x: jnp.stack([jnp.float32(0), (sign * x[..., 0]).sum()])
    honest, cheating = (soundness_score(f, jnp.ones_like(X), 1, jnp.broadcast_to(v, (5, 8))[..., None], fill=0.0) for v in (-sign, sign))
    assert cheating < 0.3 < 0.9 < honest


def test_undefined_attributions_give_nan():
    bad = EXACT.at[0, 0].set(jnp.nan)
    for metric in (comprehensiveness, sufficiency, average_drop, average_gain, average_increase, completeness_score, soundness_score):
        run = jax.jit(lambda a, t, metric=metric: metric(share, X, t, a))
        assert np.isnan(run(bad, 0)) and np.isnan(run(EXACT, 4)) and np.isfinite(run(jnp.ones_like(X), 0)), metric.__name__


def test_bad_input_says_so():
    for fractions in ((), (0.0, 0.5), (0.5, 0.1), (0.5, 1.5)):
        with pytest.raises(ValueError, match="fractions="):
            comprehensiveness(share, X, 0, EXACT, fractions=fractions)
    for metric in (comprehensiveness, sufficiency, average_drop, average_gain, average_increase, completeness_score, soundness_score):
        with pytest.raises(ValueError, match="attribution must"):
            metric(share, X, 0, EXACT[1:])
        with pytest.raises(ValueError, match="target=2"):
            metric(share, X, 2, EXACT)
