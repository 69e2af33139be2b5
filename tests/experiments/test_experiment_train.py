"""The training experiment writes a mean that can be recomputed from the weights that it saved, and goes on where it was stopped."""

import json

import jax
import numpy as np
import pytest
from flax import nnx

from experiments.training import recipes
from experiments.training import train as experiment
from jxai.evaluate.record import folder

pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
pytestmark = pytest.mark.usefixtures("quick_compilation")


def run(name, out, **options):
    config = experiment.Config(name, "digits", batch_size=32, out=str(out), **options)
    (row,) = experiment.run(config)
    here = folder(config)
    assert json.loads((here / "results.json").read_text())["rows"][0]["mean"] == row["mean"]
    assert (here / "samples.png").stat().st_size > 1000 and len(np.load(here / "history.npz")["loss" if name != "wgan_gp" else "critic_loss"]) == config.steps
    return config, row, here


@pytest.mark.slow
def test_autoencoder(tmp_path):
    config, row, here = run("vae", tmp_path, steps=150)
    model = recipes.load(here)
    _, test = experiment.splits(config)
    x = np.float32(test.x) / 255
    mse = ((np.asarray(jax.vmap(lambda v: model.decode(model.encode(v)))(x)) - x) ** 2).mean()
    np.testing.assert_allclose(row["mean"], mse, rtol=1e-4)
    assert row["n"] == 360 and row["mean"] < 0.9 * x.var(0).mean() and row["measure"] == "reconstruction_mse" and row["more"]["accepted"] is False
    (again,) = experiment.run(config, lambda progress: pytest.fail("nothing was left to do"))
    assert again["mean"] == row["mean"]


@pytest.mark.slow
def test_flow_beats_independent_pixels_that_are_uniform(tmp_path):
    config, row, here = run("realnvp", tmp_path, steps=20, hidden=8, depth=2, limit=400)
    _, test = experiment.splits(config)
    flow, keys = recipes.load(here), jax.random.split(jax.random.key(9), len(test.x))
    bits = jax.jit(jax.vmap(lambda v, k: flow.bits_per_dim(v, k, levels=17)))(np.float32(test.x) / 255, keys)
    assert row["mean"] == pytest.approx(float(bits.mean()), abs=0.02)  # other noise
    assert row["measure"] == "bits_per_dim" and row["mean"] < np.log2(17)


@pytest.mark.slow
def test_adversarial(tmp_path):
    _, row, _ = run("wgan_gp", tmp_path, steps=3, limit=200)
    assert row["measure"] == "distance" and np.isfinite(row["mean"])


def test_all_models_are_built_and_bad_names_are_refused():
    for name, recipe in recipes.recipes().items():
        config = experiment.Config(name, "digits")
        shape = (32, 32, 1) if name == "btcvae" else (8, 8, 1)
        model = nnx.eval_shape(lambda recipe=recipe, config=config, shape=shape: recipe.build(config, shape, nnx.Rngs(0)))
        assert (
            hasattr(model, "sample")
            and recipe.measure in recipes.MEASURES
            and callable(recipe.loss(config, 100)) != isinstance(recipe.loss(config, 100), tuple)
        )
    with pytest.raises(FileNotFoundError, match="no trained model in nowhere/model"):
        recipes.load("nowhere")
    for options, message in (
        ({"model": "diffusion", "dataset": "digits"}, "model='diffusion' must be one of"),
        ({"model": "vae", "dataset": "cifar10"}, "dataset='cifar10' must be one of"),
        ({"model": "vae", "dataset": "digits", "learning_rate": -1.0}, "learning_rate=-1.0 must lie in"),
        ({"model": "vae", "dataset": "digits", "steps": 0}, "steps=0 must be"),
    ):
        with pytest.raises(ValueError, match=message):
            experiment.run(experiment.Config(**options))
