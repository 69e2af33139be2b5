"""The experiment on edits of misclassified digits runs, and its rows are what formulas written out say of the searches' results."""

import functools
import json

import jax
import numpy as np
import pytest

from experiments.counterfactual import human_edits
from jxai import counterfactual
from jxai.evaluate.record import folder
from jxai.models import available
from jxai.models import ordinary as trained

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_a_difference_is_of_digits_that_every_method_reached():
    nan, values = np.nan, {}
    for name in {name for parts in human_edits.COMPARED.values() for name in (*parts[0], *parts[1])}:
        values[0, name, "L1"], values[1, name, "L1"] = np.array([1.0, 2, 3]), np.array([4.0])
        values[0, name, "ms each"] = values[1, name, "ms each"] = np.array([1.0])
    values[0, "prototype", "L1"], values[0, "neighbour start", "L1"] = np.array([5.0, nan, 3]), np.array([3.0, 4, 5])
    values[1, "PIECE, VAE", "L1"] = np.array([10.0])
    values[0, "unedited", "L1"], values[1, "unedited", "L1"] = np.zeros(3), np.zeros(1)
    rows = {(r["seed"], r["method"], r["metric"]): (r["mean"], r["n"]) for r in human_edits.rows_of(values, 2)}
    assert rows[0, "directed − minimal, pixels", "L1"] == (2, 2)  # 4 − 1 and 4 − 3
    assert rows["all", "directed − minimal, pixels", "L1"] == (pytest.approx(4 / 3), 3) and rows["all", "directed − minimal, GAN", "L1"] == (0, 4)
    assert rows[1, "directed − minimal, VAE", "L1"] == (6, 1) == rows[1, "PIECE − diffeomorphic, VAE", "L1"]
    assert rows[0, "directed − minimal, mean", "L1"] == (pytest.approx(2 / 3), 2) and rows[1, "directed − minimal, mean", "L1"] == (2, 1)
    assert rows["all", "wachter", "L1"] == (2.5, 4) and not any(method.startswith("directed") for _, method, metric in rows if metric == "ms each")


def test_what_is_asked_for_must_be_there():
    with pytest.raises(ValueError, match="members=0"):
        human_edits.run(human_edits.Config(members=0))
    x, y = np.zeros((3, 28, 28, 1), np.float32), np.array([0, 1, 2])
    with pytest.raises(ValueError, match="images=3 must be at most 2"):
        human_edits.misclassified(jax.tree_util.Partial(lambda v: jax.nn.one_hot(1, 10) + v.sum()), x, y, 3)
    with pytest.raises(ValueError, match="2 targets are of class 7, but the network has only 1"):
        human_edits.same_classes(np.array([7, 3, 3]), np.array([7, 3, 7]), 0)


@pytest.mark.slow
def test_rows_are_what_formulas_say(tmp_path, monkeypatch):
    try:
        trained.mnist("test", 60, 0), human_edits.latent(), available()["mnist_lenet5"].build()
    except (FileNotFoundError, ValueError) as error:
        pytest.skip(f"needs the data set mnist and the weights mnist_vae, mnist_gan and mnist_lenet5: {error}")
    config = human_edits.Config(3, 1, train=1024, pool=200, tests=60, members=2, steps=200, coder_steps=3, out=str(tmp_path))
    methods, kept = {"wachter", "neighbour start"}, {}
    whole, coders_of = human_edits.searches, human_edits.autoencoders
    monkeypatch.setattr(human_edits, "ordinary", functools.cache(trained.ordinary))
    monkeypatch.setattr(human_edits, "searches", lambda *given: kept.setdefault("searches", {k: v for k, v in whole(*given).items() if k in methods}))
    monkeypatch.setattr(human_edits, "autoencoders", lambda *given: kept.setdefault("coders", coders_of(*given)))
    rows = human_edits.run(config)
    assert (folder(config) / "edits.png").stat().st_size > 1000 and len(json.loads((folder(config) / "results.json").read_text())["rows"]) == len(rows)
    f, members = human_edits.ordinary(0, 1024), [human_edits.ordinary(1000 + i, 1024) for i in range(2)]
    softmax = lambda model, v: np.asarray(jax.nn.softmax(jax.jit(jax.vmap(model))(v)))
    tests, labels = trained.mnist("test", 60, 0)
    wrong = np.flatnonzero(softmax(f, tests).argmax(1) != labels)[:3]
    x, target, at = tests[wrong], labels[wrong], np.arange(3)
    digits, classes = trained.mnist("train", 1224, 0)
    far = lambda a, b: np.sqrt(((a[:, None] - b[None]) ** 2).sum((2, 3, 4)))
    right = softmax(f, digits[:1024]).argmax(1) == classes[:1024]
    guides, own = digits[:1024][right], classes[:1024][right]
    nearest = guides[np.where(own == target[:, None], far(x, guides), np.inf).argmin(1)]
    start = kept["searches"]["neighbour start"].init(f, x[0], target[0], None)[0]
    np.testing.assert_allclose(start, nearest[0], atol=1e-6)
    found = counterfactual.run(kept["searches"]["wachter"], f, x, target)
    ok, pool, of = found.valid, digits[1024:], classes[1024:]
    assert ok.sum() >= 2
    coders = [jax.tree.map(lambda leaf, c=c: leaf[c], kept["coders"][0]) for c in range(10)]
    off = jax.jit(lambda coder, v: ((coder.decode(coder.encode(v)) - v) ** 2).sum())
    for name, made, counted in (("wachter", found.x, ok), ("nearest real digit", nearest, np.ones(3, bool))):
        row = {r["metric"]: r for r in rows if r["method"] == name and r["seed"] == 0}
        apart, p = far(made, pool), np.stack([softmax(model, made)[at, target] for model in members])
        inside, outside = (np.where((of == target[:, None]) == same, apart, np.inf).min(1) for same in (True, False))
        means = np.stack([pool[of == c].mean(0) for c in range(10)])[target]
        gap = np.sqrt(((made - means) ** 2).sum((1, 2, 3)) / ((x - means) ** 2).sum((1, 2, 3)))
        im1 = np.array([off(coders[t], v) / off(coders[o], v) for t, o, v in zip(target, softmax(f, x).argmax(1), made)])
        expected = {"L1": np.abs(made - x).sum((1, 2, 3)), "prototype gap": gap, "nearest of the target": inside, "trust score": outside / inside, "IM1": im1}
        expected |= {"ensemble's p": p.mean(0), "ensemble's spread": p.std(0)}
        for metric, values in expected.items():
            assert row[metric]["mean"] == pytest.approx(values[counted].mean(), rel=2e-3) and row[metric]["n"] == counted.sum()
        assert row["reached"]["mean"] == pytest.approx(counted.mean()) and row["reached"]["n"] == 3
    says = target[far(pool, nearest).argmin(1)] == of
    chosen = human_edits.same_classes(own, target, 0)
    assert (own[chosen] == target).all() and len(np.unique(chosen)) == 3
    would = target[far(pool, guides[chosen]).argmin(1)] == of
    assert row["substitutability"]["mean"] == pytest.approx(says.mean() / would.mean())
    assert {r["method"] for r in rows} == methods | {"unedited", "reconstruction, GAN", "reconstruction, VAE", "nearest real digit"}
