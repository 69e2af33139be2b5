"""Searches in a generator's coordinates: what the geometry of the generator says that they do, and bad inputs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial
from latent_toys import Cubic, Linear, linear_generator, linear_model, orthonormal, same

from jxai.counterfactual import diffeomorphic, latent_path, revise, run
from jxai.counterfactual.search.constraints import Near

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(1)
X = jnp.asarray(RNG.uniform(0.3, 0.7, 6), jnp.float32)
F = linear_model()
TARGET = int(np.argsort(F(X))[0])


def ascent(f, v, target, rate, steps):
    """Gradient ascent of the target's log-probability."""
    for _ in range(steps):
        v = v + rate * jax.grad(lambda u: jax.nn.log_softmax(f(u))[target])(v)
    return v


@pytest.mark.parametrize("steps", [1, 5])
def test_with_orthonormal_coordinates_latent_ascent_is_ascent_of_the_pixels(steps):
    found = diffeomorphic(F, X, TARGET, generator=linear_generator(), threshold=1.0, steps=steps, learning_rate=0.05, optimizer=optax.sgd, clip=None)
    assert np.allclose(found.x, ascent(F, X, TARGET, 0.05, steps), atol=1e-5)
    assert int(found.steps) == steps and np.allclose(found.logits, F(found.x), atol=1e-5)


def test_a_step_in_the_code_is_a_step_that_the_inverse_metric_preconditions():
    g = Cubic(orthonormal(6, 6, 3) @ jnp.diag(jnp.asarray([2.0, 1.5, 1.0, 0.5, 0.1, 0.02])))
    rate = 1e-4
    found = diffeomorphic(F, X, TARGET, generator=g, threshold=1.0, steps=1, learning_rate=rate, optimizer=optax.sgd, clip=None)
    jacobian = jax.jacobian(g.decode)(g.encode(X))
    slope = jax.grad(lambda v: jax.nn.log_softmax(F(v))[TARGET])(X)
    expected = jacobian @ jacobian.T @ slope
    moved = found.x - g.decode(g.encode(X))
    assert np.allclose(moved / rate, expected, atol=0.01 * np.abs(expected).max())
    # Along each left singular vector the gradient is scaled by the square of the singular value: the least is suppressed.
    u, sizes, _ = np.linalg.svd(np.asarray(jacobian))
    ratio = (u.T @ np.asarray(moved / rate))[-1] / (u.T @ np.asarray(slope))[-1]
    assert sizes[0] > 5 * sizes[-1] and abs(ratio / sizes[-1] ** 2 - 1) < 0.2


def test_a_generator_of_few_codes_stays_on_its_plane():
    g = linear_generator(6, 3)
    found = diffeomorphic(F, X, TARGET, generator=g, clip=None, steps=600, learning_rate=0.2)
    assert bool(found.valid) and jax.nn.softmax(found.logits)[TARGET] >= 0.99
    assert np.allclose(found.x, g.decode(found.latent), atol=1e-6) and np.allclose(g.decode(g.encode(found.x)), found.x, atol=1e-5)


def test_the_descent_of_revise_ends_where_the_price_of_distance_equals_the_gain():
    # One code along which the margin grows with slope s: −log σ(s t) + λ |t| is least where s σ(−s t) = λ.
    g, f = Linear(jnp.eye(2)[:, :1], jnp.zeros(2)), Partial(lambda w, v: jnp.stack([jnp.zeros(()), w * v[0]]), jnp.float32(3.0))
    found = revise(f, jnp.asarray([-0.5, 0.0]), 1, generator=g, proximity=0.3, threshold=0.999, steps=3000, learning_rate=0.01, clip=None)
    z = float(found.latent[0])
    assert not bool(found.valid)  # 0.999 is not worth the way
    # The best point met is the most probable, at which the search settles.
    assert abs(3 * (1 - jax.nn.sigmoid(3 * z)) - 0.3) < 0.02
    near = revise(f, jnp.asarray([-0.5, 0.0]), 1, generator=g, proximity=0.3, threshold=0.5, clip=None)
    assert bool(near.valid) and 0 <= near.latent[0] < 0.02 and near.steps < found.steps


