"""Inverse problems with generators: ridge regression, inpainting and sparse deviations in closed form; operators and their adjoints."""

import functools

import jax
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
A = Matrix(RNG.normal(size=(5, 6)).astype(np.float32))
G = Linear(np.asarray(orthonormal(6, 3)), np.full(6, 0.5, np.float32))
Y = RNG.normal(size=5).astype(np.float32)
X = np.full(6, 0.5, np.float32)
PLAIN = dict(optimizer=optax.sgd, learning_rate=0.01, steps=4000)
IMAGE = RNG.uniform(size=(9, 9, 2)).astype(np.float32)
OPERATORS = {
    "inpaint": Inpaint(RNG.uniform(size=(9, 9)) < 0.5),
    "blur": gaussian(1.0),
    "motion": Convolve(RNG.uniform(size=(3, 5)).astype(np.float32)),
    "tomography": ParallelBeam(np.float32([0.0, 30.0, 77.0, 90.0])),
    "matrix": Matrix(RNG.normal(size=(7, 162)).astype(np.float32)),
}


@functools.cache
def solver(options):
    return jax.jit(lambda a, y, g, x, weight, latent: generative_regularizer(a, y, g, x, weight=weight, latent=latent, **dict(options)))


def solved(a=A, y=Y, g=G, x=X, weight=1.0, latent=1.0, **options):
    """Compiled once for each form: problems and prices are data."""
    prices = np.asarray(weight, np.float32), np.asarray(latent, np.float32)
    return jax.tree.map(np.asarray, solver(tuple(sorted({**PLAIN, **options}.items(), key=lambda item: item[0])))(a, y, g, x, *prices))


def dense():
    matrix, basis = np.asarray(A.matrix, np.float64), np.asarray(G.basis, np.float64)
    return matrix, basis, np.asarray(Y, np.float64) - matrix @ np.full(6, 0.5)


@pytest.mark.parametrize("weight", [0.01, 1.0])
def test_the_hard_form_is_ridge_regression_in_the_code(weight):
    matrix, basis, y = dense()
    design = matrix @ basis
    z = np.linalg.solve(design.T @ design + weight * np.eye(3), design.T @ y)
    found = solved(weight=weight)
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
    found = solved(form="soft", weight=weight, latent=latent)
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
    found = solved(form="sparse", weight=weight, latent=latent)
    assert np.allclose(found.loss, expected.fun, rtol=1e-3)
    u, best = found.x - (basis @ found.latent + 0.5), expected.x[:6] - expected.x[6:12]
    assert np.allclose(u, best, atol=5e-3) and ((np.abs(u) < 1e-6) == (np.abs(best) < 1e-6)).all() and (np.abs(u) < 1e-6).any()
    alone, hard = solved(form="sparse", weight=100.0, latent=0.0), solved(weight=0.0)
    assert np.allclose(alone.x, hard.x, atol=1e-3)


def test_inpainting_recovers_an_image_of_the_generator():
    g = Linear(np.asarray(orthonormal(16, 4, 5)), np.full((4, 4, 1), 0.5, np.float32))
    truth = (g.basis @ np.float32([0.5, -0.3, 0.8, 0.1])).reshape(4, 4, 1) + np.float32(0.5)
    mask = Inpaint(RNG.permutation(16).reshape(4, 4) < 9)
    seen = np.asarray(jax.jit(mask.__call__)(truth))
    found = solved(mask, seen, g, seen, weight=0.0, learning_rate=0.4, steps=3000)
    assert np.allclose(found.x, truth, atol=1e-3) and found.misfit < 1e-6
    # What was not seen is not determined by the mask alone.
    assert not np.allclose(seen, truth, atol=0.1)


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_are_linear_and_have_their_adjoint(name):
    a, v = OPERATORS[name], RNG.normal(size=IMAGE.shape).astype(np.float32)
    y = RNG.normal(size=jax.eval_shape(a, v).shape).astype(np.float32)

    @jax.jit
    def all_of(a, u, v, y):
        return a(2 * u - 3 * v), a(u), a(v), adjoint(a, v)(y), jax.jacfwd(lambda u: a(u).ravel())(v), norm(a, v)

    both, of_image, of_v, back, whole, size = map(np.asarray, all_of(a, IMAGE, v, y))
    assert np.allclose(both, 2 * of_image - 3 * of_v, atol=1e-3)
    assert np.allclose((of_v * y).sum(), (v * back).sum(), rtol=1e-3, atol=1e-3)
    whole = whole.reshape(y.size, -1)
    assert np.allclose(whole.T @ y.ravel(), back.ravel(), atol=1e-3)
    top = np.linalg.norm(whole, 2)
    assert 0.97 * top < size <= top * (1 + 1e-4)


