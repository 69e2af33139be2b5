"""The experiments on CLUE and on SharpShooter run, and their rows are what the routines say."""

import functools
import json

import jax
import numpy as np
import pytest

from experiments.counterfactual import clue, sharpshooter
from jxai import counterfactual
from jxai.evaluate.record import folder
from jxai.models import generators
from jxai.models import ordinary as trained

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(autouse=True)
def ordinary(monkeypatch):
    """The networks of the experiments, each trained once."""
    kept = functools.cache(trained.ordinary)
    monkeypatch.setattr(clue, "ordinary", kept)
    monkeypatch.setattr(sharpshooter, "ordinary", kept)
    return kept


def rows_of(monkeypatch, module, config, methods):
    """The rows of an experiment with some of its searches, which is quicker, by seed, method and measure, after a look at what it wrote."""
    whole = module.searches
    monkeypatch.setattr(module, "searches", lambda *given: {name: search for name, search in whole(*given).items() if name in methods})
    try:
        rows = module.run(config)
    except (FileNotFoundError, ValueError) as error:
        pytest.skip(f"needs the data set mnist and the weights mnist_vae: {error}")
    assert len(json.loads((folder(config) / "results.json").read_text())["rows"]) == len(rows)
    assert {r["method"] for r in rows} == methods and {r["seed"] for r in rows} == {0, "all"}
    return {(r["seed"], r["method"], r["metric"]): r for r in rows}


def entropy(logits):
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    return -(p * np.log(np.maximum(p, 1e-30))).sum(-1)


@pytest.mark.slow
def test_clue(tmp_path, monkeypatch, ordinary):
    config = clue.Config(images=4, seeds=1, members=2, train=512, tests=300, k=2, radii=(), weights=(), steps=8, uncertain=3, out=str(tmp_path))
    rows = rows_of(monkeypatch, clue, config, {"reconstruction", "CLUE, σ = .15", "CLUE", "GLAM-CLUE"})
    f, x = clue.ensemble(0, config), trained.mnist("test", 600)[0][:300]
    members = [np.asarray(jax.vmap(ordinary(i, 512))(x)) for i in range(2)]
    mean = np.mean([np.exp(v) / np.exp(v).sum(1, keepdims=True) for v in members], 0)
    before = np.sort(entropy(np.log(mean)))[::-1][:4]
    x = clue.least_certain(f, x, 4)
    found = counterfactual.run(counterfactual.clue.search(generator=generators()["mnist_vae"](), steps=8), f, x, None)
    after = entropy(np.asarray(jax.vmap(f)(found.x)))
    assert rows[0, "CLUE", "entropy, before"]["mean"] == pytest.approx(before.mean(), rel=1e-4)
    assert rows[0, "CLUE", "entropy, after"]["mean"] == pytest.approx(after.mean(), rel=1e-3)
    assert rows[0, "CLUE", "entropy, change"]["mean"] == pytest.approx((after - before).mean(), rel=1e-2) and rows[0, "CLUE", "entropy, change"]["n"] == 4
    assert rows[0, "CLUE", "L1"]["mean"] == pytest.approx(np.abs(found.x - x).reshape(4, -1).sum(1).mean(), rel=1e-3)
    assert rows[0, "CLUE", "reached"]["mean"] == pytest.approx((after < before).mean()) and 0 <= rows[0, "CLUE, σ = .15", "label coverage"]["mean"] <= 1
    assert rows["all", "CLUE, σ = .15", "APD"]["mean"] == rows[0, "CLUE, σ = .15", "APD"]["mean"] > 0


@pytest.mark.slow
def test_sharpshooter(tmp_path, monkeypatch, ordinary):
    config = sharpshooter.Config(images=2, seeds=1, train=2048, pool=600, points=(8,), strict=0.9, steps=20, repeats=1, out=str(tmp_path))
    rows = rows_of(monkeypatch, sharpshooter, config, {"SharpShooter, 8 points", "diffeomorphic, p ≥ 0.9", "Min-Edit", "class means"})
    f, oracle = ordinary(0, 2048), ordinary(1, 2048)
    x, target = sharpshooter.cases([f], *trained.mnist("test", 8), 2)
    pool = trained.mnist("train", 600)[0]
    g, classes = generators()["mnist_vae"](), np.asarray(jax.vmap(f)(pool)).argmax(1)
    codes = np.asarray(jax.vmap(g.encode)(pool))
    means = np.stack([codes[classes == c].mean(0) for c in range(10)])
    found = counterfactual.run(counterfactual.sharpshooter.search(generator=g, means=means, num_points=8), f, x, target)
    flat, ok = found.x.reshape(18, 28, 28, 1), found.valid.ravel()
    row = {metric: r for (seed, method, metric), r in rows.items() if seed == 0 and method == "SharpShooter, 8 points"}
    p = np.asarray(jax.nn.softmax(jax.vmap(f)(flat)))[np.arange(18), target.ravel()]
    assert row["reached"]["mean"] == pytest.approx(ok.mean()) and (ok == (p >= 0.5)).all() and row["reached"]["n"] == 18
    said = np.asarray(jax.vmap(oracle)(flat)).argmax(1)
    assert row["oracle agrees"]["n"] == ok.sum() > 2 and row["oracle agrees"]["mean"] == pytest.approx((said == target.ravel())[ok].mean())
    assert row["L1"]["mean"] == pytest.approx(np.abs(found.x - x[:, None]).reshape(18, -1)[ok].sum(1).mean(), rel=1e-3)
    assert row["seconds each"]["mean"] < row["seconds each, class means included"]["mean"]
    assert row["times the first's seconds"]["mean"] == 1 and rows["all", "Min-Edit", "reached"]["mean"] == rows[0, "Min-Edit", "reached"]["mean"]
