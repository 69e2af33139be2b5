"""Searches in a generator's coordinates: what the geometry of the generator says that they do, and bad inputs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
from jax.tree_util import Partial
from latent_toys import Cubic, Linear, each_alone, linear_generator, linear_model, orthonormal

from jxai.counterfactual import diffeomorphic, latent_path, revise, run
from jxai.counterfactual.search.constraints import Near

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(1)
X = RNG.uniform(0.3, 0.7, 6).astype(np.float32)
F = linear_model()
W, BIAS = np.asarray(F.weights), np.asarray(F.bias)


def said(v):
    """F in NumPy."""
    return np.asarray(v) @ W.T + BIAS


TARGET = int(np.argsort(said(X))[0])


def slope(v):
    """The gradient of the target's log-probability."""
    return W[TARGET] - scipy.special.softmax(said(v)) @ W


def found_by(method, f=F, x=X, target=TARGET, **options):
    """The method, compiled whole."""
    return jax.tree.map(np.asarray, jax.jit(lambda f, x: method(f, x, target, **options))(f, x))


@pytest.mark.parametrize("steps", [pytest.param(1, marks=pytest.mark.slow), 5])
def test_with_orthonormal_coordinates_latent_ascent_is_ascent_of_the_pixels(steps):
    options = dict(threshold=1.0, steps=steps, learning_rate=0.05, optimizer=optax.sgd, clip=None)
    found = found_by(diffeomorphic, generator=linear_generator(), **options)
    v = X
    for _ in range(steps):
        v = v + 0.05 * slope(v)
    assert np.allclose(found.x, v, atol=1e-5)
    assert found.steps == steps and np.allclose(found.logits, said(found.x), atol=1e-5)


def test_a_step_in_the_code_is_a_step_that_the_inverse_metric_preconditions():
    g = Cubic(np.asarray(orthonormal(6, 6, 3)) @ np.diag(np.float32([2.0, 1.5, 1.0, 0.5, 0.1, 0.02])))
    rate = 1e-4
    found = found_by(diffeomorphic, generator=g, threshold=1.0, steps=1, learning_rate=rate, optimizer=optax.sgd, clip=None)
    z, start, jacobian = map(np.asarray, jax.jit(lambda x: (g.encode(x), g.decode(g.encode(x)), jax.jacobian(g.decode)(g.encode(x))))(X))
    expected = jacobian @ jacobian.T @ slope(X)
    moved = found.x - start
    assert np.allclose(moved / rate, expected, atol=0.01 * np.abs(expected).max())
    # Along each left singular vector the gradient is scaled by the square of the singular value: the least is suppressed.
    u, sizes, _ = np.linalg.svd(jacobian)
    ratio = (u.T @ (moved / rate))[-1] / (u.T @ slope(X))[-1]
    assert sizes[0] > 5 * sizes[-1] and abs(ratio / sizes[-1] ** 2 - 1) < 0.2


def test_a_generator_of_few_codes_stays_on_its_plane():
    g = linear_generator(6, 3)
    basis = np.asarray(g.basis)
    found = found_by(diffeomorphic, generator=g, clip=None, steps=600, learning_rate=0.2)
    assert found.valid and scipy.special.softmax(found.logits)[TARGET] >= 0.99
    assert np.allclose(found.x, basis @ found.latent + 0.5, atol=1e-6) and np.allclose(basis @ (basis.T @ (found.x - 0.5)) + 0.5, found.x, atol=1e-5)


def test_the_descent_of_revise_ends_where_the_price_of_distance_equals_the_gain():
    # One code along which the margin grows with slope s: −log σ(s t) + λ |t| is least where s σ(−s t) = λ.
    g = Linear(np.eye(2, dtype=np.float32)[:, :1], np.zeros(2, np.float32))
    f = Partial(lambda w, v: jnp.stack([jnp.zeros(()), w * v[0]]), np.float32(3.0))
    x = np.float32([-0.5, 0.0])
    found = found_by(revise, f, x, 1, generator=g, proximity=0.3, threshold=0.999, steps=3000, learning_rate=0.01, clip=None)
    z = found.latent[0]
    assert not found.valid  # 0.999 is not worth the way
    # The best point met is the most probable, at which the search settles.
    assert abs(3 * (1 - scipy.special.expit(3 * z)) - 0.3) < 0.02
    near = found_by(revise, f, x, 1, generator=g, proximity=0.3, threshold=0.5, clip=None)
    assert near.valid and 0 <= near.latent[0] < 0.02 and near.steps < found.steps


