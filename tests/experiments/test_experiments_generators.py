"""The experiments on robust networks' counterfactuals and on generators as priors run, and their rows are what the routines give."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.counterfactual import generative_regularizers, sparse_vce
from jxai import counterfactual
from jxai.counterfactual.operators import Inpaint, ParallelBeam, gaussian
from jxai.evaluate.record import folder
from jxai.models import ordinary as trained

pytestmark = pytest.mark.usefixtures("quick_compilation")


def ran(experiment, config):
    try:
        rows = experiment.run(config)
    except (FileNotFoundError, ValueError) as error:
        pytest.skip(f"needs the data set mnist and trained weights: {error}")
    assert len(json.loads((folder(config) / "results.json").read_text())["rows"]) == len(rows)
    return rows


@pytest.mark.slow
def test_sparse_vce(tmp_path):
    config = sparse_vce.Config(images=2, seeds=1, train=1024, neighbours=64, norms=(1.5,), budgets=(20,), steps=10, out=str(tmp_path))
    rows = ran(sparse_vce, config)
    assert (folder(config) / "counterfactuals.png").stat().st_size > 1000
    networks = sparse_vce.trained_networks(0, config)[0]
    x, target = sparse_vce.cases(list(networks.values()), *trained.mnist("test", 8, 0), 2)
    f = networks["robust"]
    found = counterfactual.run(counterfactual.sparse_vce.search(radius=20 ** (1 / 1.5), p=1.5, steps=10), f, x, target)
    d = (found.x - x[:, None]).reshape(2, 9, -1)
    assert ((np.abs(d) ** 1.5).sum(-1) < 20.01).all() and found.x.min() >= 0 and found.x.max() <= 1
    row = {r["metric"]: r for r in rows if r["network"] == "robust" and r["seed"] == "all"}
    chosen = np.take_along_axis(np.asarray(jax.nn.softmax(found.logits, -1)), target[..., None], -1)
    assert row["probability"]["mean"] == pytest.approx(chosen.mean(), rel=1e-3) and row["probability"]["n"] == 2
    assert row["valid"]["mean"] == pytest.approx(found.valid.mean())
    said = np.asarray(jax.vmap(jax.vmap(sparse_vce.lenet()))(found.x)).argmax(-1)
    assert row["valid and LeNet-5 agrees"]["mean"] == pytest.approx((found.valid & (said == target)).mean())
    some = found.valid.any(1)
    per_image = lambda values: [values[i][found.valid[i]].mean() for i in np.flatnonzero(some)]
    assert row["L1"]["n"] == some.sum() and (not some.any() or row["L1"]["mean"] == pytest.approx(np.mean(per_image(np.abs(d).sum(-1))), rel=1e-3))
    plain = {r["metric"]: r["mean"] for r in rows if r["network"] == "ordinary" and r["seed"] == "all"}
    # The network that was tuned on adversarial examples is harder to deceive.
    assert {r["metric"]: r["mean"] for r in rows if r["network"] == "l2-robust" and r["seed"] == "all"}["probability"] < plain["probability"]
    difference = {r["metric"]: r["mean"] for r in rows if r["network"] == "robust − ordinary"}
    assert difference["valid"] == pytest.approx(row["valid"]["mean"] - plain["valid"])


@pytest.mark.slow
def test_generative_regularizers(tmp_path):
    config = generative_regularizers.Config(images=1, tuning=3, seeds=1, problems=("deblurring",), scales=(10.0,), steps=20, out=str(tmp_path))
    rows = ran(generative_regularizers, config)
    assert (folder(config) / "reconstructions.png").stat().st_size > 1000
    generator = generative_regularizers.models.generators()["mnist_vae"]()
    x = generative_regularizers.image_sets(generator, trained.mnist("test", 1, 0)[0])
    operator = generative_regularizers.measuring("deblurring", 0)
    y, variance = generative_regularizers.measured(operator, np.concatenate(list(x.values())), 0.05, 0)
    x, y = x["marked"], y[-1:]
    start = np.clip(generative_regularizers.tikhonov(operator, y, 10 * variance), 0, 1)
    # One at a time, with the convolution in place of its matrix.
    alone = lambda y, x: counterfactual.generative_regularizer(gaussian(1.5), y, generator, x, form="soft", weight=10 * variance, steps=20).x
    found = np.clip([np.asarray(alone(y[i], start[i])) for i in range(1)], 0, 1)
    row = {r["metric"]: r for r in rows if (r["problem"], r["images"], r["form"], r["seed"]) == ("deblurring", "marked", "soft", "all")}
    assert row["MSE"]["mean"] == pytest.approx(((found - x) ** 2).mean(), rel=0.02) and row["MSE"]["n"] == 1 and row["failed"]["mean"] == 0
    assert row["PSNR"]["mean"] == pytest.approx(np.mean(-10 * np.log10(((found - x) ** 2).mean((1, 2, 3)))), rel=0.01)
    blurred = np.asarray(jax.vmap(gaussian(1.5))(found)).reshape(1, -1)
    assert row["misfit"]["mean"] == pytest.approx((((blurred - y) ** 2).sum(1) / variance / y.shape[1]).mean(), rel=0.02)


@pytest.mark.slow
def test_matrices_are_the_operators_and_tikhonov_is_least_squares():
    rng = np.random.default_rng(0)
    x = np.float32(rng.uniform(size=(28, 28, 1)))
    by = {name: generative_regularizers.measuring(name, 3) for name in generative_regularizers.PROBLEMS}
    assert np.allclose(by["deblurring"](x), gaussian(1.5)(x).ravel(), atol=1e-4)
    beams = np.asarray(ParallelBeam(jnp.arange(8) * 22.5)(x)).ravel()
    assert np.allclose(by["tomography"](x), beams[np.abs(beams) > 0], atol=1e-3)
    seen = (np.asarray(by["inpainting"].matrix) == 1).any(0).reshape(28, 28)
    assert seen.sum() == 235 and np.allclose(by["inpainting"](x), np.asarray(Inpaint(seen)(x))[seen].ravel())
    y = rng.normal(size=(2, by["tomography"].matrix.shape[0]))
    a = np.asarray(by["tomography"].matrix, np.float64)
    found = np.float64(generative_regularizers.tikhonov(by["tomography"], y, 0.3).reshape(2, -1))
    # Half of the slope of ‖A x − y‖² + .3 ‖x‖², which is convex, vanishes nowhere else.
    slope = (found @ a.T - y) @ a + 0.3 * found
    assert np.abs(slope).max() < 1e-4 * np.abs(y @ a).max() and np.abs(found).max() > 0.1
