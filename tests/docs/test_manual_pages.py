"""The manual's code runs, shows what it says, and names what exists."""

from __future__ import annotations

import functools
import importlib.util
import re

import jax
import jax.numpy as jnp
import manual
import numpy as np
import pytest

from jxai import attribution, counterfactual, metrics, models, relevance, uncertainty


def _checked(page):
    """A page's code is a slow test where its front matter says so, and is skipped where it needs what is not installed."""
    about = manual.front(page)
    absent = [package for package in about.get("needs", []) if importlib.util.find_spec(package) is None]
    marks = [pytest.mark.slow] * bool(about.get("heavy")) + [pytest.mark.skipif(bool(absent), reason=f"needs {', '.join(absent)}")]
    return pytest.param(page, id=manual.name(page), marks=marks)


@pytest.fixture
def page(monkeypatch, tmp_path):
    """Runs a page by name, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda name: manual.run(manual.DOCS / f"{name}.md")


JUDGED = {"howto/models/conventions", "howto/judge", "howto/bounds", "tutorials/counterfactuals"}
"""Pages whose results have tests of their own, below."""


@pytest.mark.parametrize("path", [_checked(page) for page in manual.EXECUTED if manual.name(page) not in JUDGED])
def test_the_code_of_a_page_runs(path, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    manual.run(path)


def test_other_models_are_explained(page):
    names = page("howto/models/conventions")
    f, x, gradient = names["f"], names["x"], names["gradient"]
    slope = np.asarray((1 - jnp.tanh(x.ravel() - 0.5) ** 2)[:, None] * names["weights"]).reshape(8, 8, 3, 10)
    adapted = [f, names["g"], names["same"], names["labels"]]
    maps = jax.jit(lambda fs, x: [gradient(g, x, 3) for g in fs])(adapted, x)
    assert all(np.allclose(found, slope[..., 3], atol=1e-4) for found in maps)
    whole = lambda maps: sum(float(part.sum()) for part in maps.values())
    every, patient = names["every"], names["patient"]
    start = float(every(jax.tree.map(jnp.zeros_like, patient))[3])
    assert np.isclose(whole(names["maps"]), float(every(patient)[3]) - start, rtol=1e-2)
    shares = sum(float(part.ravel()[0]) for part in names["shares"].values())
    assert np.isclose(shares, float(every(patient)[3]) - start, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["nnx", "linen", "equinox", "haiku", "keras", "pytorch"])
def test_a_trained_network_of_each_framework_is_explained_in_ten_lines(framework, page):
    if absent := [
        package for package in manual.front(manual.DOCS / f"howto/models/{framework}.md").get("needs", []) if importlib.util.find_spec(package) is None
    ]:
        pytest.skip(f"needs {', '.join(absent)}")
    lines = [line for line in manual.cells(manual.DOCS / f"howto/models/{framework}.md")[-1].splitlines() if line.strip()]
    assert len(lines) <= 10
    names = page(f"howto/models/{framework}")
    images = np.asarray(names["images"][1500:], np.float32)
    images = images.transpose(0, 2, 3, 1) if framework == "pytorch" else images
    right = np.asarray(jax.vmap(names["f"])(images).argmax(1)) == np.asarray(names["labels"][1500:])
    assert right.mean() > 0.8 and names["target"] == int(names["labels"][1513])
    ig = names["maps"]["integrated_gradients"][0]
    logit = lambda x: float(names["f"](x)[names["target"]])
    assert np.isclose(float(ig.sum()), logit(names["x"]) - logit(0 * names["x"]), rtol=0.05)


def test_maps_are_judged(page):
    names = page("howto/judge")
    curves, targets = names["curves"], np.asarray(names["targets"])
    assert curves.y.shape == (4, 17) and names["right"].shape == names["hits"].shape == names["steady"].shape == (4,)
    logits = np.asarray(jax.jit(jax.vmap(names["f"]))(names["images"]))[np.arange(4), targets]
    assert np.allclose(np.asarray(curves.y)[:, 0], logits, atol=1e-5)
    assert set(names["hits"].tolist()) <= {0.0, 1.0} and (np.asarray(names["steady"]) > 0).all()


def test_bounds_certify_and_are_attacked(page):
    names = page("howto/bounds")
    f, label, region = names["f"], names["label"], names["region"]
    inside = np.random.default_rng(1).uniform(region.lower, region.upper, (1000, 6)).astype(np.float32)
    y, label, margins = np.asarray(jax.jit(jax.vmap(f))(inside)), int(label), np.asarray(names["margins"])
    assert (y >= np.asarray(names["logits"].lower)).all() and (y <= np.asarray(names["logits"].upper)).all()
    assert (margins <= (y[:, label, None] - y).min(0) + 1e-5).all() and margins[label] == 0
    assert float(names["worst"].margin) >= np.delete(margins, label).min() - 1e-5 and float(names["radius"]) > 0


def test_counterfactuals_reach_their_targets(page, monkeypatch):
    """With networks that were trained for a few hundred steps."""
    pytest.importorskip("sklearn")
    for name in ("digits_cnn", "digits_vae"):
        monkeypatch.setattr(models, name, functools.partial(getattr(models, name), steps=300))
    names = page("tutorials/counterfactuals")
    found, f = names["found"], names["f"]
    assert found.x.shape == (4, 10, 8, 8, 1) and found.valid.mean() > 0.9
    one = names["one"]
    said = np.asarray(jax.jit(jax.vmap(f))(np.concatenate([found.x.reshape(-1, 8, 8, 1), np.asarray(one.x)[None]]))).argmax(1)
    assert (said[:-1].reshape(4, 10) == names["targets"])[found.valid].all()
    assert bool(one.valid) and said[-1] == 3


def test_what_the_manual_names_exists():
    import jxai

    pages = "\n".join([(manual.ROOT / "README.md").read_text("utf-8"), *map(manual.text, manual.PAGES)])
    for name in set(re.findall(r"(?<![\w/.-])jxai\.(\w+)", pages)):
        assert hasattr(jxai, name) or importlib.util.find_spec(f"jxai.{name}"), name
    composites = relevance.COMPOSITES  # experiments name LRP by them
    for option, known in (("methods", {*attribution.__all__, *composites}), ("metrics", metrics.__all__)):
        for names in set(re.findall(rf"--{option} ([\w,:.]+(?: \w+(?= ))*)", pages)):
            own = {name.removeprefix("abs:") for name in re.split(r"[, ]", names) if "." not in name}
            assert own <= {"all", *known}, names


def test_every_metric_counterfactual_method_and_score_is_listed():
    named = set(re.findall(r"`([\w.]+)`", manual.text(manual.DOCS / "howto" / "judge.md")))
    assert set(metrics.__all__) <= named and {f"compare.{name}" for name in metrics.compare.__all__} <= named
    assert set(counterfactual.METHODS) <= set(re.findall(r"`(\w+)`", manual.text(manual.DOCS / "tutorials" / "counterfactuals.md")))
    assert set(uncertainty.scores.__all__) <= set(re.findall(r"^\| `(\w+)`", manual.text(manual.DOCS / "howto" / "uncertainty.md"), re.MULTILINE))
