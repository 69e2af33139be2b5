"""The README's code runs, and its quick start is as short as it says."""

import functools
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from jxai import counterfactual, models

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_quick_start_explains_an_nnx_a_linen_and_a_plain_model():
    assert sum(bool(line) for line in BLOCKS[0].splitlines()) <= 17
    names: dict = {}
    exec(BLOCKS[0], names)
    assert names["cam"].shape == (32, 32, 1) and names["maps"].shape == (4, 32, 32, 1)
    x, ig = names["images"][0], names["ig"]
    logits = np.asarray(jax.jit(jax.vmap(names["f"]))(np.stack([x, np.zeros_like(x)])))
    logit, margin = logits[:, 3], logits[:, 3] - logits[:, 5]
    assert np.allclose(np.asarray(ig).sum(), logit[0] - logit[1], atol=1e-3)
    assert np.allclose(np.asarray(names["why_not_5"]).sum(), margin[0] - margin[1], atol=1e-3)


def test_other_models_are_explained():
    pytest.importorskip("equinox")
    pytest.importorskip("haiku")
    names: dict = {}
    exec(BLOCKS[1], names)
    kernel = np.asarray(names["f"].args[0]["linear"]["w"])[:, 3].reshape(8, 8, 3)
    wants_bytes, batched, gradient = names["wants_bytes"], names["jxai"].Batched(names["wants_batch"]), names["gradient"]
    maps = jax.jit(lambda f, x: [gradient(g, x, 3) for g in (f, lambda x: wants_bytes(255 * x), batched)])(names["f"], names["x"])
    assert all(np.allclose(found, kernel, atol=1e-5) for found in maps)


def test_maps_are_judged():
    names: dict = {}
    exec(BLOCKS[2], names)
    curves, targets = names["curves"], np.asarray(names["targets"])
    assert curves.y.shape == (4, 17) and names["right"].shape == names["hits"].shape == names["steady"].shape == (4,)
    logits = np.asarray(jax.jit(jax.vmap(names["f"]))(names["images"]))[np.arange(4), targets]
    assert np.allclose(np.asarray(curves.y)[:, 0], logits, atol=1e-5)
    assert set(names["hits"].tolist()) <= {0.0, 1.0} and (np.asarray(names["steady"]) > 0).all()


def test_what_the_readme_names_exists():
    import jxai
    from jxai import attribution, metrics

    for name in set(re.findall(r"jxai\.(\w+)", README)):
        assert hasattr(jxai, name) or __import__(f"jxai.{name}"), name
    for name in set(re.findall(r"--methods ([\w,:]+)", README)):
        assert {n.removeprefix("abs:") for n in name.split(",")} <= {"all", *attribution.__all__}
    for name in set(re.findall(r"--metrics ([\w,]+)", README)):
        assert set(name.split(",")) <= set(metrics.__all__)
    named = README.split("## Judging explanations")[1].split("###")[0]
    assert set(metrics.__all__) <= set(re.findall(r"`(\w+)`", named))
    assert {f"compare.{name}" for name in metrics.compare.__all__} <= set(re.findall(r"`([\w.]+)`", named))
    assert "efficientnet_lite0" in models.available()


def test_bounds_certify_and_are_attacked():
    names: dict = {}
    exec(BLOCKS[3], names)
    f, label, region = names["f"], names["label"], names["region"]
    inside = np.random.default_rng(1).uniform(region.lower, region.upper, (1000, 6)).astype(np.float32)
    y, label, margins = np.asarray(jax.jit(jax.vmap(f))(inside)), int(label), np.asarray(names["margins"])
    assert (y >= np.asarray(names["logits"].lower)).all() and (y <= np.asarray(names["logits"].upper)).all()
    assert (margins <= (y[:, label, None] - y).min(0) + 1e-5).all() and margins[label] == 0
    assert float(names["worst"].margin) >= np.delete(margins, label).min() - 1e-5 and float(names["radius"]) > 0


def test_counterfactuals_reach_their_targets(monkeypatch):
    """With networks that were trained for a few hundred steps."""
    pytest.importorskip("sklearn")
    for name in ("digits_cnn", "digits_vae"):
        monkeypatch.setattr(models, name, functools.partial(getattr(models, name), steps=300))
    names: dict = {}
    exec(BLOCKS[4], names)
    found, f = names["found"], names["f"]
    assert found.x.shape == (4, 10, 8, 8, 1) and found.valid.mean() > 0.9
    one = names["one"]
    said = np.asarray(jax.jit(jax.vmap(f))(np.concatenate([found.x.reshape(-1, 8, 8, 1), np.asarray(one.x)[None]]))).argmax(1)
    assert (said[:-1].reshape(4, 10) == names["targets"])[found.valid].all()
    assert bool(one.valid) and said[-1] == 3
    section = README.split("## Counterfactuals")[1].split("\n## ")[0]
    assert set(counterfactual.METHODS) <= set(re.findall(r"`(\w+)`", section))
