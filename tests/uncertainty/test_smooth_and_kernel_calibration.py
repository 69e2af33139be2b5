"""The smooth calibration error against the exact integral, the kernel calibration error against scipy's densities."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.stats

from jxai.uncertainty import calibration as c

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
F = np.concatenate([RNG.beta(5, 1, 80), [0.0, 1.0, 1.0, 0.5]]).astype(np.float32)
Y = np.float64(RNG.uniform(size=len(F)) < F**1.5)
P = scipy.stats.dirichlet([1.2, 0.7, 0.9]).rvs(24, random_state=1).astype(np.float32)
LABELS = RNG.integers(0, 3, 24)
SMOOTH = jax.jit(c.smooth_calibration_error)


def integral(f, y, width):
    """∫ |Σ (y − f) K| / n, from sign change to sign change, of which each piece is integrated in closed form by normal distributions."""
    f, residual = np.float64(f), (np.float64(y) - np.float64(f)) / len(f)
    images = np.concatenate([sign * f + 2 * k for k in range(-3, 4) for sign in (1, -1)])
    weights = np.tile(residual, 14)
    height = lambda t: scipy.stats.norm.pdf(np.subtract.outer(t, images), scale=width) @ weights
    area = lambda t: scipy.stats.norm.cdf(t - images, scale=width) @ weights
    t = np.linspace(0, 1, 2001)
    h = height(t)
    crossings = [scipy.optimize.brentq(lambda s: float(height(np.array([s]))[0]), a, b) for a, b, u, v in zip(t, t[1:], h, h[1:]) if u * v < 0]
    return np.abs(np.diff([area(s) for s in (0.0, *crossings, 1.0)])).sum()


@pytest.mark.parametrize("width", [0.02, 0.1, 0.7])
def test_smooth_error_is_the_exact_integral(width):
    """relplot's mesh is 1 to 2 % high; here the grid costs a thousandth."""
    np.testing.assert_allclose(SMOOTH(F, Y, width=width), integral(F, Y, width), rtol=1e-3)


def test_smooth_error_is_the_width_at_which_it_is_the_width():
    truth = scipy.optimize.brentq(lambda width: integral(F, Y, width) - width, 0.01, 0.5, xtol=1e-5)
    value = SMOOTH(F, Y)
    np.testing.assert_allclose(value, truth, rtol=1e-3)
    np.testing.assert_allclose(SMOOTH(F, Y, width=float(value)), value, rtol=1e-4)
    np.testing.assert_allclose(c.smooth_calibration_error(F, Y.astype(bool)), value, rtol=1e-5)


def test_smooth_errors_that_are_known():
    np.testing.assert_allclose(SMOOTH(F, F), 0, atol=1e-6)
    np.testing.assert_allclose(SMOOTH(np.full(len(F), 0.9, np.float32), np.zeros(len(F))), 0.9, rtol=1e-4)
    # Wide kernels see the means alone.
    np.testing.assert_allclose(SMOOTH(F, Y, width=20.0), abs(F.mean() - Y.mean()), rtol=1e-4)


def test_smooth_error_has_the_fixed_points_derivative():
    """Residuals that alternate along the way: a wider kernel cancels them, and the width moves with the confidences."""
    f, y = np.repeat(np.float32([0.5, 0.62, 0.74, 0.86]), 10), np.repeat([1.0, 0.0, 1.0, 0.0], 10)
    way = np.cos(9 * f).astype(np.float32)
    call = jax.jit(jax.value_and_grad(c.smooth_calibration_error))
    ends = [call((f + s * way).astype(np.float32), y)[0] for s in (2e-3, -2e-3)]
    np.testing.assert_allclose(call(f, y)[1] @ way, (ends[0] - ends[1]) / 4e-3, rtol=0.03)


def regressed(p, y, density):
    """Leave-one-out kernel regression `[n, M]`, and the log-density of each prediction under the others'."""
    n = len(p)
    kernel = np.array([[0 if i == j else density(p[j], p[i]) for i in range(n)] for j in range(n)])
    return kernel @ y / kernel.sum(1, keepdims=True), np.log(kernel.sum(1) / (n - 1))


def dirichlet(h):
    return lambda at, centre: scipy.stats.dirichlet(np.float64(centre) / h + 1).pdf(np.float64(at) / np.float64(at).sum())


def beta(h):
    return lambda at, centre: scipy.stats.beta(np.float64(centre) / h + 1, (1 - np.float64(centre)) / h + 1).pdf(np.float64(at))