@pytest.mark.parametrize("method", [diffeomorphic, revise])
def test_batched_run_and_restarts_equal_one_at_a_time(method):
    x = RNG.uniform(0.3, 0.7, (4, 6)).astype(np.float32)
    targets = np.asarray([[0, 1], [1, 2], [2, 0], [0, 2]])
    options = dict(generator=linear_generator(6, 3), steps=60, threshold=0.6)
    found = run(method.search(**options), F, x, targets, batch_size=2, block=7)
    each_alone(found, lambda v, t: method(F, v, t, **options), x, targets)


def test_options_that_differ_by_example_hold_in_every_step():
    g, x, prices = linear_generator(6, 3), np.stack([X, X, X]), np.asarray([0.0, 0.05, 0.5], np.float32)
    found = run(revise.search(generator=g, threshold=0.9, steps=60), F, x, np.full(3, TARGET), per_example={"proximity": prices})
    each_alone(found, lambda v, price: revise(F, v, TARGET, generator=g, threshold=0.9, steps=60, proximity=price), x, prices)
    assert np.abs(found.x[0] - found.x[2]).max() > 0.01
    with pytest.raises(ValueError, match="'price' is no option that may differ by example"):
        run(revise.search(generator=g), F, x, np.full(3, TARGET), per_example={"price": prices})


def test_the_path_through_the_codes_leads_from_x_to_the_counterfactual():
    g = Cubic(orthonormal(6, 6, 3))
    found = found_by(diffeomorphic, generator=g, clip=None, threshold=0.8)
    both = jax.jit(lambda x, z: (latent_path(g, x, z, steps=5), g.decode((g.encode(x) + z) / 2)))
    path, middle = map(np.asarray, both(X, found.latent))
    assert np.allclose(path[0], X, atol=1e-4) and np.allclose(path[-1], found.x, atol=1e-5)
    assert np.allclose(path[2], middle, atol=1e-4)
    assert not np.allclose(path[2], (X + found.x) / 2, atol=1e-2)


def test_region_and_constraints_hold_to_the_bit():
    region = np.asarray([1, 1, 0, 1, 0, 0], bool)
    found = found_by(diffeomorphic, generator=linear_generator(), steps=200, region=region, constraints=(Near(0.2),))
    assert np.array_equal(found.x[~region], X[~region])
    assert np.linalg.norm(found.x - X) <= 0.2 + 1e-5 and not np.allclose(found.x, X)


@pytest.mark.parametrize("far", [0.5, 3.0])
def test_a_ball_passes_the_gradient_of_its_projection(far):
    u = np.float32([0.6, 0.8, 0, 0, 0, 0])
    expected = np.eye(6) if far < 1 else (np.eye(6) - np.outer(u, u)) / far
    assert np.allclose(jacobian_of_a_ball(X + np.float32(far) * u), expected, atol=1e-4)


@jax.jit
def jacobian_of_a_ball(v):
    return jax.jacobian(lambda w: Near(1.0).relaxed(w, X))(v)


def test_what_is_of_the_class_already_is_returned_as_it_is():
    found = found_by(diffeomorphic, target=int(said(X).argmax()), generator=linear_generator())
    assert np.array_equal(found.x, X) and found.valid and found.steps == 0


def test_an_unreached_search_says_so():
    found = found_by(diffeomorphic, generator=linear_generator(), steps=2, learning_rate=1e-4)
    assert not found.valid and found.steps == 2 and np.isfinite(found.x).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.5}, "threshold=1.5"),
        ({"steps": 0}, "steps=0"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0"),
        ({"generator": F}, "must have a method encode"),
        ({"generator": linear_generator(5)}, "does not take x of shape"),
        ({"region": np.zeros(6, bool)}, "nothing may change"),
    ],
)
def test_bad_options_are_named(options, message):
    for method in (diffeomorphic, revise):
        with pytest.raises(ValueError, match=message):
            method(F, X, TARGET, **{"generator": linear_generator(), **options})
    with pytest.raises(ValueError, match="proximity=-1"):
        revise(F, X, TARGET, generator=linear_generator(), proximity=-1.0)
