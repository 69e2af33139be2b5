"""Uncertainty along a path through a generator: closed forms for linear generators and quadratic uncertainties, completeness on a trained network."""

import functools

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from jxai import each
from jxai.attribution import uncertainty_ends, uncertainty_path
from jxai.latent import descend
from jxai.models import digits_cnn, digits_vae
from jxai.testing import network
from jxai.uncertainty.predictive import predictive

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
D, CODES = 6, 3
BASIS, MEAN = RNG.normal(size=(D, CODES)).astype(np.float32), RNG.uniform(size=D).astype(np.float32)
A = np.float32((lambda m: m @ m.T)(RNG.normal(size=(D, D))))
X = RNG.uniform(size=D).astype(np.float32)
Z0, Z = RNG.normal(size=(2, CODES)).astype(np.float32)


class Affine:
    """`decode(z) = B z + m`, encode by least squares."""

    def encode(self, x):
        return jnp.linalg.pinv(BASIS) @ (x - MEAN)

    def decode(self, z):
        return BASIS @ z + MEAN


def quadratic(x):
    return 0.5 * x @ A @ x + 1


def entropy(logits):
    p = np.exp(logits - logits.max())
    p = np.float64(p / p.sum())
    return -(p * np.log(np.maximum(p, 1e-300))).sum()


@pytest.mark.parametrize("rule", ["secant", "midpoint"])
def test_an_affine_generator_and_a_quadratic_uncertainty_have_a_closed_form(rule):
    """On a straight line the mean slope of a quadratic is that of the middle."""
    start, near = BASIS @ Z0 + MEAN, BASIS @ Z + MEAN
    expected = A @ ((start + near) / 2) * (near - start) + A @ ((near + X) / 2) * (X - near)
    a = jax.jit(lambda x: uncertainty_path(quadratic, x, None, generator=Affine(), fiducial=Z0, code=Z, steps=4, rule=rule, distance="squared"))(X)
    np.testing.assert_allclose(a, expected, rtol=2e-5, atol=2e-5)


def test_a_curved_generator_is_followed():
    """Of a linear uncertainty every entry has its own share, whatever the way: `w ⊙ (g(z) − g(z₀)) + w ⊙ (x − g(z))`."""
    g, w = cases.generator((D,)), RNG.normal(size=D).astype(np.float32)
    a = jax.jit(lambda x: uncertainty_path(lambda v: w @ v, x, None, generator=g, fiducial=Z0, code=Z, steps=3))(X)
    np.testing.assert_allclose(a, w * (X - np.asarray(g.decode(Z0))), rtol=1e-5, atol=1e-6)


def test_a_step_with_one_kink_is_shared_out_exactly():
    """The first entry bends the uncertainty at .3: each side has its slope for as long as the way is there."""
    bend = lambda v: jnp.maximum(v[0], 0.3) * 2 + v[1]
    x = np.float32([1, 0.5, 0, 0, 0, 0])
    identity = type("Same", (), {"encode": lambda self, x: x, "decode": lambda self, z: z})()
    a = jax.jit(lambda x: uncertainty_path(bend, x, None, generator=identity, fiducial=np.zeros(D, np.float32), code=x, steps=1, distance="squared"))(x)
    np.testing.assert_allclose(a, [1.4, 0.5, 0, 0, 0, 0], atol=1e-6)


def test_the_ends_are_the_minima():
    """Of quadratic costs: `(BᵀB + w_z) z = Bᵀ(x − m)`, and with the uncertainty `w P xᵀAx / 2` besides."""
    prior, weight = 0.3, 0.2
    found = jax.jit(
        lambda x: uncertainty_ends(
            quadratic, x, None, generator=Affine(), distance="squared", prior=prior, weight=weight, search_steps=1500, learning_rate=0.02, tolerance=1e-9
        )
    )(X)
    code = np.linalg.solve(BASIS.T @ BASIS + prior * np.eye(CODES), BASIS.T @ (X - MEAN))
    heavy = weight * D / 2 * A
    fiducial = np.linalg.solve(BASIS.T @ (np.eye(D) + heavy) @ BASIS + prior * np.eye(CODES), BASIS.T @ (X - MEAN) - BASIS.T @ heavy @ MEAN)
    np.testing.assert_allclose(found.code, code, atol=2e-3)
    np.testing.assert_allclose(found.fiducial, fiducial, atol=2e-3)
    np.testing.assert_allclose(found.uncertainties, [quadratic(np.asarray(v)) for v in (found.start, BASIS @ found.code + MEAN, X)], rtol=1e-4)
    np.testing.assert_allclose(found.start, BASIS @ found.fiducial + MEAN, rtol=1e-4, atol=1e-5)


def test_a_descent_ends_where_the_mean_decrease_says():
    """The rule of TensorFlow Probability in NumPy, on plain gradient descent of z²."""
    import optax

    def steps(tolerance, relative):
        z, loss, mean, first = 1.0, 1.0, 0.0, 0.0
        for k in range(1, 1000):
            z *= 0.96
            fall, loss = loss - z * z, z * z
            mean = 0.9 * mean + 0.1 * fall
            first = mean if k <= 10 else first
            if k >= 20 and mean < (tolerance * first if relative else tolerance):
                return k
        return None

    for tolerance, relative in ((1e-2, False), (1e-3, False), (1e-1, True), (1e-2, True)):
        found = descend(lambda z: z**2, jnp.float32(1), steps=999, learning_rate=0.02, tolerance=tolerance, relative=relative, optimizer=optax.sgd)
        assert found.steps == steps(tolerance, relative) and np.isclose(found.code, 0.96 ** int(found.steps), rtol=1e-4)
    worse = descend(lambda z: jnp.where(z < 1, jnp.nan, z), jnp.float32(1), steps=3, learning_rate=0.5, optimizer=optax.sgd)
    assert (worse.code, worse.cost, worse.steps) == (1, 1, 3)


