"""Scores of samples, ensembles and Monte Carlo dropout: by their definitions in NumPy, and against models taken one by one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
import scipy.stats
from drawn import drawn
from flax import nnx
from jax.tree_util import Partial

from jxai.models import MLP
from jxai.testing import check_score, example
from jxai.training.train import train
from jxai.uncertainty import decompose
from jxai.uncertainty.dropout import monte_carlo
from jxai.uncertainty.ensembles import Ensemble, ensemble, train_ensemble
from jxai.uncertainty.samples import Averaged, expected_entropy, mean_entropy, mean_max_softmax, mutual_information, sampled, variation_ratio

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
MEMBERS = [drawn(lambda rngs: MLP(4, (6,), 3, rngs=rngs), seed) for seed in range(5)]
X = RNG.normal(size=4).astype(np.float32)
SCORES = (mutual_information, mean_entropy, expected_entropy, mean_max_softmax, variation_ratio)


class Dropped(nnx.Module):
    """A hidden layer of which a half is dropped, as a module in training mode; batch normalisation must stay as it is."""

    def __init__(self, rate=0.5, *, rngs):
        self.first, self.last = nnx.Linear(4, 8, rngs=rngs), nnx.Linear(8, 3, rngs=rngs)
        self.norm, self.dropout = nnx.BatchNorm(8, rngs=rngs), nnx.Dropout(rate, rngs=rngs)

    def __call__(self, x):
        return self.last(self.dropout(nnx.relu(self.norm(self.first(x)))))


def by_definition(logits):
    p = scipy.special.softmax(np.asarray(logits, np.float64), 1)
    total, aleatoric = scipy.stats.entropy(p.mean(0)), scipy.stats.entropy(p.T).mean()
    votes = np.bincount(p.argmax(1), minlength=p.shape[1])
    return np.array([total - aleatoric, total, aleatoric, -p.mean(0).max(), 1 - votes.max() / len(p)])


@jax.jit
def found(f, x):
    return jnp.stack([score(f, x) for score in SCORES])


def fixed(logits, x):
    return logits + 0 * x[0]


@pytest.mark.parametrize("spread", [0.0, 1.0, 300.0])
def test_scores_of_samples_are_their_definitions(spread):
    logits = (spread * RNG.normal(size=(7, 4))).astype(np.float32)
    np.testing.assert_allclose(found(Partial(fixed, logits), X), by_definition(logits), atol=2e-6)


def test_samples_that_agree_inform_of_nothing_rather_than_of_less():
    same = np.repeat(RNG.normal(size=(100, 1, 4)), 3, 1).astype(np.float32)
    rounded, found = jax.jit(jax.vmap(lambda z: (decompose(jax.nn.softmax(z)).epistemic, mutual_information(Partial(fixed, z), X))))(same)
    assert rounded.min() < 0 and found.min() == 0 and found.max() < 1e-6


def test_a_decomposition_is_of_probabilities():
    p = RNG.dirichlet(np.ones(3), 6).astype(np.float32)
    p[0] = [1, 0, 0]
    parts, slope = jax.jit(jax.value_and_grad(lambda p: (d := decompose(p)).epistemic + 0 * d.total))(p)
    told = decompose(p)
    np.testing.assert_allclose([told.epistemic, told.total, told.aleatoric], by_definition(np.log(np.maximum(p, 1e-30)))[:3], atol=1e-6)
    assert parts == pytest.approx(float(told.total - told.aleatoric), abs=1e-6) and np.isfinite(slope).all()
    # Members that agree have nothing to learn of; members that are sure of other classes each, everything.
    assert abs(float(decompose(np.tile(p[1:2], (5, 1))).epistemic)) < 1e-6
    assert float(decompose(np.eye(3, dtype=np.float32)).epistemic) == pytest.approx(np.log(3), abs=1e-6)
    for bad, said in ((np.log(p[1:]), "they look like logits"), (np.full((2, 3), np.nan), "has NaN"), (p[0], r"must be floating-point \[S, K\]")):
        with pytest.raises(ValueError, match=said):
            decompose(np.float32(bad))


def test_an_ensemble_is_its_members():
    members = ensemble(MEMBERS)
    alone = np.stack([jax.jit(lambda f, x: f(x))(member, X) for member in MEMBERS])
    together, wide, mean = jax.jit(lambda e, x: (e(x), Ensemble(e.members, chunk=5)(x), Averaged(e)(x)))(members, X)
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(wide, alone, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.exp(mean), scipy.special.softmax(alone, 1).mean(0), rtol=1e-5)
    assert len(members) == 5
    np.testing.assert_array_equal(members[3].layers[0].kernel[...], MEMBERS[3].layers[0].kernel[...])


@pytest.mark.slow
def test_members_are_trained_as_they_are_alone():
    x, y = RNG.normal(size=(64, 4)).astype(np.float32), RNG.integers(0, 3, 64)
    make, keys = (lambda key: MLP(4, (6,), 3, rngs=nnx.Rngs(params=key))), jax.random.split(jax.random.key(0), 2)
    options = dict(steps=3, batch_size=16)
    members = train_ensemble(make, cross_entropy, (x, y), keys=keys, **options)
    alone = train(make(keys[1]), cross_entropy, (x, y), key=keys[1], **options).model
    np.testing.assert_allclose(members[1](X), alone(X), rtol=1e-3, atol=1e-4)
    assert not np.allclose(members[0](X), alone(X), atol=1e-2)
    with pytest.raises(ValueError, match=r"members \[0, 1\] of 2 diverged"):
        train_ensemble(make, lost, (x, y), keys=keys, **options)


def cross_entropy(model, x, y, key):
    return optax.softmax_cross_entropy_with_integer_labels(jax.vmap(model)(x), y).mean(), {}


def lost(model, x, y, key):
    return jnp.nan * cross_entropy(model, x, y, key)[0], {}


def test_dropout_draws_a_subnetwork_for_each_sample():
    model = drawn(lambda rngs: Dropped(rngs=rngs))
    model.eval()
    model.norm.mean.set_value(0.1 * jnp.arange(8.0))
    drawing = monte_carlo(model, 400)
    before = jax.tree.leaves(model)
    logits = np.asarray(jax.jit(lambda d, x, key: d.samples(x, key))(drawing, X, jax.random.key(1)))
    assert all(a is b for a, b in zip(before, jax.tree.leaves(model), strict=True))
    hidden = np.maximum(np.asarray(model.norm(model.first(X))), 0)
    weights, bias = np.asarray(model.last.kernel[...]), np.asarray(model.last.bias[...])
    # Each unit is kept with probability a half and doubled then: mean and covariance over masks are known.
    parts = hidden[:, None] * weights
    error = (logits.mean(0) - parts.sum(0) - bias) / np.sqrt((parts**2).sum(0) / 400)
    assert np.abs(error).max() < 4
    np.testing.assert_allclose(np.cov(logits.T), parts.T @ parts, atol=0.15 * np.abs(parts.T @ parts).max())
    masks = np.array([[i >> n & 1 for n in range(8)] for i in range(256)])
    possible = bias + 2 * masks @ parts
    assert np.abs(logits[:20, None] - possible).max(2).min(1).max() < 1e-5


def test_a_key_fixes_the_subnetworks():
    drawing, key = monte_carlo(drawn(lambda rngs: Dropped(rngs=rngs)), 5), jax.random.key(4)
    f = drawing.at(key)
    score = jax.jit(mutual_information)
    assert score(f, X) == score(drawing, X, key) != score(drawing, X, jax.random.key(5))
    own = monte_carlo(Partial(lambda w, x, key: w @ (x * jax.random.bernoulli(key, 0.5, x.shape)), np.ones((3, 4), np.float32)), 5, chunk=2)
    assert jax.jit(sampled)(own, X, key).shape == (5, 3)


def network(shape, seed):
    size = int(np.prod(shape))
    return ensemble([drawn(lambda rngs: MLP(size, (6,), 5, rngs=rngs), 10 * seed + s) for s in range(3)])


def agreeing(shape=(6,)):
    return ensemble([drawn(lambda rngs: MLP(6, (6,), 5, rngs=rngs), 1)] * 3)


@pytest.mark.parametrize(
    "score", [mutual_information, pytest.param(mean_entropy, marks=pytest.mark.slow), pytest.param(variation_ratio, marks=pytest.mark.slow)]
)
def test_scores_keep_the_contract(score):
    x = example((6,))
    known = {} if score is mean_entropy else dict(certain=(agreeing(), x), uncertain=(network((6,), 0), x))
    clauses = {"signature", "documentation", "result", "weights", "key", "direction"}
    check_score(score, shape=(6,), model=network, keyed=False, clauses=clauses - ({"weights"} if score is variation_ratio else set()), **known)


@pytest.mark.slow
@pytest.mark.parametrize("score", [expected_entropy, mean_max_softmax, mean_entropy])
def test_scores_keep_every_clause(score):
    check_score(score, shape=(6,), model=network, keyed=False)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: mutual_information(MEMBERS[0], X), r"f\(x\) must be logits \[S, K\] of S samples, got shape \(3,\)"),
        (lambda: mutual_information(Partial(fixed, np.full((2, 3), 1 / 3, np.float32)), X), "must be logits, but they are probabilities"),
        (lambda: mutual_information(Partial(fixed, np.float32([[1, np.nan]])), X), "must be finite"),
        (lambda: mutual_information(monte_carlo(drawn(lambda rngs: Dropped(rngs=rngs))), X), "key=None must be a jax.random.key"),
        (lambda: monte_carlo(drawn(lambda rngs: Dropped(0.0, rngs=rngs)), 2).samples(X, jax.random.key(0)), "the model draws nothing"),
        (lambda: monte_carlo(MEMBERS[0]), "model=MLP has no random streams"),
        (lambda: monte_carlo(MEMBERS[0], 0), "num_samples=0 must be a positive integer"),
        (lambda: ensemble([]), "models must be one model or more"),
        (lambda: ensemble([MEMBERS[0], drawn(lambda rngs: MLP(4, (7,), 3, rngs=rngs))]), r"models\[1\] must have the structure"),
        (lambda: ensemble([MEMBERS[0], drawn(lambda rngs: MLP(4, (6,), 3, activation=jnp.tanh, rngs=rngs))]), r"models\[1\] must have the structure"),
        (lambda: ensemble([lambda x: x]), "has no weights as leaves"),
    ],
)
def test_what_is_wrong_is_said(call, message):
    with pytest.raises(ValueError, match=message):
        call()
