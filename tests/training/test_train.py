"""Training is the arithmetic that it says, and goes on after SIGKILL as if nothing had happened."""

import os
import signal
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jxai import checkpoint
from jxai.data import Arrays
from jxai.models import MLP
from jxai.train import Part, train, train_seeds

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(0)


def squares(model, x, y, key):
    """Least squares of a linear model `{"w": [D]}`."""
    return ((x @ model["w"] - y) ** 2).mean(), {}


def noisy(model, x, y, key):
    """A loss of a network that draws, too."""
    x = x + 0.1 * jax.random.normal(key, x.shape)
    loss = optax.softmax_cross_entropy_with_integer_labels(jax.vmap(model)(x), y).mean()
    return loss, {"confidence": jax.nn.softmax(jax.vmap(model)(x)).max(1).mean()}


def blobs(n=60, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    return (np.eye(3)[y] + rng.normal(size=(n, 3)) / 2).astype(np.float32), y.astype(np.int32)


def mlp(key):
    return MLP(3, (8,), 3, rngs=nnx.Rngs(key))


def same(a, b):
    return all(np.array_equal(u, v) for u, v in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_equals_gradient_descent_by_hand():
    """With whole-batch steps and SGD: w ← w − η · 2/n Xᵀ(Xw − y), in float64."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 3)).astype(np.float32), rng.normal(size=12).astype(np.float32)
    w, losses = np.zeros(3), []
    for _ in range(25):
        losses.append(((x @ w - y) ** 2).mean())
        w = w - 0.1 * 2 / 12 * x.T @ (x @ w - y)
    done = train({"w": jnp.zeros(3), "note": "static", "count": np.int32(7)}, squares, (x, y), key=KEY, steps=25, optimizer=optax.sgd(0.1), batch_size=12)
    np.testing.assert_allclose(done.model["w"], w, rtol=1e-5)
    np.testing.assert_allclose(done.history["loss"], losses, rtol=1e-5)
    assert done.model["note"] == "static" and done.model["count"] == 7 and (done.steps, done.outcome) == (25, "finished")


def test_an_epoch_sees_every_example_once_in_another_order():
    x = np.float32(2.0 ** np.arange(20))[:, None]
    see = lambda model, x, y, key: (model["w"].sum() * 0, {"sum": x.sum(), "labels": y.sum()})
    done = train({"w": jnp.ones(1)}, see, (x, x[:, 0]), key=KEY, epochs=3, batch_size=5, block=3)
    sums = done.history["sum"].reshape(3, 4)
    assert (sums.sum(1) == 2**20 - 1).all() and len(np.unique(sums)) == 12
    np.testing.assert_array_equal(done.history["labels"], done.history["sum"])


def test_pixels_and_sources_are_the_same_data():
    pixels = np.random.default_rng(0).integers(0, 256, (10, 2, 2, 1)).astype(np.uint8)
    labels = np.arange(10, dtype=np.int32)
    see = lambda model, x, y, key: ((model["w"] - x.mean()) ** 2, {"label": y.astype(jnp.float32).sum()})
    options = {"key": KEY, "steps": 4, "batch_size": 3}
    runs = [train({"w": jnp.float32(0)}, see, d, **options) for d in ((pixels, labels), Arrays(pixels, labels), (np.float32(pixels) / 255, labels))]
    for other in runs[1:]:
        np.testing.assert_allclose(runs[0].history["loss"], other.history["loss"], rtol=1e-5)
        np.testing.assert_array_equal(runs[0].history["label"], other.history["label"])


def test_another_training_of_the_same_loss_compiles_nothing_anew():
    @chex.assert_max_traces(n=1)
    def loss(model, x, y, key):
        return squares(model, x, y, key)

    x, y = blobs()
    for steps, seed in ((3, 0), (7, 1)):
        train({"w": jnp.full(3, seed + 1.0)}, loss, (x + seed, np.float32(y)), key=jax.random.key(seed), steps=steps, batch_size=20)


def test_only_parameters_of_a_module_are_trained():
    class Net(nnx.Module):
        def __init__(self):
            self.w, self.statistic, self.rngs = nnx.Param(jnp.ones(())), nnx.BatchStat(jnp.ones(())), nnx.Rngs(0)

    loss = lambda model, x, y, key: ((model.w[...] + model.statistic[...]) ** 2, {})
    done = train(Net(), loss, np.ones((4, 1), np.float32), key=KEY, steps=1, batch_size=4, optimizer=optax.sgd(0.25)).model
    assert done.w[...] == 0 and done.statistic[...] == 1 and isinstance(done.rngs, nnx.Rngs)


# One optimizer for all, so that trainings of one loss are one program.
OPTIONS = {"key": jax.random.key(3), "steps": 45, "batch_size": 20, "every": 10, "block": 4, "optimizer": optax.adam(0.05)}

CHILD = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import test_train as t
def kill(progress):
    if progress.done >= 28:
        os.kill(os.getpid(), signal.SIGKILL)
t.train(t.mlp(0), t.noisy, t.blobs(), validation=t.blobs(30, 1), checkpoint=sys.argv[2], on_progress=kill, **t.OPTIONS)
"""


def test_a_killed_training_goes_on_as_if_nothing_had_happened(tmp_path):
    """Weights and history to the bit, though SIGKILL fell between two checkpoints, in the middle of an epoch and of a block."""
    environment = {**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", CHILD, os.path.dirname(__file__), tmp_path / "run"], env=environment, check=False, capture_output=True, timeout=300
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    assert checkpoint.steps(tmp_path / "run") == [10, 20]
    seen = []
    options = {**OPTIONS, "validation": blobs(30, 1)}
    resumed = train(mlp(0), noisy, blobs(), checkpoint=tmp_path / "run", on_progress=seen.append, **options)
    assert (seen[0].fresh, seen[0].done) == (4, 24) and (seen[-1].done, seen[-1].total) == (45, 45)
    whole = train(mlp(0), noisy, blobs(), **options)
    assert same(whole.model, resumed.model) and whole.history.keys() == resumed.history.keys()
    for name, values in whole.history.items():
        np.testing.assert_array_equal(values, resumed.history[name])
    assert whole.history["validation/step"].tolist() == [10, 20, 30, 40, 45] and len(whole.history["loss"]) == 45
    assert whole.history["loss"][-5:].mean() < whole.history["loss"][:5].mean()


def test_interruption_passes_on_and_a_longer_training_goes_on(tmp_path):
    def interrupt(progress):
        if progress.done >= 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(mlp(0), noisy, blobs(), checkpoint=tmp_path, on_progress=interrupt, **OPTIONS)
    train(mlp(0), noisy, blobs(), checkpoint=tmp_path, **{**OPTIONS, "steps": 25})
    longer = train(mlp(0), noisy, blobs(), checkpoint=tmp_path, **OPTIONS)
    assert same(longer.model, train(mlp(0), noisy, blobs(), **OPTIONS).model)
    again = train(mlp(0), noisy, blobs(), checkpoint=tmp_path, on_progress=lambda p: pytest.fail("nothing was left to do"), **OPTIONS)
    assert same(again.model, longer.model)
    for changed in ({"batch_size": 15}, {"key": jax.random.key(4)}, {"every": 5}, {"validation": blobs(9)}):
        with pytest.raises(ValueError, match=f"belongs to a training with other {next(iter(changed))}"):
            train(mlp(0), noisy, blobs(), checkpoint=tmp_path, **{**OPTIONS, **changed})
    with pytest.raises(ValueError, match="other data"):
        train(mlp(0), noisy, blobs(seed=2), checkpoint=tmp_path, **OPTIONS)
    with pytest.raises(ValueError, match="other initialisation, model, program"):
        train(MLP(3, (9,), 3, rngs=nnx.Rngs(0)), noisy, blobs(), checkpoint=tmp_path, **OPTIONS)


def test_seeds_at_once_equal_seeds_one_by_one(tmp_path):
    keys = jax.random.split(jax.random.key(5), 3)
    options = {k: v for k, v in OPTIONS.items() if k != "key"} | {"validation": blobs(30, 1), "patience": 2}
    together = train_seeds(mlp, noisy, blobs(), keys=keys, **options)
    for key, one in zip(keys, together, strict=True):
        alone = train(mlp(key), noisy, blobs(), key=key, **options)
        assert (one.steps, one.outcome) == (alone.steps, alone.outcome)
        for name, values in alone.history.items():
            np.testing.assert_allclose(one.history[name], values, rtol=1e-4, atol=1e-5)
        chex.assert_trees_all_close(nnx.state(one.model), nnx.state(alone.model), rtol=1e-4, atol=1e-5)
    assert len({one.history["loss"][0] for one in together}) == 3

    def interrupt(progress):
        if progress.done >= 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_seeds(mlp, noisy, blobs(), keys=keys, checkpoint=tmp_path, on_progress=interrupt, **options)
    resumed = train_seeds(mlp, noisy, blobs(), keys=keys, checkpoint=tmp_path, **options)
    assert all(same(a.model, b.model) for a, b in zip(together, resumed, strict=True))


def test_validation_keeps_the_best_and_ends_the_training():
    """w walks from 0 to 1 in steps of a tenth of what is left; by the validation data .5 is best, and nearest to it is w = 1 − .9⁷."""
    loss = lambda model, x, y, key: ((model["w"] - x.mean()) ** 2, {})
    ones = np.ones((4, 1), np.float32)
    options = {"key": KEY, "steps": 100, "batch_size": 4, "optimizer": optax.sgd(0.05), "every": 1, "validation": ones / 2}
    done = train({"w": jnp.float32(0)}, loss, ones, patience=3, **options)
    assert (done.outcome, done.steps) == ("patience", 10)
    np.testing.assert_allclose(done.model["w"], 1 - 0.9**7, rtol=1e-5)
    np.testing.assert_allclose(done.history["validation/loss"], (0.5 - 0.9 ** np.arange(1, 11)) ** 2, rtol=1e-4, atol=1e-7)
    assert train({"w": jnp.float32(0)}, loss, ones, **options).outcome == "finished"


def test_divergence_ends_the_training_with_finite_weights():
    x, y = blobs()
    done = train({"w": jnp.zeros(3)}, squares, (x, np.float32(y)), key=KEY, steps=200, batch_size=20, optimizer=optax.sgd(1e6))
    assert done.outcome == "diverged" and done.steps < 200 and np.isfinite(done.model["w"]).all() and not np.isfinite(done.history["loss"]).all()


def test_parts_alternate():
    """Two players of a bilinear game, the second at twice the steps, by hand; each sees what the other did before."""
    first = lambda model, x, y, key: (model["a"]["w"] * model["b"], {"seen": model["b"]})
    second = lambda model, x, y, key: (-model["a"]["w"] * model["b"] + model["b"] ** 2 / 2, {})
    parts = [Part(second, optax.sgd(0.1), ("b",), 2, "critic"), Part(first, optax.sgd(0.5), ("a.w",), 1, "generator")]
    start = {"a": {"w": jnp.float32(1), "untouched": jnp.float32(3)}, "b": jnp.float32(0.5)}
    done = train(start, parts, np.ones((9, 1), np.float32), key=KEY, steps=7, batch_size=3)
    a, b, seen = 1.0, 0.5, []
    for _ in range(7):
        for _ in range(2):
            b -= 0.1 * (b - a)
        seen.append(b)
        a -= 0.5 * b
    np.testing.assert_allclose([done.model["a"]["w"], done.model["b"]], [a, b], rtol=1e-5)
    np.testing.assert_allclose(done.history["generator/seen"], seen, rtol=1e-5)
    assert done.model["a"]["untouched"] == 3 and set(done.history) == {"critic/loss", "generator/loss", "generator/seen"}


def test_a_part_may_see_the_batches_of_the_one_before_again():
    seen = lambda name: lambda model, x, y, key: (model[name] * 0, {"sum": x.sum()})
    parts = [Part(seen("a"), optax.sgd(0.1), ("a",), 2, "new"), Part(seen("b"), optax.sgd(0.1), ("b",), 1, "again", True)]
    x = 2.0 ** np.arange(8, dtype=np.float32)[:, None]
    done = train({"a": jnp.float32(0), "b": jnp.float32(0)}, parts, x, key=KEY, epochs=1, batch_size=2)
    # Two updates on two batches each, of which the second is seen twice: an epoch is still every example once.
    assert done.steps == 2 and 2 * done.history["new/sum"].sum() == x.sum()
    second = done.history["again/sum"].astype(int)
    first = (2 * done.history["new/sum"]).astype(int) - second
    assert all(bin(v).count("1") == 2 for v in (*first, *second)) and np.bitwise_or.reduce([*first, *second]) == 255


X, Y = blobs()
FIT = {"key": KEY, "steps": 1, "batch_size": 10}
BAD = {
    "batch_size=61 times 1 batches in a step is more than the 60 examples": lambda: train(mlp(0), noisy, (X, Y), **{**FIT, "batch_size": 61}),
    "batch_size=40 times 2 batches": lambda: train(mlp(0), [Part(noisy, optax.sgd(1.0), steps=2)], (X, Y), **{**FIT, "batch_size": 40}),
    "batch_size=0 must be": lambda: train(mlp(0), noisy, (X, Y), **{**FIT, "batch_size": 0}),
    "optimizer=0.1 must be an optax transformation": lambda: train(mlp(0), noisy, (X, Y), optimizer=0.1, **FIT),
    "steps=None or epochs=None": lambda: train(mlp(0), noisy, (X, Y), key=KEY, batch_size=10),
    "steps=1 or epochs=2": lambda: train(mlp(0), noisy, (X, Y), epochs=2, **FIT),
    "steps=-1 must be": lambda: train(mlp(0), noisy, (X, Y), **{**FIT, "steps": -1}),
    "every=0 must be": lambda: train(mlp(0), noisy, (X, Y), every=0, **FIT),
    "block=0 must be": lambda: train(mlp(0), noisy, (X, Y), block=0, **FIT),
    "patience=3 needs validation": lambda: train(mlp(0), noisy, (X, Y), patience=3, **FIT),
    "train draws random numbers: key=None": lambda: train(mlp(0), noisy, (X, Y), **{**FIT, "key": None}),
    "data must be floating-point or uint8": lambda: train(mlp(0), noisy, (Y, Y), **FIT),
    "data must be finite": lambda: train(mlp(0), noisy, (X * np.nan, Y), **FIT),
    "data has 60 examples and labels of shape (59,)": lambda: train(mlp(0), noisy, (X, Y[1:]), **FIT),
    "validation must be": lambda: train(mlp(0), noisy, (X, Y), validation=(X, Y, Y), **FIT),
    "loss=3 must be a function": lambda: train(mlp(0), 3, (X, Y), **FIT),
    "loss must return (scalar, {name: scalar}), got ()": lambda: train({"w": jnp.ones(3)}, lambda m, x, y, k: (x @ m["w"]).sum(), (X, Y), **FIT),
    "got ((10,), {})": lambda: train({"w": jnp.ones(3)}, lambda m, x, y, k: (x @ m["w"], {}), (X, Y), **FIT),
    "loss must be a function": lambda: train(mlp(0), [noisy], (X, Y), **FIT),
    "optimizer says nothing about parts": lambda: train(mlp(0), [Part(noisy, optax.sgd(1.0))], (X, Y), optimizer=optax.sgd(1.0), **FIT),
    "parts[0] sees 1 batches again, but the parts before it take 0": lambda: train(mlp(0), [Part(noisy, optax.sgd(1.0), again=True)], (X, Y), **FIT),
    "parts must have different names": lambda: train(mlp(0), [Part(noisy, optax.sgd(1.0))] * 2, (X, Y), **FIT),
    "trains=('critic',) names no weights of the model, which has layers": lambda: train(mlp(0), [Part(noisy, optax.sgd(1.0), ("critic",))], (X, Y), **FIT),
    "names no weights of the model, which has none": lambda: train({"w": 1}, noisy, (X, Y), **FIT),
    "keys must be [S] PRNG keys": lambda: train_seeds(mlp, noisy, (X, Y), keys=KEY, steps=1),
    "unknown options rate": lambda: train_seeds(mlp, noisy, (X, Y), keys=jax.random.split(KEY), rate=1),
    "models of one structure": lambda: train_seeds(
        lambda key: MLP(3, (int(jax.random.key_data(key)[0] % 7) + 2,), 3, rngs=nnx.Rngs(0)), noisy, (X, Y), keys=jax.random.split(KEY), steps=1, batch_size=9
    ),
    "step=-1 must be": lambda: checkpoint.save("nowhere", -1, {}),
    "keep=0 must be": lambda: checkpoint.save("nowhere", 0, {}, keep=0),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input(message):
    with pytest.raises(ValueError) as error:
        BAD[message]()
    assert message in str(error.value)
