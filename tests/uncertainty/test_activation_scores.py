"""Scores that change features or weights before the last layer, beside NumPy written from OpenOOD's formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from uncertainty.numpy_scores import logsumexp, softmax

from jxai import uncertainty
from jxai.uncertainty import formulas
from jxai.uncertainty.formulas.perturbed import without_first

pytestmark = pytest.mark.usefixtures("quick_compilation")

N, D, K = 60, 37, 5
_DRAWN = np.random.default_rng(1)
FEATURES = np.maximum(_DRAWN.normal(0.3, 1, (N, D)), 0).astype(np.float32)  # of which some are equal: zeros
WEIGHTS, BIAS = _DRAWN.normal(size=(D, K)).astype(np.float32), _DRAWN.normal(size=K).astype(np.float32)
HEAD = uncertainty.Head(jnp.asarray(WEIGHTS), jnp.asarray(BIAS))
LOGITS = FEATURES @ WEIGHTS + BIAS
LABELS = LOGITS.argmax(1)
ARRAYS = (FEATURES, LOGITS, LABELS, HEAD)
WIDE = FEATURES.astype(np.float64)


def energies(features, weights=WEIGHTS):
    return -logsumexp(features @ weights.astype(np.float64) + BIAS)


def largest(h, percentile):
    """The k largest of every row, k by NumPy's rounding to even, and k."""
    k = h.shape[1] - int(np.round(h.shape[1] * percentile / 100))
    kept = np.zeros(h.shape, bool)
    np.put_along_axis(kept, np.argsort(-h, axis=1, kind="stable")[:, :k], True, axis=1)
    return kept, k


def shaped(variant, percentile):
    kept, k = largest(WIDE, percentile)
    pruned = np.where(kept, WIDE, 0)
    if variant == "b":
        return np.where(kept, WIDE.sum(1, keepdims=True) / k, 0)
    return pruned if variant == "p" else pruned * np.exp(WIDE.sum(1, keepdims=True) / pruned.sum(1, keepdims=True))


def scored(formula, fitted=None, features=FEATURES, logits=LOGITS, **options):
    return np.asarray(jax.jit(jax.vmap(lambda z, h: formula(z, h, fitted, **options)))(logits, features))


@pytest.mark.parametrize("percentile", [20.0, 65.0, 90.0])
@pytest.mark.parametrize("variant", ["b", "p", "s"])
def test_ash_shapes_the_largest_features(variant, percentile):
    """65 of 37 features leaves 13: NumPy's rounding. 20 leaves 30, zeros among them: of these the first are kept."""
    np.testing.assert_allclose(scored(formulas.ash, HEAD, variant=variant, percentile=percentile), energies(shaped(variant, percentile)), rtol=2e-5, atol=1e-5)


def test_ash_is_openoods_with_its_default_and_prunes_nothing_at_0():
    np.testing.assert_allclose(scored(formulas.ash, HEAD, convention="openood"), energies(shaped("b", 90)), rtol=2e-5)
    np.testing.assert_allclose(scored(formulas.ash, HEAD, variant="p", percentile=0), scored(formulas.energy), rtol=1e-5)


def test_scale_prunes_nothing():
    kept, _ = largest(WIDE, 85)
    factor = np.exp(WIDE.sum(1) / np.where(kept, WIDE, 0).sum(1))
    np.testing.assert_allclose(scored(formulas.scale, HEAD), energies(WIDE * factor[:, None]), rtol=2e-5)


def test_features_that_are_all_zero_leave_the_bias():
    nothing = np.zeros((1, D), np.float32)
    for formula, options in ((formulas.scale, {}), (formulas.ash, {"variant": "s"}), (formulas.ash, {"variant": "b"})):
        np.testing.assert_allclose(scored(formula, HEAD, nothing, LOGITS[:1], **options), [-logsumexp(BIAS)], rtol=1e-6)


