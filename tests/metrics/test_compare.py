"""Comparisons of two maps against SciPy, scikit-image and closed forms."""

import functools
import math

import jax
import numpy as np
import pytest
from scipy import stats
from skimage.metrics import structural_similarity

from jxai.metrics import compare
from jxai.metrics.compare import kendall, pearson, spearman, ssim, top_k_overlap
from jxai.metrics.documented import direction

pytestmark = pytest.mark.usefixtures("quick_compilation")

COMPARISONS = [getattr(compare, name) for name in compare.__all__]
RNG = np.random.default_rng(0)
A = RNG.normal(size=(13, 14, 3)).astype(np.float32)
B = (A + RNG.normal(size=A.shape)).astype(np.float32)


@functools.lru_cache(None, typed=True)  # 1 is one entry, 1.0 all of them
def compiled(fn, **options):
    return jax.jit(functools.partial(fn, **options))


@pytest.mark.parametrize("a, b", [(A, B), (np.round(A), np.round(B)), (A, np.abs(B) > 1), (-A, B), (A * 1e-25, B * 1e25)])
@pytest.mark.parametrize("fn, oracle", [(pearson, stats.pearsonr), (spearman, stats.spearmanr), (kendall, stats.kendalltau)])
def test_correlations_agree_with_scipy_with_ties_and_without(fn, oracle, a, b):
    a, b = np.float32(a), np.float32(b)
    expected = oracle(a.ravel().astype(np.float64), b.ravel().astype(np.float64)).statistic
    assert np.isclose(compiled(fn)(a, b), expected, atol=2e-6)


@pytest.mark.parametrize("n", [2, 5, 8, 33, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 4, 9, 31))])
def test_kendall_counts_every_pair(n):
    """Also where n is no power of two, by the definition."""
    a, b = RNG.integers(0, 6, (2, n)).astype(np.float32)
    s, t = (np.sign(v[:, None] - v) for v in (a, b))
    spread = np.sqrt((s**2).sum() * (t**2).sum())
    assert np.isclose(compiled(kendall)(a, b), (s * t).sum() / spread if spread else 0, atol=1e-6)


def test_kendall_of_many_entries_does_not_overflow():
    """150 528 entries make 1.1e10 pairs."""
    a = np.arange(150_528, dtype=np.float32)
    b = np.where(a < 75_264, a, -a)
    # The pairs within the second half, and those across, are reversed.
    assert np.isclose(compiled(kendall)(a, b), 2 * (75_264 * 75_263 / 2) / (150_528 * 150_527 / 2) - 1, atol=1e-6)


@pytest.mark.parametrize(
    "window, shape",
    [
        ("gaussian", A.shape),
        ("gaussian", (40,)),
        ("uniform", (12, 11, 13, 2)),
        *(pytest.param("gaussian", shape, marks=pytest.mark.slow) for shape in [(13, 14, 1), (12, 11, 13, 2), (20, 3)]),
        *(pytest.param("uniform", shape, marks=pytest.mark.slow) for shape in [A.shape, (13, 14, 1), (40,), (20, 3)]),
    ],
)
def test_ssim_agrees_with_scikit_image(window, shape):
    theirs = dict(gaussian_weights=True, use_sample_covariance=False) if window == "gaussian" else {}
    options = {} if window == "gaussian" else {"window": window}
    a = RNG.normal(size=shape).astype(np.float32)
    b = (a + 0.5 * RNG.normal(size=shape)).astype(np.float32)
    span = max(a.max(), b.max()) - min(a.min(), b.min())
    for data_range in (None, 2.5):
        # Signed maps are compared as pictures, measured from the lowest value of both.
        expected = structural_similarity(
            *(m - min(a.min(), b.min()) for m in (a, b)), data_range=data_range or span, channel_axis=-1 if a.ndim > 1 else None, **theirs
        )
        assert np.isclose(compiled(ssim, data_range=data_range, **options)(a, b), expected, atol=1e-5)


def test_a_map_is_unlike_its_negative():
    for a in (A, np.float32(RNG.normal(size=(12, 12, 1))), np.float32(RNG.normal(size=(8, 8, 1)))):
        assert compiled(ssim)(a, -a) < 0 and np.isclose(compiled(ssim)(a, a), 1) and np.isclose(compiled(ssim)(-a, -a), 1)


def test_ssim_of_another_window():
    low = min(A.min(), B.min())
    wide = structural_similarity(A - low, B - low, data_range=3, channel_axis=-1, gaussian_weights=True, sigma=0.7, win_size=5, use_sample_covariance=False)
    assert np.isclose(compiled(ssim, size=5, sigma=0.7, data_range=3.0)(A, B), wide, atol=1e-5)
    five = structural_similarity(A - low, B - low, data_range=3, channel_axis=-1, win_size=5)
    assert np.isclose(compiled(ssim, window="uniform", size=5, data_range=3.0)(A, B), five, atol=1e-5)


