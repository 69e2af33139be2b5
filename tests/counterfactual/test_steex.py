"""STEEX on scenes of three parts: only the chosen parts move, in code and in pixels, to where the model and the price say."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.tree_util import Partial
from latent_toys import Colours, same

from jxai.counterfactual import run
from jxai.counterfactual.steex import steex
from jxai.models.semantic import SemanticAutoencoder, loss
from jxai.train import train

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(10)
SIDE = 8


def scenes(n):
    """Scenes of a ground (0), a square (1) and a stripe (2), each of a colour of its own, and their layouts."""
    x, segments = np.zeros((n, SIDE, SIDE, 3)), np.zeros((n, SIDE, SIDE), np.int32)
    for i in range(n):
        top, left = RNG.integers(0, 3, 2)
        segments[i, top : top + 3, left : left + 3] = 1
        segments[i, RNG.integers(6, 8)] = 2
        x[i] = RNG.uniform(0.1, 0.9, (3, 3))[segments[i]]
    return jnp.asarray(x, jnp.float32), jnp.asarray(segments)


@pytest.fixture(scope="module")
def trained():
    x, segments = scenes(64)
    model = SemanticAutoencoder(3, 3, code=4, features=8, hidden=16, rngs=nnx.Rngs(0))
    return train(model, loss, (x, segments), key=jax.random.key(1), steps=250, optimizer=optax.adam(1e-2), batch_size=64).model


def reddest(layout):
    """Two classes: whether the square of this layout is red."""
    inside = jnp.asarray(layout == 1, jnp.float32)
    return Partial(lambda m, x: jnp.stack([jnp.zeros(()), 10 * ((m * x[..., 0]).sum() / m.sum() - 0.5)]), inside)


def dark(n):
    """Scenes of which the square is not red."""
    x, segments = scenes(n)
    return jnp.where((segments == 1)[..., None], x * jnp.asarray([0.4, 1, 1]), x), segments


def test_the_autoencoder_learns_scenes_and_changes_one_part_at_a_time(trained):
    x, segments = scenes(16)
    error, parts = loss(trained, x, segments)
    assert error < 0.1 * float(x.var()) and parts == {"reconstruction": error}
    one = trained.decode(trained.encode(x[3], segments[3]), segments[3])
    assert np.allclose(loss(trained, x[3:4], segments[3:4])[0], ((one - x[3]) ** 2).mean(), rtol=1e-4)
    codes = trained.encode(x[0], segments[0])
    assert codes.shape == (3, 4)
    before = trained.decode(codes, segments[0])
    for part in range(3):
        after = trained.decode(codes.at[part].add(1.0), segments[0])
        moved = np.abs(np.asarray(after - before)).max(-1) > 0
        assert np.array_equal(moved, np.asarray(segments[0]) == part)


def test_only_the_chosen_part_moves(trained):
    x, segments = (v[0] for v in dark(1))
    f, start = reddest(segments), trained.encode(x, segments)
    options = dict(generator=trained, segments=segments, steps=300, learning_rate=0.05, proximity=0.01)
    found = steex(f, x, 1, parts=(1,), **options)
    other = np.asarray(segments) != 1
    assert bool(found.valid) and np.allclose(found.latent[jnp.asarray([0, 2])], start[jnp.asarray([0, 2])], atol=1e-6)
    assert np.allclose(np.asarray(found.x)[other], np.asarray(trained.decode(start, segments))[other], atol=1e-5)
    assert np.asarray(found.x)[~other, 0].mean() > np.asarray(x)[~other, 0].mean() + 0.1
    # The stripe does not matter to this model.
    assert not bool(steex(f, x, 1, parts=(2,), **{**options, "steps": 30}).valid)
    assert bool(steex(f, x, 1, **options).valid)


def test_the_search_settles_where_the_price_balances_the_gain():
    x, segments = (v[0] for v in dark(1))
    f, price = reddest(segments), 2.0
    options = dict(generator=Colours(3), segments=segments, proximity=price, threshold=1.0, steps=400, learning_rate=0.02, optimizer=optax.sgd)
    found = steex(f, x, 1, parts=(1,), clip=None, **options)
    off = found.latent - Colours(3).encode(x, segments)
    # d/dz (log σ(10 (z − ½)) − λ (z − z₀)²) = 0 for the red of the square.
    assert np.allclose(10 * (1 - jax.nn.sigmoid(found.logits[1])), 2 * price * off[1, 0], atol=1e-3)
    assert not bool(found.valid) and np.allclose(np.delete(np.asarray(off), 3), 0, atol=1e-6)


@pytest.mark.slow
def test_batched_equals_one_at_a_time_with_layouts_of_examples():
    x, segments = dark(3)
    f = reddest(segments[0])
    options = dict(generator=Colours(3), parts=(0, 1), steps=40, learning_rate=0.03)
    targets = 1 - np.asarray(jax.vmap(f)(x).argmax(1))
    found = run(steex.search(segments=segments[0], **options), f, x, targets, per_example={"segments": segments}, batch_size=2, block=7)
    each = jax.vmap(lambda v, t, s: steex(f, v, t, segments=s, **options))(x, jnp.asarray(targets), segments)
    same(found, each)
    same(jax.tree.map(lambda leaf: leaf[2], found), steex(f, x[2], int(targets[2]), segments=segments[2], **options))


def test_bad_input_is_named(trained):
    x, segments = (v[0] for v in dark(1))
    f = reddest(segments)
    for options, message in [
        ({"parts": (3,)}, r"parts=\(3,\) must be labels in \[0, 3\)"),
        ({"parts": ()}, r"parts=\(\) must be labels"),
        ({"segments": segments[:2]}, "segments must be integer labels"),
        ({"segments": segments * 1.0}, "segments must be integer labels"),
        ({"proximity": -1.0}, "proximity=-1.0"),
        ({"threshold": 2.0}, "threshold=2.0"),
        ({"generator": f}, "must have a method encode"),
        ({"generator": SemanticAutoencoder(3, 1, rngs=nnx.Rngs(0))}, r"x must be one image \[H, W, 1\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            steex(f, x, 1, **{"generator": trained, "segments": segments, **options})
    with pytest.raises(ValueError, match="codes must have shape"):
        trained.decode(jnp.zeros((2, 4)), segments)
    with pytest.raises(ValueError, match="integer labels of shape"):
        trained.encode(x, segments[:3])