def test_what_is_no_number_passes_for_no_answer():
    lost = FEATURES[:3].copy()
    lost[1, 4] = np.nan
    fitted = {
        "react": uncertainty.fit_react(*ARRAYS),
        "vra": uncertainty.fit_vra(*ARRAYS),
        "dice": uncertainty.fit_dice(*ARRAYS),
        "grad_norm": None,
        "scale": HEAD,
    }
    for name, state in fitted.items():
        np.testing.assert_array_equal(np.isnan(scored(getattr(formulas, name), state, lost, LOGITS[:3])), [False, True, False], name)
    for variant in "bps":
        np.testing.assert_array_equal(np.isnan(scored(formulas.ash, HEAD, lost, LOGITS[:3], variant=variant)), [False, True, False], variant)


def test_react_cuts_at_a_percentile_of_all_units_together():
    threshold = np.percentile(WIDE.ravel(), 80)
    fitted = uncertainty.fit_react(*ARRAYS, percentile=80)
    np.testing.assert_allclose(fitted.threshold, threshold, rtol=1e-6)
    np.testing.assert_allclose(scored(formulas.react, fitted), energies(np.minimum(WIDE, threshold)), rtol=2e-5)
    np.testing.assert_allclose(uncertainty.fit_react(*ARRAYS).threshold, np.percentile(WIDE, 90), rtol=1e-6)


def test_vra_clips_in_openood_and_silences_in_the_paper():
    low, high = np.percentile(WIDE.ravel(), [45, 90])
    fitted = uncertainty.fit_vra(*ARRAYS, low=45.0)
    assert low > 0
    np.testing.assert_allclose(scored(formulas.vra, fitted, convention="openood"), energies(WIDE.clip(low, high)), rtol=2e-5)
    np.testing.assert_allclose(scored(formulas.vra, fitted), energies(np.where(WIDE < low, 0, np.minimum(WIDE, high))), rtol=2e-5)


def test_vra_of_each_unit_is_that_of_the_authors():
    low, high = np.percentile(WIDE, [30, 80], axis=0)
    fitted = uncertainty.fit_vra(*ARRAYS, low=30.0, high=80.0, units="each")
    np.testing.assert_allclose(scored(formulas.vra, fitted), energies(np.where(WIDE < low, 0, np.minimum(WIDE, high))), rtol=2e-5)


def test_dice_masks_by_the_signed_contribution():
    contribution = WIDE.mean(0)[:, None] * WEIGHTS
    kept = contribution > np.percentile(contribution, 70)
    assert (kept != (np.abs(contribution) > np.percentile(np.abs(contribution), 70))).any()
    fitted = uncertainty.fit_dice(*ARRAYS, percentile=70)
    assert ((np.asarray(fitted.head.weights) != 0) == kept).all()
    np.testing.assert_allclose(scored(formulas.dice, fitted), energies(WIDE, WEIGHTS * kept), rtol=2e-5, atol=1e-5)


def test_grad_norm_is_the_norm_of_the_gradient_of_the_divergence():
    """The gradient by JAX, of the divergence that is written out."""

    def divergence(weights, h):
        return -(jax.nn.log_softmax(h @ weights + BIAS) / K).sum() - jnp.log(K)

    gradients = jax.vmap(jax.grad(divergence), (None, 0))(WEIGHTS, FEATURES)
    np.testing.assert_allclose(scored(formulas.grad_norm), -np.abs(gradients).sum((1, 2)), rtol=1e-4)
    ones = np.abs(K * softmax(LOGITS) - 1).sum(1) * np.abs(WIDE).sum(1)
    np.testing.assert_allclose(scored(formulas.grad_norm, convention="openood"), -ones, rtol=1e-5)


@pytest.mark.parametrize("maps", ["few", "many"])
def test_rank_feat_takes_the_first_singular_component_away(maps):
    """By a singular value decomposition; with fewer positions than channels and with more."""
    a = np.maximum(np.random.default_rng(2).normal(0.2, 1, (8, 4, 5, D) if maps == "few" else (8, 7, 8, D)), 0).astype(np.float32)
    a[..., 3] = 0  # a dead channel
    expected = []
    for each in a.reshape(8, -1, D).astype(np.float64):
        u, s, v = np.linalg.svd(each, full_matrices=False)
        expected.append(energies((each - s[0] * np.outer(u[:, 0], v[0])).mean(0)))
    np.testing.assert_allclose(scored(formulas.rank_feat, HEAD, a, LOGITS[:8]), expected, rtol=2e-4, atol=1e-4)
    slope = jax.grad(lambda h: formulas.rank_feat(LOGITS[0], h, HEAD))(jnp.asarray(a[0]))
    assert np.isfinite(slope).all() and (np.asarray(slope) != 0).any()


