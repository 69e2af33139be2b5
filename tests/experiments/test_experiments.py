"""Every experiment runs, writes its results with n and intervals, and a row of them is recomputed from the routines alone."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.attribution import attribution_benchmark, pointing_game
from experiments.metrics import metric_validity, planted, sanity_checks
from jxai import attribution, data, metrics, taps
from jxai.evaluate.record import folder
from jxai.evaluate.statistics import mean_interval
from jxai.evaluate.tasks import methods as tasks_of
from jxai.models import available

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def digits():
    """Five digits, the net that reads them, and its answers."""
    source, built = data.Digits(), available()["digits_cnn"].build()
    x = np.stack([np.float32(source[i].pixels) / 255 for i in range(5)])
    return built.model, x, np.asarray(jax.vmap(built.model)(x)).argmax(1), source


def results(config):
    content = json.loads((folder(config) / "results.json").read_text())
    assert content["seconds"] > 0 and content["config"]["seed"] == 0 and "jax" in content["runs"][0]["versions"]
    assert all({"mean", "low", "high", "n"} <= set(row) for row in content["rows"] if row.get("asked") != "verdict")
    return content["rows"]


def row(rows, **names):
    found = [row for row in rows if all(row.get(name) == value for name, value in names.items())]
    assert len(found) == 1
    return found[0]


@pytest.mark.slow
def test_attribution_benchmark(tmp_path, digits, monkeypatch):
    names = "gradient,grad_cam,sobol,rise,occlusion"
    config = attribution_benchmark.Config("digits", "digits_cnn", limit=5, passes=130, steps=4, methods=names, out=str(tmp_path))
    monkeypatch.setattr(attribution_benchmark, "judges", lambda config: {"deletion": (metrics.deletion, {"steps": 4}), "sparseness": metrics.sparseness})
    attribution_benchmark.run(config)
    f, x, target, source = digits
    maps = [attribution.grad_cam(f, v, t) for v, t in zip(x, target)]
    found = row(results(config), method="grad_cam", metric="deletion")
    # Ties are broken at random, and the upsampled maps of so small an image have some: the mean is allowed a little.
    aucs = [float(metrics.deletion(f, v, t, a, steps=4).auc) for v, t, a in zip(x, target, maps)]
    assert found["mean"] == pytest.approx(np.mean(aucs), abs=0.05) and found["n"] == 5
    sparse = row(results(config), method="grad_cam", metric="sparseness")
    values = np.asarray([metrics.sparseness(f, v, t, a) for v, t, a in zip(x, target, maps)])
    assert (sparse["mean"], sparse["low"], sparse["high"]) == pytest.approx(mean_interval(values)[:3], rel=1e-4)
    difference = row(results(config), method="sobol − rise", metric="sparseness")
    both = [row(results(config), method=m, metric="sparseness")["mean"] for m in ("sobol", "rise")]
    assert difference["mean"] == pytest.approx(both[0] - both[1], abs=1e-6) and difference["low"] <= difference["mean"] <= difference["high"]


@pytest.mark.slow
def test_budgets_of_the_benchmark_are_equal():
    """Counted: RISE, Sobol, HSIC, occlusion and EVA's hybrid take the same number of forward passes, to a few."""
    config = attribution_benchmark.Config(methods="rise,sobol,hsic,occlusion,feature_ablation,eva")
    count, size = [0], 56

    def f(x):
        jax.debug.callback(lambda _: count.__setitem__(0, count[0] + 1), x.ravel()[0])
        return jnp.tanh(x).mean((0, 1))

    x = np.random.default_rng(0).uniform(size=(1, size, size, 3)).astype(np.float32)
    layer = taps.find(f, jnp.asarray(x[0])).index
    for label, (method, options) in list(attribution_benchmark.methods(config, size, layer).items())[2:]:
        count[0] = 0
        jax.block_until_ready(jax.jit(lambda x: method(f, x, 1, jax.random.key(0), chunk=1, **options))(x[0]))
        jax.effects_barrier()
        assert abs(count[0] - config.passes) <= 0.15 * config.passes, (label, count[0])


@pytest.mark.slow
def test_pointing_game(tmp_path, digits, monkeypatch):
    every = pointing_game.methods
    monkeypatch.setattr(pointing_game, "methods", lambda *given: {name: every(*given)[name] for name in ("centre", "abs:gradient")})
    config = pointing_game.Config("digits", model="digits_cnn", limit=5, passes=130, steps=4, tolerance=0.0, out=str(tmp_path))
    pointing_game.run(config)
    f, x, target, source = digits
    right = [i for i in range(5) if source[i].label == target[i]]
    hits = [float(metrics.pointing_game(f, x[i], target[i], np.abs(attribution.gradient(f, x[i], target[i])), mask=source[i].mask)) for i in right]
    found = row(results(config), images="all", method="abs:gradient", metric="pointing_game")
    assert found["mean"] == pytest.approx(np.mean(hits)) and found["n"] == len(right)
    assert row(results(config), images="difficult", method="centre", metric="relevance_rank")["n"] <= len(right)


