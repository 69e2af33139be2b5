"""SharpShooter: the first point of a line, where the line's crossing is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from flax import nnx
from jax.tree_util import Partial
from latent_toys import each_alone, linear_generator, linear_model, same

from jxai.counterfactual import run
from jxai.counterfactual.prototype import class_prototypes
from jxai.counterfactual.sharpshooter import Translated, sharpshooter
from jxai.models.vae import ConditionalVAE

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(6)
G = linear_generator(6, 4)
F = linear_model(3, 6, scale=3.0)
W, BIAS, BASIS = np.asarray(F.weights), np.asarray(F.bias), np.asarray(G.basis)


def said(x):
    """F in NumPy."""
    return np.asarray(x) @ W.T + BIAS


def decode(z):
    return np.asarray(z) @ BASIS.T + np.float32(0.5)


def encode(x):
    return (np.asarray(x) - np.float32(0.5)) @ BASIS


X = decode(np.float32([0.1, -0.1, 0.05, 0.0]))
OWN, TARGET = int(said(X).argmax()), int(said(X).argmin())
# The mean code of a class has logits of which its own leads by 12.
MEANS = (np.linalg.pinv(W @ BASIS) @ (12 * np.eye(3) - said(np.full(6, 0.5))[:, None])).T.astype(np.float32)


def line(a, means=MEANS, x=X, own=OWN, target=TARGET):
    return encode(x) + a * (means[target] - means[own])


def found_by(f=F, x=X, target=TARGET, **options):
    """The method, compiled whole."""
    return jax.tree.map(np.asarray, jax.jit(lambda f, x: sharpshooter(f, x, target, generator=G, **options))(f, x))


def test_the_point_is_the_first_of_the_line_that_reaches_the_threshold():
    grid = np.linspace(0, 1, 33)
    p = np.asarray([scipy.special.softmax(said(decode(line(a))))[TARGET] for a in grid])
    for threshold in (0.5, 0.9):
        first = int(np.argmax(p >= threshold))
        assert 0 < first < 32
        found = found_by(means=MEANS, threshold=threshold, num_points=33, clip=None)
        assert found.valid and found.steps == 0
        assert np.allclose(found.latent, line(grid[first]), atol=1e-5) and np.allclose(found.x, decode(found.latent), atol=1e-5)
        assert np.allclose(found.logits, said(found.x), atol=1e-4)


def test_the_crossing_of_two_classes_is_met_to_within_a_step():
    f = Partial(lambda w, b, v: jnp.stack([jnp.zeros(()), w @ v + b]), W[TARGET] - W[OWN], BIAS[TARGET] - BIAS[OWN])
    means = MEANS[[OWN, TARGET]]
    way = np.asarray(BASIS @ (means[1] - means[0]), np.float64)
    w, b = (np.asarray(v, np.float64) for v in f.args)
    exact = -(w @ np.asarray(X, np.float64) + b) / (w @ way)
    found = found_by(f, target=1, means=means, num_points=1001, chunk=100, clip=None)
    share = float((found.latent - encode(X)) @ (means[1] - means[0]) / ((means[1] - means[0]) ** 2).sum())
    assert exact <= share + 1e-4 and share <= exact + 1.1e-3


def test_it_needs_no_gradient():
    steps = Partial(lambda f, v: 20 * jax.nn.one_hot(jax.lax.stop_gradient(jnp.argmax(f(v))), 3), F)
    assert found_by(steps, means=MEANS, clip=None).valid


def test_a_conditional_decoder_may_say_where_the_line_leads():
    goal = Partial(lambda means, v, target: G.decode(jnp.asarray(means)[target]), MEANS)
    found = found_by(conditional=goal, num_points=11, clip=None)
    way, off = MEANS[TARGET] - encode(X), found.latent - encode(X)
    share = off @ way / (way @ way)
    assert found.valid and np.allclose(off, share * way, atol=1e-5) and abs(share * 10 - round(share * 10)) < 1e-4


def test_a_conditional_autoencoder_translates_the_code_of_x():
    autoencoder = ConditionalVAE((6,), 3, latent=2, hidden=(8,), rngs=nnx.Rngs(0))
    both = jax.jit(lambda a, x: (Translated(F, a)(x, TARGET), a.decode(a.encode(x, jax.nn.softmax(F(x))), TARGET)))
    made, expected = map(np.asarray, both(autoencoder, X))
    assert np.allclose(made, expected, atol=1e-5)
    # With one class for a threshold that all points reach, the first is x's own reconstruction; the last leads to the translation.
    options = dict(conditional=Translated(F, autoencoder), clip=None, num_points=2)
    assert np.allclose(found_by(threshold=0.0, **options).latent, encode(X), atol=1e-5)
    # The greater probability of the two is taken where neither reaches it.
    ends = [scipy.special.softmax(said(decode(z)))[TARGET] for z in (encode(X), encode(made))]
    expected = encode(X) if ends[0] >= ends[1] else encode(made)
    assert np.allclose(found_by(threshold=1.0, **options).latent, expected, atol=1e-5)


def test_a_line_that_does_not_reach_it_says_so_and_gives_its_best():
    short = 1e-3 * MEANS
    found = found_by(means=short, clip=None)
    assert not found.valid and np.allclose(found.latent, line(1.0, short), atol=1e-5)


def test_batched_equals_one_at_a_time_with_means_of_examples():
    examples = RNG.normal(size=(60, 6)).astype(np.float32)
    means = class_prototypes(G, examples, said(examples).argmax(1), 3)
    x = examples[:4]
    targets = np.stack([np.delete(np.arange(3), c) for c in said(x).argmax(1)])
    options = dict(generator=G, means=means, clip=None, num_points=40, region=np.arange(6) != 2)
    found = run(sharpshooter.search(**options), F, x, targets, batch_size=4)
    each_alone(found, lambda v, t: sharpshooter(F, v, t, **options), x, targets)
    assert found.valid.any() and not found.valid.all() and np.array_equal(found.x[..., 2], np.broadcast_to(x[:, None, 2], (4, 2)))


def test_means_of_each_example_and_unknown_options():
    x, means = np.stack([X, X]), np.stack([MEANS, 2 * MEANS])
    found = run(sharpshooter.search(generator=G, means=MEANS, clip=None), F, x, np.full(2, TARGET), per_example={"means": means})
    same(jax.tree.map(lambda leaf: leaf[1], found), found_by(means=2 * MEANS, clip=None))
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
