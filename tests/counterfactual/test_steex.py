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
    return x.astype(np.float32), segments


@pytest.fixture(scope="module")
def trained():
    x, segments = scenes(32)
    model = SemanticAutoencoder(3, 3, code=4, features=8, hidden=16, rngs=nnx.Rngs(0))
    return train(model, loss, (x, segments), key=jax.random.key(1), steps=250, optimizer=optax.adam(1e-2), batch_size=32).model


def reddest(layout):
    """Two classes: whether the square of this layout is red."""
    return Partial(_red, (layout == 1).astype(np.float32))


def _red(m, x):
    return jnp.stack([jnp.zeros(()), 10 * ((m * x[..., 0]).sum() / m.sum() - 0.5)])


def dark(n):
    """Scenes of which the square is not red."""
    x, segments = scenes(n)
    return np.where((segments == 1)[..., None], x * np.float32([0.4, 1, 1]), x), segments


def test_the_autoencoder_learns_scenes_and_changes_one_part_at_a_time(trained):
    x, segments = scenes(16)

    @jax.jit
    def seen(model, x, segments):
        codes = model.encode(x[0], segments[0])
        moved = jnp.concatenate([codes[None], codes + jnp.eye(3)[:, :, None]])  # as it is, and one part further for each part
        rebuilt = jax.vmap(lambda v, s: model.decode(model.encode(v, s), s))(x, segments)
        return loss(model, x, segments), codes, jax.vmap(lambda z: model.decode(z, segments[0]))(moved), rebuilt

    (error, parts), codes, (before, *after), rebuilt = jax.tree.map(np.asarray, seen(trained, x, segments))
    assert error < 0.1 * x.var() and parts == {"reconstruction": error}
    assert np.allclose(error, ((rebuilt - x) ** 2).mean(), rtol=1e-4)
    assert codes.shape == (3, 4)
    for part in range(3):
        moved = np.abs(after[part] - before).max(-1) > 0
        assert np.array_equal(moved, segments[0] == part)


def compiled(f, x, **options):
    return jax.tree.map(np.asarray, jax.jit(lambda f, x: steex(f, x, 1, **options))(f, x))


def test_only_the_chosen_part_moves(trained):
    x, segments = (v[0] for v in dark(1))
    f = reddest(segments)
    go = lambda **options: compiled(f, x, generator=trained, segments=segments, learning_rate=0.05, proximity=0.01, **options)
    found = go(parts=(1,), steps=300)
    start, before = map(np.asarray, jax.jit(lambda x, s: (trained.encode(x, s), trained.decode(trained.encode(x, s), s)))(x, segments))
    other = segments != 1
    assert found.valid and np.allclose(found.latent[[0, 2]], start[[0, 2]], atol=1e-6)
    assert np.allclose(found.x[other], before[other], atol=1e-5)
    assert found.x[~other, 0].mean() > x[~other, 0].mean() + 0.1
    # The stripe does not matter to this model.
    assert not go(parts=(2,), steps=30).valid
    assert go(steps=300).valid


def test_the_search_settles_where_the_price_balances_the_gain():
    x, segments = (v[0] for v in dark(1))
    f, price = reddest(segments), 2.0
    options = dict(generator=Colours(3), segments=segments, proximity=price, threshold=1.0, steps=400, learning_rate=0.02, optimizer=optax.sgd)
    found = compiled(f, x, parts=(1,), clip=None, **options)
    off = found.latent - np.stack([x[segments == part].mean(0) for part in range(3)])
    # d/dz (log σ(10 (z − ½)) − λ (z − z₀)²) = 0 for the red of the square.
    assert np.allclose(10 / (1 + np.exp(found.logits[1])), 2 * price * off[1, 0], atol=1e-3)
    assert not found.valid and np.allclose(np.delete(off, 3), 0, atol=1e-6)


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
    ]:
        with pytest.raises(ValueError, match=message):
            steex(f, x, 1, **{"generator": trained, "segments": segments, **options})
    with pytest.raises(ValueError, match=r"x must be one image \[H, W, 3\]"):
        steex(f, x[..., :1], 1, generator=trained, segments=segments)
    with pytest.raises(ValueError, match="codes must have shape"):
        trained.decode(np.zeros((2, 4), np.float32), segments)
    with pytest.raises(ValueError, match="integer labels of shape"):
        trained.encode(x, segments[:3])