def test_blurs_are_those_of_scipy():
    x = IMAGE.astype(np.float64)
    motion, soft = jax.jit(lambda x: (OPERATORS["motion"](x), gaussian(1.0)(x)))(IMAGE)
    kernel = np.asarray(OPERATORS["motion"].kernel, np.float64)
    expected = np.stack([scipy.ndimage.convolve(x[..., c], kernel, mode="constant") for c in range(2)], -1)
    assert np.allclose(motion, expected, atol=1e-5)
    expected = np.stack([scipy.ndimage.gaussian_filter(x[..., c], 1.0, mode="constant", truncate=3.0) for c in range(2)], -1)
    assert np.allclose(soft, expected, atol=1e-4)


@pytest.mark.parametrize("side", [8, pytest.param(9, marks=pytest.mark.slow)])
def test_beams_are_those_of_scikit_image(side):
    transform = pytest.importorskip("skimage.transform")
    rows, columns = np.mgrid[:side, :side] - side // 2
    inside = rows**2 + columns**2 < (side // 2 - 1) ** 2
    x = np.where(inside, RNG.uniform(size=(side, side)), 0)
    angles = np.asarray([0.0, 20.0, 45.0, 90.0, 130.0])
    expected = transform.radon(x, theta=angles, circle=True)
    beam = jax.jit(lambda angles, x: ParallelBeam(angles)(x))
    assert np.allclose(np.asarray(beam(angles.astype(np.float32), x.astype(np.float32)[..., None]))[..., 0].T, expected, atol=1e-3)


def test_one_solver_serves_many_problems():
    ys = RNG.normal(size=(5, 5)).astype(np.float32)
    options = dict(form="sparse", weight=0.3, optimizer=optax.sgd, learning_rate=0.01, steps=200)
    one = jax.jit(lambda y: generative_regularizer(A, y, G, X, **options))
    found = run(regularized(generator=G, **options), A, np.broadcast_to(X, (5, 6)), None, per_example={"y": ys}, batch_size=2, block=30)
    assert np.allclose(found.x, [one(y).x for y in ys], atol=1e-4) and np.allclose(found.logits, found.x @ A.matrix.T, atol=1e-3)
    # An operator that makes images.
    g, blur = Linear(np.asarray(orthonormal(16, 4, 5)), np.full((4, 4, 1), 0.5, np.float32)), gaussian(0.5)
    images = RNG.uniform(size=(3, 4, 4, 1)).astype(np.float32)
    options = {**options, "form": "hard", "steps": 50}
    sharpen = jax.jit(jax.vmap(lambda x: (blur(x), generative_regularizer(blur, blur(x), g, x, **options).x)))
    seen, alone = map(np.asarray, sharpen(images))
    found = run(regularized(generator=g, **options), Raveled(blur), images, None, per_example={"y": seen})
    assert np.allclose(found.x, alone, atol=1e-4)
    assert solved(tolerance=1e-3).steps < 4000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"form": "firm"}, "form='firm'"),
        ({"weight": -1.0}, "weight=-1.0"),
        ({"latent": -1.0}, "latent=-1.0"),
        ({"tolerance": -1.0}, "tolerance=-1.0"),
        ({"steps": 0}, "steps=0"),
        ({"y": np.zeros(4, np.float32)}, r"but y has \(4,\)"),
        ({"x": np.zeros(5, np.float32)}, "does not take x of shape"),
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
        Convolve(np.ones((2, 3), np.float32))(IMAGE)
    with pytest.raises(ValueError, match="square image"):
        ParallelBeam(np.zeros(1, np.float32))(IMAGE[:5])
    with pytest.raises(ValueError, match="sigma=0"):
        gaussian(0)
    with pytest.raises(ValueError, match="needs y"):
        run(regularized(generator=G), A, X[None], None)
    with pytest.raises(ValueError, match="no target class"):
        run(regularized(generator=G), A, X[None], np.asarray([0]), per_example={"y": Y[None]})
