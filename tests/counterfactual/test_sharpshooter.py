"""SharpShooter: the first point of a line, where the line's crossing is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.tree_util import Partial
from latent_toys import linear_generator, linear_model, same

from jxai.counterfactual import run
from jxai.counterfactual.prototype import class_prototypes
from jxai.counterfactual.sharpshooter import Translated, sharpshooter
from jxai.models.vae import ConditionalVAE

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(6)
G = linear_generator(6, 4)
F = linear_model(3, 6, scale=3.0)
X = G.decode(jnp.asarray([0.1, -0.1, 0.05, 0.0]))
OWN, TARGET = int(F(X).argmax()), int(F(X).argmin())
# The mean code of a class has logits of which its own leads by 12.
MEANS = jnp.asarray((np.linalg.pinv(F.weights @ G.basis) @ (12 * np.eye(3) - np.asarray(F(G.mean))[:, None])).T, jnp.float32)


def line(a, means=MEANS, x=X, own=OWN, target=TARGET):
    return G.encode(x) + a * (means[target] - means[own])


def test_the_point_is_the_first_of_the_line_that_reaches_the_threshold():
    grid = np.linspace(0, 1, 33)
    p = np.asarray([jax.nn.softmax(F(G.decode(line(a))))[TARGET] for a in grid])
    for threshold in (0.5, 0.9):
        first = int(np.argmax(p >= threshold))
        assert 0 < first < 32
        found = sharpshooter(F, X, TARGET, generator=G, means=MEANS, threshold=threshold, num_points=33, clip=None)
        assert bool(found.valid) and int(found.steps) == 0
        assert np.allclose(found.latent, line(grid[first]), atol=1e-5) and np.allclose(found.x, G.decode(found.latent), atol=1e-5)
        assert np.allclose(found.logits, F(found.x), atol=1e-4)


def test_the_crossing_of_two_classes_is_met_to_within_a_step():
    f = Partial(lambda w, b, v: jnp.stack([jnp.zeros(()), w @ v + b]), F.weights[TARGET] - F.weights[OWN], F.bias[TARGET] - F.bias[OWN])
    means = MEANS[jnp.asarray([OWN, TARGET])]
    way = np.asarray(G.basis @ (means[1] - means[0]), np.float64)
    w, b = (np.asarray(v, np.float64) for v in f.args)
    exact = -(w @ np.asarray(X, np.float64) + b) / (w @ way)
    found = sharpshooter(f, X, 1, generator=G, means=means, num_points=1001, chunk=100, clip=None)
    share = float((found.latent - G.encode(X)) @ (means[1] - means[0]) / ((means[1] - means[0]) ** 2).sum())
    assert exact <= share + 1e-4 and share <= exact + 1.1e-3


def test_it_needs_no_gradient():
    steps = Partial(lambda f, v: 20 * jax.nn.one_hot(jax.lax.stop_gradient(jnp.argmax(f(v))), 3), F)
    assert bool(sharpshooter(steps, X, TARGET, generator=G, means=MEANS, clip=None).valid)


def test_a_conditional_decoder_may_say_where_the_line_leads():
    goal = Partial(lambda means, v, target: G.decode(means[target]), MEANS)
    found = sharpshooter(F, X, TARGET, generator=G, conditional=goal, num_points=11, clip=None)
    way, off = np.asarray(MEANS[TARGET] - G.encode(X)), np.asarray(found.latent - G.encode(X))
    share = off @ way / (way @ way)
    assert bool(found.valid) and np.allclose(off, share * way, atol=1e-5) and abs(share * 10 - round(share * 10)) < 1e-4


def test_a_conditional_autoencoder_translates_the_code_of_x():
    autoencoder = ConditionalVAE((6,), 3, latent=2, hidden=(8,), rngs=nnx.Rngs(0))
    made = Translated(F, autoencoder)(X, TARGET)
    assert np.allclose(made, autoencoder.decode(autoencoder.encode(X, jax.nn.softmax(F(X))), TARGET), atol=1e-5)
    # With one class for a threshold that all points reach, the first is x's own reconstruction; the last leads to the translation.
    options = dict(generator=G, conditional=Translated(F, autoencoder), clip=None, num_points=2)
    assert np.allclose(sharpshooter(F, X, TARGET, threshold=0.0, **options).latent, G.encode(X), atol=1e-5)
    # The greater probability of the two is taken where neither reaches it.
    ends = [jax.nn.softmax(F(G.decode(z)))[TARGET] for z in (G.encode(X), G.encode(made))]
    expected = G.encode(X) if ends[0] >= ends[1] else G.encode(made)
    assert np.allclose(sharpshooter(F, X, TARGET, threshold=1.0, **options).latent, expected, atol=1e-5)


def test_a_line_that_does_not_reach_it_says_so_and_gives_its_best():
    short = 1e-3 * MEANS
    found = sharpshooter(F, X, TARGET, generator=G, means=short, clip=None)
    assert not bool(found.valid) and np.allclose(found.latent, line(1.0, short), atol=1e-5)


def test_batched_equals_one_at_a_time_with_means_of_examples():
    examples = jnp.asarray(RNG.normal(size=(60, 6)), jnp.float32)
    means = class_prototypes(G, examples, np.asarray(jax.vmap(F)(examples).argmax(1)), 3)
    x = examples[:4]
    targets = np.stack([np.delete(np.arange(3), int(c)) for c in jax.vmap(F)(x).argmax(1)])
    options = dict(generator=G, means=means, clip=None, num_points=40, region=np.arange(6) != 2)
    found = run(sharpshooter.search(**options), F, x, targets, batch_size=4)
    same(found, jax.vmap(lambda v, ts: jax.vmap(lambda t: sharpshooter(F, v, t, **options))(ts))(x, jnp.asarray(targets)))
    same(jax.tree.map(lambda leaf: leaf[2, 1], found), sharpshooter(F, x[2], int(targets[2, 1]), **options))
    assert found.valid.any() and not found.valid.all() and np.array_equal(found.x[..., 2], np.broadcast_to(x[:, None, 2], (4, 2)))


def test_means_of_each_example_and_unknown_options():
    x, means = jnp.stack([X, X]), jnp.stack([MEANS, 2 * MEANS])
    found = run(sharpshooter.search(generator=G, means=MEANS, clip=None), F, x, np.full(2, TARGET), per_example={"means": means})
    same(jax.tree.map(lambda leaf: leaf[1], found), sharpshooter(F, X, TARGET, generator=G, means=2 * MEANS, clip=None))
    with pytest.raises(ValueError, match="'mean' is no option that may differ by example"):
        run(sharpshooter.search(generator=G, means=MEANS), F, x, np.full(2, TARGET), per_example={"mean": means})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "means or conditional"),
        ({"means": MEANS, "conditional": G}, "means or conditional"),
        ({"means": MEANS[:2]}, r"means must have shape \[3, 4\]"),
        ({"conditional": Partial(lambda v, t: v[:2])}, "conditional must make an example"),
        ({"means": MEANS, "num_points": 1}, "num_points=1"),
        ({"means": MEANS, "threshold": -0.1}, "threshold=-0.1"),
        ({"means": MEANS, "generator": F}, "must have a method encode"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        sharpshooter(F, X, TARGET, **{"generator": G, **options})