@pytest.mark.slow
def test_sanity_checks(tmp_path, digits, monkeypatch):
    chosen = {name: given for name, given in sanity_checks.methods().items() if name in ("gradient", "guided_backprop")}
    monkeypatch.setattr(sanity_checks, "methods", lambda: chosen)
    monkeypatch.setattr(sanity_checks, "judges", lambda: {"spearman": metrics.parameter_randomization})
    config = sanity_checks.Config("digits", "digits_cnn", limit=3, out=str(tmp_path))
    sanity_checks.run(config)
    f, x, target, source = digits
    # The evaluation's networks are those of its seed's key, for every image.
    judged = [
        metrics.parameter_randomization(
            f, x[i], target[i], attribution.gradient(f, x[i], target[i]), jax.random.key(9), method=attribution.gradient, weights_key=jax.random.key(0)
        )
        for i in range(3)
    ]
    found = row(results(config), method="gradient", metric="spearman", at="end")
    assert found["mean"] == pytest.approx(np.mean([float(c.y[-1]) for c in judged]), abs=2e-3)
    assert found["more"]["published"] == "passes" and np.allclose(found["more"]["curve"], np.mean([c.y for c in judged], 0), atol=2e-3)


@pytest.mark.slow
def test_metric_validity(tmp_path, monkeypatch):
    names = "deletion,energy_pointing,sparseness"
    config = metric_validity.Config("digits", images=8, train=200, steps=20, names=names, out=str(tmp_path))
    metric_validity.run(config)
    rows = results(config)
    # Recomputed: the share of images of the linear world on which the truth is pointed at better than noise.
    f, x, target, truth, mask = metric_validity.linear_world(config)
    maps = metric_validity.ladder(truth, 0)

    def positive_share(a):
        positive = np.maximum(a[..., 0], 0)
        return (positive * mask).sum((1, 2)) / positive.sum((1, 2))

    better = positive_share(maps["1.0"]) > positive_share(maps["0.0"])
    assert row(rows, world="linear", metric="energy_pointing", asked="beats_noise")["mean"] == better.mean()
    # In the linear world, deleting by the truth is optimal, and its negative is the worst order of all.
    assert row(rows, world="linear", metric="deletion", asked="beats_turned")["mean"] == 1
    assert {r["metric"] for r in rows if r["asked"] == "verdict"} == set(names.split(","))


def test_the_linear_world_is_explained_exactly_by_its_truth():
    config = metric_validity.Config(images=4)
    f, x, target, truth, mask = metric_validity.linear_world(config)
    for v, t, a in zip(x, target, truth):
        assert np.allclose(truth_of := attribution.input_x_gradient(f, v, int(t)), a, atol=1e-6), truth_of
        assert metrics.completeness_error(f, v, int(t), a) < 1e-5
    assert np.allclose(mask.mean((1, 2)), 0.1, atol=0.01)


def test_planted_digits_are_where_their_masks_are():
    source = data.Digits()
    found = planted.plant(source, np.arange(6), 0)
    assert found.x.shape == (6, 40, 40, 3) and found.x.min() >= 0 and found.x.max() <= 1
    for i in range(6):
        ink = np.kron(source[i].pixels[..., 0] > 127, np.ones((2, 2)))
        rows, columns = np.flatnonzero(found.mask[i].any(1)), np.flatnonzero(found.mask[i].any(0))
        seen = found.mask[i][rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        there = ink[ink.any(1)][:, ink.any(0)]
        assert found.label[i] == source[i].label and found.mask[i].sum() == ink.sum() and seen.shape >= there.shape
        assert found.x[i][found.mask[i]].mean() > found.x[i][~found.mask[i]].mean() + 0.1


def test_methods_of_the_benchmark_are_those_of_the_library():
    config = attribution_benchmark.Config(methods="all")
    given = attribution_benchmark.methods(config, 224, 141)
    assert set(attribution.__all__) - set(given) == {"uncertainty_path"} and {"random", "edges"} <= set(given)
    small = data.Arrays(np.zeros((2, 16, 16, 3), np.uint8))
    assert [task.label for task in tasks_of(given, small, (16, 16, 3), None)] == list(given)
