"""The EVA benchmark runs, its pairs have the sign that they say, and rows of it are recomputed from the routines alone."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.attribution import eva_benchmark
from jxai import attribution, bounds, data, metrics
from jxai.evaluate.record import folder, plain
from jxai.evaluate.statistics import mean_interval
from jxai.models import available
from jxai.models import ordinary as trained

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.mark.slow
def test_eva_benchmark(tmp_path, monkeypatch):
    world = eva_benchmark.World("digits", "digits_cnn", 0.05, 4, bounds=("eva_interval", "eva_crown_ibp"))
    every = eva_benchmark.methods(eva_benchmark.Config(), world, 8)
    monkeypatch.setattr(eva_benchmark, "methods", lambda *_: {name: every[name] for name in ("random", "eva_interval", "eva_crown_ibp", "occlusion")})
    monkeypatch.setattr(eva_benchmark, "judges", lambda _: {"deletion": (metrics.deletion, {"grid": 4, "steps": None})})
    monkeypatch.setattr(eva_benchmark, "WORLDS", {"digits": world})
    config = eva_benchmark.Config("digits", 4, out=str(tmp_path))
    rows = eva_benchmark.run(config)
    assert json.loads((folder(config) / "results.json").read_text())["rows"] == plain(rows)
    by = {row.get("method") or row.get("bound") or row["pair"]: row for row in rows if row["metric"] != "accuracy"}

    f, source = available()["digits_cnn"].build().model, data.Digits()
    x = [jnp.asarray(np.float32(source[i].pixels) / 255) for i in range(4)]
    found = {}
    for name in ("eva_interval", "eva_crown_ibp"):
        judged = jax.jit(
            lambda x, t, bound=name.removeprefix("eva_"): (
                metrics.deletion(f, x, t, attribution.eva(f, x, t, radius=0.05, clip=(0, 1), grid=4, bound=bound), jax.random.key(0), grid=4, steps=None).auc
            )
        )
        found[name] = np.asarray([judged(v, f(v).argmax()) for v in x])
        assert by[name]["mean"] == pytest.approx(found[name].mean(), abs=1e-4) and by[name]["n"] == 4
    # Lower is better of deletion: the pair counts what the tighter bound saves.
    pair = by["eva_crown_ibp − eva_interval"]
    assert pair["mean"] == pytest.approx((found["eva_interval"] - found["eva_crown_ibp"]).mean(), abs=1e-4)
    assert pair["more"]["verdict"] == ("better" if pair["low"] > 0 else "worse" if pair["high"] < 0 else "open")
    ends = [bounds.crown_ibp(f)(bounds.ball(v, 0.05, clip=(0, 1))) for v in x]
    whole = [np.delete(high, c := int(f(v).argmax())).max() - low[c] for v, (low, high) in zip(x, ends)]
    assert [by["crown_ibp"][k] for k in ("mean", "low", "high")] == pytest.approx(mean_interval(np.asarray(whole))[:3], rel=1e-3)
    assert by["alpha_crown"]["mean"] <= by["crown"]["mean"] <= by["crown_ibp"]["mean"] <= by["interval"]["mean"]


def test_black_box_methods_have_equal_budgets_and_eva_has_every_bound():
    config, world = eva_benchmark.Config(), eva_benchmark.WORLDS["mnist_robust"]
    given = eva_benchmark.methods(config, world, 28)
    designs = given["sobol"][1]["num_designs"] * (world.grid**2 + 1)
    assert abs(designs - given["rise"][1]["num_masks"]) <= 0.02 * config.passes
    assert {given[label][1]["bound"] for label in world.bounds} == set(bounds.METHODS)
    assert all({tight, loose} <= set(world.bounds) for tight, loose in eva_benchmark.PAIRS)


@pytest.mark.slow
def test_the_ordinary_network_learns(monkeypatch):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 256)
    pixels = rng.integers(0, 80, (256, 28, 28, 1)).astype(np.uint8)
    pixels[labels == 1, :14] += 150
    source = data.Arrays(pixels, labels)
    monkeypatch.setattr(trained.data, "source", lambda *_, **__: source)
    trained.mnist.cache_clear()
    f = trained.ordinary(0, 256)
    trained.mnist.cache_clear()
    assert (np.asarray(jax.vmap(f)(jnp.asarray(pixels / 255, jnp.float32))).argmax(1) == labels).mean() > 0.95
