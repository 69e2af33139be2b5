"""Inverse problems with generators: ridge regression, inpainting and sparse deviations in closed form; operators and their adjoints."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.ndimage
import scipy.optimize
from latent_toys import Linear, linear_generator, orthonormal

from jxai.counterfactual import run
from jxai.counterfactual.inverse import generative_regularizer, regularized
from jxai.counterfactual.operators import Convolve, Inpaint, Matrix, ParallelBeam, Raveled, adjoint, gaussian, norm

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(3)
A = Matrix(jnp.asarray(RNG.normal(size=(5, 6)), jnp.float32))
G = Linear(orthonormal(6, 3), jnp.full(6, 0.5))
Y = jnp.asarray(RNG.normal(size=5), jnp.float32)
X = jnp.full(6, 0.5)
PLAIN = dict(optimizer=optax.sgd, learning_rate=0.01, steps=4000)
IMAGE = jnp.asarray(RNG.uniform(size=(9, 9, 2)), jnp.float32)
OPERATORS = {
    "inpaint": Inpaint(jnp.asarray(RNG.uniform(size=(9, 9)) < 0.5)),
    "blur": gaussian(1.0),
    "motion": Convolve(jnp.asarray(RNG.uniform(size=(3, 5)), jnp.float32)),
    "tomography": ParallelBeam(jnp.asarray([0.0, 30.0, 77.0, 90.0])),
    "matrix": Matrix(jnp.asarray(RNG.normal(size=(7, 162)), jnp.float32)),
}


def dense():
    matrix, basis = np.asarray(A.matrix, np.float64), np.asarray(G.basis, np.float64)
    return matrix, basis, np.asarray(Y, np.float64) - matrix @ np.full(6, 0.5)


@pytest.mark.parametrize("weight", [0.01, 1.0])
def test_the_hard_form_is_ridge_regression_in_the_code(weight):
    matrix, basis, y = dense()
    design = matrix @ basis
    z = np.linalg.solve(design.T @ design + weight * np.eye(3), design.T @ y)
    found = generative_regularizer(A, Y, G, X, weight=weight, **PLAIN)
    assert np.allclose(found.latent, z, atol=1e-4) and np.allclose(found.x, basis @ z + 0.5, atol=1e-4)
    misfit = ((design @ z - y) ** 2).sum()
    assert np.allclose([found.misfit, found.loss], [misfit, misfit + weight * (z**2).sum()], rtol=1e-3)


def test_the_soft_form_is_least_squares_in_example_and_code():
    matrix, basis, y = dense()
    weight, latent = 0.5, 0.2
    # Rows: the measurement, the distance to the generator, the size of the code; the unknowns are (x − mean, z).
    rows = [np.hstack([matrix, np.zeros((5, 3))]), np.sqrt(weight) * np.hstack([np.eye(6), -basis])]
    rows.append(np.sqrt(weight * latent) * np.hstack([np.zeros((3, 6)), np.eye(3)]))
    design, goal = np.vstack(rows), np.concatenate([y, np.zeros(9)])
    both = np.linalg.lstsq(design, goal, rcond=None)[0]
    found = generative_regularizer(A, Y, G, X, form="soft", weight=weight, latent=latent, **PLAIN)
    assert np.allclose(found.x, both[:6] + 0.5, atol=2e-3) and np.allclose(found.latent, both[6:], atol=2e-3)
    assert np.allclose(found.loss, ((design @ both - goal) ** 2).sum(), rtol=1e-3)


def test_the_sparse_form_reaches_the_optimum_that_a_solver_of_bounded_problems_finds():
    matrix, basis, y = dense()
    weight, latent = 0.8, 0.1

    def objective(v):
        u, z = v[:6] - v[6:12], v[12:]
        off = matrix @ (basis @ z + u) - y
        slope = 2 * matrix.T @ off
        value = off @ off + weight * (v[:12].sum() + latent * z @ z)
        return value, np.concatenate([slope + weight, weight - slope, basis.T @ slope + 2 * weight * latent * z])

    bounds = [(0, None)] * 12 + [(None, None)] * 3
    expected = scipy.optimize.minimize(objective, np.zeros(15), jac=True, bounds=bounds, options={"ftol": 1e-14, "gtol": 1e-10, "maxiter": 5000})
    found = generative_regularizer(A, Y, G, X, form="sparse", weight=weight, latent=latent, **PLAIN)
    assert np.allclose(found.loss, expected.fun, rtol=1e-3)
    u, best = np.asarray(found.x - G.decode(found.latent)), expected.x[:6] - expected.x[6:12]
    assert np.allclose(u, best, atol=5e-3) and ((np.abs(u) < 1e-6) == (np.abs(best) < 1e-6)).all() and (np.abs(u) < 1e-6).any()
    alone = generative_regularizer(A, Y, G, X, form="sparse", weight=100.0, latent=0.0, **PLAIN)
    hard = generative_regularizer(A, Y, G, X, weight=0.0, **PLAIN)
    assert np.allclose(alone.x, hard.x, atol=1e-3)


def test_inpainting_recovers_an_image_of_the_generator():
    g = Linear(orthonormal(16, 4, 5), jnp.full((4, 4, 1), 0.5))
    truth = g.decode(jnp.asarray([0.5, -0.3, 0.8, 0.1]))
    mask = Inpaint(jnp.asarray(RNG.permutation(16).reshape(4, 4) < 9))
    found = generative_regularizer(mask, mask(truth), g, mask(truth), weight=0.0, optimizer=optax.sgd, learning_rate=0.4, steps=3000)
    assert np.allclose(found.x, truth, atol=1e-3) and found.misfit < 1e-6
    # What was not seen is not determined by the mask alone.
    assert not np.allclose(mask(truth), truth, atol=0.1)


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_are_linear_and_have_their_adjoint(name):
    a, v = OPERATORS[name], jnp.asarray(RNG.normal(size=IMAGE.shape), jnp.float32)
    assert np.allclose(a(2 * IMAGE - 3 * v), 2 * a(IMAGE) - 3 * a(v), atol=1e-3)
    y = jnp.asarray(RNG.normal(size=a(v).shape), jnp.float32)
    assert np.allclose((a(v) * y).sum(), (v * adjoint(a, v)(y)).sum(), rtol=1e-3, atol=1e-3)
    whole = np.asarray(jax.jacobian(lambda u: a(u).ravel())(v)).reshape(y.size, -1)
    assert np.allclose(whole.T @ np.asarray(y).ravel(), adjoint(a, v)(y).ravel(), atol=1e-3)
    top = np.linalg.norm(whole, 2)
    assert 0.97 * top < norm(a, v) <= top * (1 + 1e-4)


def test_blurs_are_those_of_scipy():
    x = np.asarray(IMAGE, np.float64)
    kernel = np.asarray(OPERATORS["motion"].kernel, np.float64)
    expected = np.stack([scipy.ndimage.convolve(x[..., c], kernel, mode="constant") for c in range(2)], -1)
    assert np.allclose(OPERATORS["motion"](IMAGE), expected, atol=1e-5)
    expected = np.stack([scipy.ndimage.gaussian_filter(x[..., c], 1.0, mode="constant", truncate=3.0) for c in range(2)], -1)
    assert np.allclose(gaussian(1.0)(IMAGE), expected, atol=1e-4)


@pytest.mark.parametrize("side", [8, 9])
def test_beams_are_those_of_scikit_image(side):
    transform = pytest.importorskip("skimage.transform")
    rows, columns = np.mgrid[:side, :side] - side // 2
    inside = rows**2 + columns**2 < (side // 2 - 1) ** 2
    x = np.where(inside, RNG.uniform(size=(side, side)), 0)
    angles = np.asarray([0.0, 20.0, 45.0, 90.0, 130.0])
    expected = transform.radon(x, theta=angles, circle=True)
    assert np.allclose(ParallelBeam(jnp.asarray(angles))(jnp.asarray(x, jnp.float32)[..., None])[..., 0].T, expected, atol=1e-3)


def test_one_solver_serves_many_problems():
    ys = jnp.asarray(RNG.normal(size=(5, 5)), jnp.float32)
    options = dict(form="sparse", weight=0.3, optimizer=optax.sgd, learning_rate=0.01, steps=200)
    each = jax.vmap(lambda y: generative_regularizer(A, y, G, X, **options))(ys)
    found = run(regularized(generator=G, **options), A, jnp.broadcast_to(X, (5, 6)), None, per_example={"y": ys}, batch_size=2, block=30)
    one = generative_regularizer(A, ys[3], G, X, **options)
    assert np.allclose(found.x, each.x, atol=1e-4) and np.allclose(one.x, each.x[3], atol=1e-4) and np.allclose(found.logits, each.x @ A.matrix.T, atol=1e-3)
    # An operator that makes images.
    g, blur = Linear(orthonormal(16, 4, 5), jnp.full((4, 4, 1), 0.5)), gaussian(0.5)
    images = jnp.asarray(RNG.uniform(size=(3, 4, 4, 1)), jnp.float32)
    seen, options = jax.vmap(blur)(images), {**options, "form": "hard", "steps": 50}
    found = run(regularized(generator=g, **options), Raveled(blur), images, None, per_example={"y": seen})
    assert np.allclose(found.x, jax.vmap(lambda y, x: generative_regularizer(blur, y, g, x, **options).x)(seen, images), atol=1e-4)
    early = generative_regularizer(A, Y, G, X, tolerance=1e-3, **{**PLAIN, "steps": 3000})
    assert early.steps < 3000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"form": "firm"}, "form='firm'"),
        ({"weight": -1.0}, "weight=-1.0"),
        ({"latent": -1.0}, "latent=-1.0"),
        ({"tolerance": -1.0}, "tolerance=-1.0"),
        ({"steps": 0}, "steps=0"),
        ({"y": jnp.zeros(4)}, r"but y has \(4,\)"),
        ({"x": jnp.zeros(5)}, "does not take x of shape"),
        ({"generator": A}, "must have a method encode"),
        ({"generator": linear_generator(5)}, "does not take x of shape"),
    ],
)
def test_bad_input_is_named(change, message):
    given = {"operator": A, "y": Y, "generator": G, "x": X, **change}
    with pytest.raises(ValueError, match=message):
        generative_regularizer(**given)


def test_bad_operators_are_named():
    with pytest.raises(ValueError, match="odd sides"):
        Convolve(jnp.ones((2, 3)))(IMAGE)
    with pytest.raises(ValueError, match="square image"):
        ParallelBeam(jnp.zeros(1))(IMAGE[:5])
    with pytest.raises(ValueError, match="sigma=0"):
        gaussian(0)
    with pytest.raises(ValueError, match="needs y"):
        run(regularized(generator=G), A, X[None], None)
    with pytest.raises(ValueError, match="no target class"):
        run(regularized(generator=G), A, X[None], np.asarray([0]), per_example={"y": Y[None]})