def test_ssim_shrinks_to_short_axes_and_to_a_single_position():
    """One position is one window of one entry: only the brightness is compared, here of 0 and 1 over a range of 1."""
    short = RNG.normal(size=(2, 4, 5, 1)).astype(np.float32)
    assert np.isclose(compiled(ssim)(short, short), 1)
    for window in compare.WINDOWS:
        assert np.isclose(compiled(ssim, window=window)(np.zeros((1, 1, 1), np.float32), np.ones((1, 1, 1), np.float32)), 1e-4 / (1 + 1e-4), rtol=1e-4)


def test_ssim_keeps_its_digits_at_any_scale_and_far_from_zero():
    for scale in (1e-25, 1e20):
        assert np.isclose(compiled(ssim)(A * np.float32(scale), B * np.float32(scale)), compiled(ssim)(A, B), atol=1e-5)
    a, b = A + 1000, B + 1000
    expected = structural_similarity(
        np.float64(a),
        np.float64(b),
        data_range=float(max(a.max(), b.max()) - min(a.min(), b.min())),
        channel_axis=-1,
        gaussian_weights=True,
        use_sample_covariance=False,
    )
    assert np.isclose(compiled(ssim)(a, b), expected, atol=1e-4)


@pytest.mark.parametrize("k", [1, 7, 0.1, 0.5, 1.0])
def test_top_k_overlap_counts_what_two_sets_share(k):
    count = k if isinstance(k, int) else round(k * A.size)
    top = [set(np.argsort(-m.ravel())[:count]) for m in (A, B)]
    assert np.isclose(compiled(top_k_overlap, k=k)(A, B), len(top[0] & top[1]) / count)


def test_top_k_overlap_shares_tied_places():
    a, b = np.float32([3, 2, 2, 2, 1]), np.float32([0, 5, 1, 1, 9])
    # Three places: entry 0 surely and ⅔ each of 1, 2, 3; in b surely 1 and 4, and ½ each of 2 and 3.
    three = compiled(top_k_overlap, k=3)
    assert np.isclose(three(a, b), (2 / 3 + 1 / 2 + 1 / 2) / 3) and np.isclose(three(b, a), three(a, b))
    zero = np.zeros(5, np.float32)
    assert three(a, a) == three(zero, zero + 1) == 1
    assert np.isclose(three(zero, np.arange(5, dtype=np.float32)), 3 / 5)


@pytest.mark.parametrize("fn", COMPARISONS)
def test_every_comparison_is_symmetric_one_on_itself_and_defined_on_constants(fn):
    assert direction(fn) == 0
    assert np.isclose(compiled(fn)(A, A), 1, atol=1e-6) and np.isclose(compiled(fn)(A, B), compiled(fn)(B, A), atol=1e-6)
    like = 1 if fn in (ssim, top_k_overlap) else 0
    for level in (0.0, 0.3):
        flat = np.full_like(A, level)
        value = compiled(fn)(flat, A)
        assert np.isfinite(value) and (value == 0 or like) and np.isclose(compiled(fn)(flat, flat), like, atol=1e-6)
    assert compiled(fn)(np.ones((1, 1, 1), np.float32), np.ones((1, 1, 1), np.float32)) == like
    assert compiled(fn)(A, B).dtype == compiled(fn)(A.astype(np.float16), B.astype(np.float16)).dtype == np.float32


@pytest.mark.parametrize("fn", COMPARISONS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_gives_nan(fn, bad):
    spoilt = A.copy()
    spoilt[3, 4, 1] = bad
    assert np.isnan(compiled(fn)(spoilt, B)) and np.isnan(compiled(fn)(B, spoilt))


@pytest.mark.parametrize("fn", COMPARISONS)
def test_unequal_and_integer_maps_are_refused(fn):
    with pytest.raises(ValueError, match=r"b must have the shape of a, \(13, 14, 3\)"):
        fn(A, B[..., :1])
    with pytest.raises(ValueError, match="b must be floating point, got int32"):
        fn(A, np.zeros(A.shape, np.int32))


@pytest.mark.parametrize(
    "fn, options, named",
    [
        (ssim, {"window": "hann"}, "window='hann' must be one of 'gaussian', 'uniform'"),
        (ssim, {"size": 4}, "size=4 must be odd"),
        (ssim, {"size": 15}, "size=15"),
        (ssim, {"sigma": 0.0}, "sigma=0.0"),
        (ssim, {"data_range": 0.0}, "data_range=0.0"),
        (top_k_overlap, {"k": 0}, "k=0"),
        (top_k_overlap, {"k": 547}, r"k=547 must be an integer in \[1, 546\]"),
        (top_k_overlap, {"k": 1.5}, "k=1.5"),
        (top_k_overlap, {"k": True}, "k=True"),
    ],
)
def test_bad_options_are_named(fn, options, named):
    with pytest.raises(ValueError, match=named):
        fn(A, B, **options)