@pytest.mark.slow
def test_it_is_complete_on_a_trained_network():
    """For the least certain digits, each kind of uncertainty; the fiducials are sure of the class that f predicts."""
    f, g, x = digits_cnn(), digits_vae(), digits()
    run = functools.partial(each, generator=g, search_steps=200)
    ends = run(uncertainty_ends, f, x, None)
    maps = run(uncertainty_path, f, x, None, per_example={"fiducial": ends.fiducial, "code": ends.code})
    h = [entropy(np.asarray(f(v))) for v in x]
    np.testing.assert_allclose(np.asarray(ends.uncertainties)[:, 2], h, rtol=1e-3)
    gaps = np.asarray(maps).sum((1, 2, 3)) - (h - np.float32([entropy(np.asarray(f(v))) for v in ends.start]))
    assert np.abs(gaps).max() <= 1e-4
    assert (np.asarray(ends.uncertainties)[:, 0] < 0.3 * np.float32(h)).all()
    assert (np.argmax(jax.vmap(f)(ends.start), -1) == np.argmax(jax.vmap(f)(x), -1)).all()


@functools.cache
def digits():
    from jxai.data import load, source

    x = load(source("digits"), range(200)).x
    return x[np.argsort([-entropy(row) for row in np.asarray(jax.vmap(digits_cnn())(x))])[:3]]


def _two(one, other, x):
    return jnp.stack([one(x), other(x)])


def test_mutual_information_and_any_score():
    f, members = network((D,)), Partial(_two, network((D,), 1), network((D,), 2))
    g, x = cases.generator((D,)), X
    code = np.float32([0.1, -0.2, 0.3])
    fixed = dict(generator=g, fiducial=code, code=0 * code)
    margin = lambda f, x: -jnp.abs(f(x)[0] - f(x)[1])
    maps = jax.jit(
        lambda x: [uncertainty_path(f, x, 1, uncertainty="epistemic", members=members, **fixed), uncertainty_path(f, x, 1, uncertainty=margin, **fixed)]
    )(x)
    information = lambda v: float(predictive(members(v), "epistemic"))
    for a, u in zip(maps, (information, lambda v: float(margin(f, v)))):
        np.testing.assert_allclose(a.sum(), u(x) - u(g.decode(code)), atol=1e-5)


def test_the_class_is_the_predicted_one_unless_another_is_given():
    f, g, x = network((D,)), cases.generator((D,)), X
    run = jax.jit(lambda target: uncertainty_ends(f, x, target, generator=g, search_steps=400, learning_rate=0.1).start, static_argnums=0)
    predicted, other = int(np.argmax(f(x))), int(np.argmin(f(x)))
    np.testing.assert_array_equal(run(None), run(predicted))
    assert np.argmax(f(run(predicted))) == predicted and f(run(other))[other] > f(x)[other]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (dict(generator=None), "generator=NoneType must have a method encode"),
        (dict(rule="simpson"), "rule='simpson' must be one of 'secant', 'midpoint'"),
        (dict(steps=0), "steps=0"),
        (dict(search_steps=0), "search_steps=0"),
        (dict(distance="l1"), "distance='l1' must be one of 'cross_entropy', 'squared'"),
        (dict(weight=-1.0), "weight=-1.0"),
        (dict(fiducial=np.zeros(4)), "fiducial must be a code of the generator, of shape"),
        (dict(uncertainty="entropy"), "uncertainty='entropy' must be one of 'total', 'aleatoric', 'epistemic'"),
        (dict(uncertainty="epistemic"), "needs members"),
        (dict(uncertainty=lambda f, x: f(x)), "must be a number, got shape"),
        (dict(members=lambda x: x), "members.x. must be logits"),
        (dict(x=X - 1), "x must lie in .0, 1. for distance='cross_entropy'"),
        (dict(x=X * np.nan), "x must be finite"),
        (dict(f=lambda x: jax.nn.softmax(network((D,))(x))), "must be logits, but it is probabilities"),
        (dict(f=lambda x: x[:1]), "two classes or more"),
        (dict(f=quadratic, target=None, uncertainty="epistemic"), "a number already"),
        (dict(target=7), "target=7"),
    ],
)
def test_bad_arguments(options, word):
    given = dict(f=network((D,)), x=X, target=1, generator=cases.generator((D,))) | options
    with pytest.raises(ValueError, match=word):
        uncertainty_path(**given)


def test_a_fiducial_that_is_no_more_certain_is_told():
    u, g = lambda v: ((v - X) ** 2).sum(), cases.generator((D,))
    with pytest.warns(UserWarning, match="no more certain"):
        a = uncertainty_path(u, X, None, generator=g, fiducial=Z0, code=Z, steps=2)
    np.testing.assert_allclose(a.sum(), -u(g.decode(Z0)), rtol=1e-4)