def test_rank_feat_of_an_empty_map_is_that_of_the_bias():
    np.testing.assert_allclose(formulas.rank_feat(LOGITS[0], np.zeros((2, 2, D), np.float32), HEAD), -logsumexp(BIAS), rtol=1e-6)


def test_of_components_that_are_equally_strong_each_is_weakened_alike():
    """A hundred-thousandth of their squares is enough to tell them apart."""
    for strengths, left in (([2, 2, 1, 0.5, 0], [1, 1, 1, 0.5, 0]), ([2, 2 - 1e-5, 0, 0, 0], [0, 2 - 1e-5, 0, 0, 0])):
        a, truth = (np.eye(5, 7, dtype=np.float32) * np.float32(v)[:, None] for v in (strengths, left))
        np.testing.assert_allclose(without_first(jnp.asarray(a)), truth, atol=1e-3)
        np.testing.assert_allclose(without_first(jnp.asarray(a.T)), truth.T, atol=1e-3)
        for size in np.float32([1e-30, 1e30]):  # whose squares float32 does not hold
            np.testing.assert_allclose(without_first(jnp.asarray(size * a)) / size, truth, atol=1e-3)


def test_what_was_fitted_is_asked_for_and_has_to_fit():
    react = uncertainty.fit_react(*ARRAYS)
    for call, message in (
        (lambda: formulas.react(LOGITS[0], FEATURES[0]), "fitted must be a React, made by fit_react.* got None"),
        (lambda: formulas.ash(LOGITS[0], FEATURES[0], react), "fitted must be a Head, made by linear_head.* got a React"),
        (lambda: formulas.vra(LOGITS[0], FEATURES[0], react), "fitted must be a Vra"),
        (lambda: formulas.dice(LOGITS[0], FEATURES[0], HEAD), "fitted must be a Dice"),
        (lambda: formulas.react(LOGITS[0], FEATURES[0, 1:], react), "features must have D = 37 entries"),
        (lambda: formulas.scale(LOGITS[0], np.full(D, np.nan, np.float32), HEAD), "features must be finite"),
        (lambda: formulas.rank_feat(LOGITS[0], FEATURES[0], HEAD), r"features must be a map \[…, 37\]"),
        (lambda: uncertainty.fit_react(FEATURES, LOGITS, LABELS), "head must be a Head, which fit_react reads.* got NoneType"),
        (lambda: uncertainty.fit_dice(FEATURES[:, :9], LOGITS, LABELS, HEAD), "head must map the 9 features to the 5 logits"),
        (lambda: uncertainty.fit_vra(FEATURES[:7], LOGITS, LABELS, HEAD), "features and logits and labels must be of the same examples, got lengths 7, 60, 60"),
        (lambda: jax.jit(lambda h: uncertainty.fit_react(h, LOGITS, LABELS, HEAD))(FEATURES), "features must be concrete"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_bad_options_are_named():
    for call, message in (
        (lambda: formulas.ash(LOGITS[0], FEATURES[0], HEAD, percentile=99.5), "percentile=99.5 must lie in .* leave one of the 37 features"),
        (lambda: formulas.scale(LOGITS[0], FEATURES[0], HEAD, percentile=-1), "percentile=-1 must lie in"),
        (lambda: formulas.ash(LOGITS[0], FEATURES[0], HEAD, variant="q"), "variant='q' must be one of 'b', 'p', 's'"),
        (lambda: uncertainty.fit_react(*ARRAYS, percentile=101), r"percentile=101 must lie in \[0, 100\]"),
        (lambda: uncertainty.fit_vra(*ARRAYS, low=95.0), "low=95.0 must be at most high=90.0"),
        (lambda: uncertainty.fit_vra(*ARRAYS, units="one"), "units='one' must be one of 'together', 'each'"),
        (lambda: formulas.grad_norm(LOGITS[0], FEATURES[0], convention="x"), "convention='x' must be one of"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