@pytest.mark.parametrize("method", [diffeomorphic, revise])
def test_batched_run_and_restarts_equal_one_at_a_time(method):
    g = linear_generator(6, 3)
    x = jnp.asarray(RNG.uniform(0.3, 0.7, (4, 6)), jnp.float32)
    targets = np.asarray([[0, 1], [1, 2], [2, 0], [0, 2]])
    options = dict(generator=g, steps=60, threshold=0.6)
    one = jax.jit(lambda v, t: method(F, v, t, **options))
    found = run(method.search(**options), F, x, targets, batch_size=3, block=7)
    both = jax.vmap(lambda v, ts: jax.vmap(lambda t: method(F, v, t, **options))(ts))(x, jnp.asarray(targets))
    same(found, both)
    for i in range(4):
        for j in range(2):
            same(jax.tree.map(lambda leaf, at=(i, j): leaf[at], found), one(x[i], int(targets[i, j])))


def test_options_that_differ_by_example_hold_in_every_step():
    g, x, prices = linear_generator(6, 3), jnp.stack([X, X, X]), np.asarray([0.0, 0.05, 0.5], np.float32)
    found = run(revise.search(generator=g, threshold=0.9, steps=60), F, x, np.full(3, TARGET), per_example={"proximity": prices})
    for i, price in enumerate(prices):
        same(jax.tree.map(lambda leaf, at=i: leaf[at], found), revise(F, X, TARGET, generator=g, threshold=0.9, steps=60, proximity=float(price)))
    assert np.abs(found.x[0] - found.x[2]).max() > 0.01
    with pytest.raises(ValueError, match="'price' is no option that may differ by example"):
        run(revise.search(generator=g), F, x, np.full(3, TARGET), per_example={"price": prices})


def test_the_path_through_the_codes_leads_from_x_to_the_counterfactual():
    g = Cubic(orthonormal(6, 6, 3))
    found = diffeomorphic(F, X, TARGET, generator=g, clip=None, threshold=0.8)
    path = latent_path(g, X, found.latent, steps=5)
    assert np.allclose(path[0], X, atol=1e-4) and np.allclose(path[-1], found.x, atol=1e-5)
    assert np.allclose(path[2], g.decode((g.encode(X) + found.latent) / 2), atol=1e-4)
    assert not np.allclose(path[2], (X + found.x) / 2, atol=1e-2)


def test_region_and_constraints_hold_to_the_bit():
    region = np.asarray([1, 1, 0, 1, 0, 0], bool)
    found = diffeomorphic(F, X, TARGET, generator=linear_generator(), steps=200, region=region, constraints=(Near(0.2),))
    assert np.array_equal(np.asarray(found.x)[~region], np.asarray(X)[~region])
    assert np.linalg.norm(found.x - X) <= 0.2 + 1e-5 and not np.allclose(found.x, X)


@pytest.mark.parametrize("far", [0.5, 3.0])
def test_a_ball_passes_the_gradient_of_its_projection(far):
    v = X + far * jnp.asarray([0.6, 0.8, 0, 0, 0, 0])
    u = np.asarray((v - X) / jnp.linalg.norm(v - X))
    expected = np.eye(6) if far < 1 else (np.eye(6) - np.outer(u, u)) / far
    assert np.allclose(jax.jacobian(lambda w: Near(1.0).relaxed(w, X))(v), expected, atol=1e-4)


def test_what_is_of_the_class_already_is_returned_as_it_is():
    found = diffeomorphic(F, X, int(F(X).argmax()), generator=linear_generator())
    assert np.array_equal(found.x, X) and bool(found.valid) and int(found.steps) == 0


def test_an_unreached_search_says_so():
    found = diffeomorphic(F, X, TARGET, generator=linear_generator(), steps=2, learning_rate=1e-4)
    assert not bool(found.valid) and int(found.steps) == 2 and np.isfinite(found.x).all()


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