@pytest.mark.parametrize("h, norm", [(0.05, 1), (0.3, 2)])
def test_kernel_errors_are_their_formulas(h, norm):
    call = jax.jit(c.kernel_calibration_error, static_argnames=("kind", "norm"))
    onehot = np.eye(3)[LABELS]
    canonical = (np.abs(regressed(P, onehot, dirichlet(h))[0] - P) ** norm).sum(1).mean()
    np.testing.assert_allclose(call(P, LABELS, bandwidth=h, norm=norm, kind="canonical"), canonical, rtol=1e-4)
    of = lambda p, y: (np.abs(regressed(p, y[:, None], beta(h))[0][:, 0] - p) ** norm).mean()
    # The sum over classes; of the top label neither this nor that is doubled, as ece-kde doubles a single column.
    np.testing.assert_allclose(call(P, LABELS, bandwidth=h, norm=norm, kind="classwise"), sum(of(P[:, k], onehot[:, k]) for k in range(3)), rtol=1e-4)
    np.testing.assert_allclose(call(P, LABELS, bandwidth=h, norm=norm, kind="top_label"), of(P.max(1), 1.0 * (P.argmax(1) == LABELS)), rtol=1e-4)


def test_the_bandwidth_is_the_likeliest_even_where_all_likelihoods_are_below_1():
    """ece-kde keeps −1 there."""
    flat = np.concatenate([P[:12], np.float32([[0.001, 0.001, 0.998], [0.998, 0.001, 0.001]] * 6)])
    logs = [regressed(flat, np.zeros((24, 1)), dirichlet(h))[1].sum() for h in c.BANDWIDTHS if h > 3e-3]
    np.testing.assert_allclose(c.kernel_bandwidth(flat[:, :]), [h for h in c.BANDWIDTHS if h > 3e-3][int(np.argmax(logs))], rtol=1e-5)
    spread = np.float32([[0.99, 0.01], [0.01, 0.99]])  # each is unlikely where the other is
    assert regressed(spread, np.zeros((2, 1)), dirichlet(0.2))[1].max() < 0
    assert 0 < float(c.kernel_bandwidth(spread)) <= 1
    assert np.isfinite(c.kernel_calibration_error(spread, np.array([0, 1])))


def test_kernel_errors_are_finite_where_probabilities_are_0_and_have_derivatives():
    p = np.float32([[1, 0, 0], [0, 1, 0], [0.5, 0.5, 0], [0.2, 0.3, 0.5]])
    y = np.array([0, 1, 1, 2])
    value, slope = jax.jit(jax.value_and_grad(lambda p: c.kernel_calibration_error(p, y, bandwidth=0.01, norm=2)))(p)
    assert np.isfinite(value) and np.isfinite(slope).all()
    assert value < jax.jit(lambda: c.kernel_calibration_error(p, np.array([2, 2, 0, 1]), bandwidth=0.01, norm=2))()


def test_narrow_kernels_lose_no_digits():
    """Log-gammas of a hundred thousand would."""
    h = 1e-4
    p = np.float32([[0.5, 0.5], [0.501, 0.499], [0.503, 0.497], [0.498, 0.502]])
    y = np.array([0, 1, 0, 1])
    truth = np.abs(regressed(p[:, 1], (y == 1)[:, None], beta(h))[0][:, 0] - np.float64(p[:, 1])).mean() * 2
    np.testing.assert_allclose(c.kernel_calibration_error(p, y, bandwidth=h), truth, rtol=1e-3)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: c.kernel_calibration_error(P, LABELS, bandwidth=0), "bandwidth=0 must be"),
        (lambda: c.kernel_calibration_error(P[:1], LABELS[:1], bandwidth=0.1), "two examples or more"),
        (lambda: c.kernel_calibration_error(P, LABELS, kind="marginal"), "kind='marginal' must be one of"),
        (lambda: c.kernel_bandwidth(P[:, :1] / P[:, :1]), "two classes or more"),
        (lambda: c.kernel_calibration_error(P, LABELS, bandwidth=np.asarray(-0.1)), "bandwidth=.* must be"),
        (lambda: c.smooth_calibration_error(F, Y, width=0.0), "width=0.0 must be"),
        (lambda: c.smooth_calibration_error(F, Y, width=np.asarray(-1.0)), "width=.* must be"),  # whose square is that of 1
        (lambda: c.smooth_calibration_error(F, Y, width=np.inf), "width=inf must be"),
        (lambda: c.smooth_calibration_error(F, Y[:-1]), "of the same examples"),
        (lambda: c.smooth_calibration_error(jnp.full(3, jnp.nan), np.ones(3)), "confidence must lie in"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
