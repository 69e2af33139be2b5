"""Sobol indices against analytic ones and literal formulas; HSIC against the dense definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jxai import masks
from jxai.attribution.estimators import DESIGN_KERNELS, SOBOL_ESTIMATORS, hsic_of_binary, total_order
from jxai.attribution.sensitivity import hsic, sobol

ONES = np.ones(4, np.float32)


def ishigami(v):
    return jnp.sin(v[0]) + 7 * jnp.sin(v[1]) ** 2 + 0.1 * v[2] ** 4 * jnp.sin(v[0])


def ishigami_total_order():
    a, b = 7.0, 0.1
    v1, v2, v13 = 0.5 * (1 + b * np.pi**4 / 5) ** 2, a**2 / 8, b**2 * np.pi**8 * (1 / 18 - 1 / 50)
    return np.array([v1 + v13, v2, v13]) / (v1 + v2 + v13)


@pytest.mark.parametrize("sampler", [one if one in ("sobol", "monte_carlo") else pytest.param(one, marks=pytest.mark.slow) for one in masks.SAMPLERS])
def test_ishigami(sampler):
    """The mask m in [0, 1] becomes the input `π m − π (1 − m)`, uniform in [−π, π]."""

    def run(estimator):
        options = {"num_designs": 4096, "fill": -np.pi, "estimator": estimator, "sampler": sampler, "chunk": 4096}
        return sobol(ishigami, jnp.full(3, np.pi), None, jax.random.key(0), **options)

    got = jax.jit(lambda: jnp.stack([run(estimator) for estimator in SOBOL_ESTIMATORS]))()
    random = sampler in ("monte_carlo", "latin_hypercube")  # the other three fill pairs of columns evenly
    np.testing.assert_allclose(got, np.tile(ishigami_total_order(), (5, 1)), atol=0.1 if random else 0.015)


@pytest.mark.parametrize("estimator", SOBOL_ESTIMATORS)
def test_an_additive_score_shares_the_variance_by_squared_weights(estimator):
    w = np.float32([3, -2, 1, 0])
    got = np.asarray(jax.jit(lambda x: sobol(lambda v: v @ w, x, None, num_designs=2048, estimator=estimator, chunk=2048))(ONES))
    np.testing.assert_allclose(got, w**2 / np.sum(w**2), atol=0.02)
    np.testing.assert_allclose(got[3], 0, atol=1e-5 if estimator in ("jansen", "janon", "glen") else 0.02)


def test_estimators_are_their_formulas():
    rng = np.random.default_rng(0)
    a, c = rng.normal(2, 1, 50), rng.normal(2, 1, (4, 50))
    c[0] = a + 0.1 * c[0]
    n, f0, v = 50, a.mean(), a.var(ddof=1)
    m = ((a + c) / 2).mean(1)
    truth = {
        "jansen": ((a - c) ** 2).sum(1) / (2 * n * v),
        "homma": (v - (a * c).mean(1) + f0**2) / v,
        "saltelli": 1 - ((a * c).mean(1) - f0**2) / v,
        "janon": 1 - ((a * c).mean(1) - m**2) / (((a**2 + c**2) / 2).mean(1) - m**2),
        "glen": [1 - np.corrcoef(a, row)[0, 1] for row in c],
    }
    for name in SOBOL_ESTIMATORS:
        got = jax.jit(total_order, static_argnums=2)(np.float32(a), np.float32(c), name)
        np.testing.assert_allclose(got, truth[name], atol=1e-5, err_msg=name)


def test_a_constant_score_gives_zero_and_a_large_mean_costs_no_digits():
    x, w = np.ones((4, 4, 1), np.float32), np.float32([1, 2])

    @jax.jit
    def run(c):
        flat = lambda estimator: sobol(lambda v: c + 0 * v.sum(), x, None, grid=2, num_designs=8, estimator=estimator)
        shifted = lambda estimator: sobol(lambda v: v @ w + c, x[0, :2, 0], None, num_designs=64, estimator=estimator)
        return {estimator: (flat(estimator), shifted(estimator)) for estimator in SOBOL_ESTIMATORS}

    small, none, large = run(0.1), run(0.0), run(1024.0)
    for estimator in SOBOL_ESTIMATORS:
        np.testing.assert_array_equal(small[estimator][0], np.zeros((4, 4, 1)))
        if estimator in ("jansen", "janon", "glen"):
            np.testing.assert_allclose(none[estimator][1], large[estimator][1], atol=1e-3)
    nowhere = jax.jit(lambda target: sobol(lambda v: v, x[0, :2, 0], target))(7)
    assert np.isnan(nowhere).all()  # a class out of range is never a map of zeros


def test_cells_of_an_image_are_the_entries_of_a_vector():
    w = np.float32([[1, -2, 0.5], [0.3, 1.5, -1]])
    x = np.float32(np.random.default_rng(1).uniform(0.5, 1, (4, 6, 2)))

    def cells(v):
        return v.reshape(2, 2, 3, 2, 2).sum((1, 3, 4)) / x.reshape(2, 2, 3, 2, 2).sum((1, 3, 4))

    def f(u):
        return jnp.sin(jnp.sum(w * u)) + u[0, 0] * u[1, 2]

    def run(**options):
        return np.asarray(jax.jit(lambda x: sobol(lambda v: f(cells(v)), x, None, num_designs=16, **options))(x))

    vector = np.asarray(jax.jit(lambda x: sobol(lambda u: f(u.reshape(2, 3)), x, None, num_designs=16))(np.ones(6, np.float32)))
    image = run(grid=(2, 3), upsampling="nearest")
    np.testing.assert_allclose(image[::2, ::2, 0].ravel(), vector, atol=1e-4)
    np.testing.assert_allclose(image, np.kron(vector.reshape(2, 3), np.ones((2, 2)))[..., None], atol=1e-4)
    labels = run(segments=masks.regular((4, 6), (2, 3)))
    np.testing.assert_allclose(labels, image, atol=1e-5)
    smooth = run(grid=(2, 3))
    np.testing.assert_allclose(smooth[..., 0], jax.jit(lambda v: masks.upsample(v, (4, 6), "bicubic"))(vector.reshape(2, 3)), atol=1e-4)


def test_bilinear_masks_are_the_design_interpolated():
    seen = []

    def f(v):
        jax.debug.callback(lambda u: seen.append(np.asarray(u)), v[..., 0])
        return v.sum()

    jax.jit(lambda x: sobol(f, x, None, grid=2, num_designs=2, interpolation="bilinear", chunk=1))(np.ones((4, 6, 1), np.float32)).block_until_ready()
    jax.effects_barrier()
    a = jax.jit(lambda: masks.design("sobol", 2, 8)[:, :4].reshape(2, 2, 2))()
    for truth in np.asarray(jax.jit(jax.vmap(lambda row: masks.upsample(row, (4, 6), "bilinear")))(a)):
        assert min(np.abs(truth - u).max() for u in seen) < 1e-6


def test_passes_and_targets_share_them():
    seen = []

    def f(x):
        jax.debug.callback(lambda _: seen.append(1), x)
        return jnp.stack([x.sum(), (x**2).sum(), x[0, 0, 0]])

    x, targets = np.float32(np.random.default_rng(2).uniform(size=(4, 4, 2))), np.arange(3)
    jax.jit(jax.vmap(lambda t: sobol(f, x, t, grid=2, num_designs=4, chunk=1)))(targets).block_until_ready()
    jax.effects_barrier()
    assert len(seen) == 4 * (2 * 2 + 1)
    seen.clear()
    jax.jit(jax.vmap(lambda t: hsic(f, x, t, jax.random.key(0), grid=2, num_designs=9, chunk=1)))(targets).block_until_ready()
    jax.effects_barrier()
    assert len(seen) == 9


def dense_hsic(z, y, kernel, width):
    """`1/N Σ (H K' H) ⊙ (H L H)ᵀ` with `K' = 1 + K`, every matrix written out, in float64."""
    n = len(y)
    kernels = {
        "dirac": lambda a, b: 0.5 - (a - b) ** 2,
        "rbf": lambda a, b: np.exp(-((a - b) ** 2) / (2 * 0.5**2)),
        "sobolev": lambda a, b: (a - 0.5) * (b - 0.5) + (np.abs(a - b) ** 2 - np.abs(a - b) + 1 / 6) / 2,
    }
    h = np.eye(n) - np.ones((n, n)) / n
    gram = np.exp(-((y[:, None] - y) ** 2) / (2 * width**2))
    return [((h @ (1 + kernels[kernel](c[:, None], c)) @ h) * (h @ gram @ h).T).sum() / n for c in z.T]


@pytest.mark.parametrize("kernel", DESIGN_KERNELS)
@pytest.mark.parametrize("width", [None, 0.7])
def test_hsic_is_the_dense_definition(kernel, width):
    z = np.float32(np.random.default_rng(3).random((61, 5)) >= 0.5)
    y = z @ np.float32([1.0, -2.0, 0.5, 0.0, 0.0]) + 3 + z[:, 3] * z[:, 4]
    truth = dense_hsic(np.asarray(z, np.float64), np.asarray(y, np.float64), kernel, np.median(y) if width is None else width)
    got = jax.jit(lambda z, y: hsic_of_binary(z, y, kernel, width, chunk=7))(z, y)
    np.testing.assert_allclose(got, truth, rtol=2e-4, atol=1e-5)


def test_hsic_of_an_image_uses_rounded_sobol_points():
    x, w = np.ones((4, 4, 1), np.float32), np.float32([[2, 0], [-1, 0.5]])

    def f(v):
        return 5 + jnp.sum(w * v.reshape(2, 2, 2, 2).mean((1, 3)))

    got = jax.jit(lambda x: hsic(f, x, None, grid=2, num_designs=64, sampler="sobol", upsampling="nearest"))(x)
    z = (np.asarray(jax.jit(lambda: masks.design("sobol", 64, 4))()) >= 0.5).astype(np.float64)
    y = 5 + z @ np.asarray(w, np.float64).ravel()
    truth = np.reshape(dense_hsic(z, y, "dirac", np.median(y)), (2, 2))
    np.testing.assert_allclose(np.asarray(got)[::2, ::2, 0], truth, rtol=1e-3, atol=1e-5)


def test_hsic_finds_what_the_score_depends_on():
    """The parity of two cells is dependent on neither alone; a cell that the score ignores gets next to nothing."""

    def f(v):
        return 3 + 2 * v[0] + v[1] + v[2] * v[3]

    def run(g, d, seed):
        return np.asarray(jax.jit(lambda key: hsic(g, jnp.ones(d), None, key, num_designs=512, chunk=512))(jax.random.key(seed)))

    got = run(f, 6, 4)
    assert got[0] > got[1] > got[2:4].max() > got[2:4].min() > 10 * got[4:].max()
    parity = run(lambda v: 1 + (v[0] - v[1]) ** 2, 3, 5)
    assert parity.max() < 0.1 * got[0]
    np.testing.assert_allclose(run(lambda v: 0 * v.sum(), 3, 6), 0, atol=1e-6)


@pytest.mark.parametrize(
    "method, options, words",
    [
        (sobol, {"estimator": "sobol"}, "estimator='sobol'.*'jansen'"),
        (sobol, {"sampler": "lhs"}, "sampler='lhs'"),
        (sobol, {"sampler": "halton"}, "key=None"),
        (sobol, {"num_designs": 1}, "num_designs=1"),
        (sobol, {"grid": 9}, "grid=9"),
        (sobol, {"interpolation": "bicubic"}, "interpolation='bicubic'"),
        (sobol, {"upsampling": "cubic"}, "upsampling='cubic'"),
        (sobol, {"segments": np.zeros((8, 8), int), "interpolation": "bilinear"}, "interpolation='bilinear'"),
        (hsic, {}, "key=None"),
        (hsic, {"kernel": "linear"}, "kernel='linear'"),
        (hsic, {"width": 0.0}, "width=0.0"),
        (hsic, {"num_designs": 1}, "num_designs=1"),
    ],
)
def test_bad_options(method, options, words):
    with pytest.raises(ValueError, match=words):
        method(lambda x: x.sum((0, 1)), np.ones((8, 8, 3), np.float32), 0, **options)
