"""The README's code runs, and its quick start is as short as it says."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from jxai import counterfactual

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_quick_start_explains_an_nnx_a_linen_and_a_plain_model():
    assert len(BLOCKS[0].strip().splitlines()) <= 20
    names: dict = {}
    exec(BLOCKS[0], names)
    assert names["cam"].shape == (32, 32, 1) and names["maps"].shape == (4, 32, 32, 1)
    x, ig = names["images"][0], names["ig"]
    probability = lambda x: jax.nn.softmax(names["f"](x))[3]
    assert jnp.allclose(ig.sum(), probability(x) - probability(0 * x), atol=1e-3)
    margin = names["margin"]
    assert jnp.allclose(names["why_not_5"].sum(), margin(x) - margin(0 * x), atol=1e-3)


def test_other_models_are_explained():
    pytest.importorskip("equinox")
    pytest.importorskip("haiku")
    names: dict = {}
    exec(BLOCKS[1], names)
    kernel = names["f"].args[0]["linear"]["w"][:, 3].reshape(8, 8, 3)
    x = names["x"]
    assert jnp.allclose(names["gradient"](names["f"], x, 3), kernel, atol=1e-6)
    assert jnp.allclose(names["gradient"](lambda x: names["wants_bytes"](255 * x), x, 3), kernel, atol=1e-5)
    assert jnp.allclose(names["gradient"](names["jxai"].Batched(names["wants_batch"]), x, 3), kernel, atol=1e-6)


def test_maps_are_judged():
    names: dict = {}
    exec(BLOCKS[2], names)
    curves, x, f = names["curves"], names["images"], names["f"]
    assert curves.y.shape == (4, 17) and names["right"].shape == names["hits"].shape == names["steady"].shape == (4,)
    probabilities = jax.vmap(lambda v, t: jax.nn.softmax(f(v))[t])(x, names["targets"])
    assert jnp.allclose(curves.y[:, 0], probabilities, atol=1e-5)
    assert set(names["hits"].tolist()) <= {0.0, 1.0} and bool((names["steady"] > 0).all())


def test_what_the_readme_names_exists():
    import jxai
    from jxai import attribution, metrics, models

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
    y = jax.vmap(f)(jax.random.uniform(jax.random.key(1), (1000, 6), minval=region.lower, maxval=region.upper))
    assert bool(((y >= names["logits"].lower) & (y <= names["logits"].upper)).all())
    assert bool((names["margins"] <= (y[:, label, None] - y).min(0) + 1e-5).all()) and names["margins"][label] == 0
    proved = jnp.delete(names["margins"], int(label)).min()
    assert bool(names["worst"].margin >= proved - 1e-5) and float(names["radius"]) > 0


def test_counterfactuals_reach_their_targets():
    pytest.importorskip("sklearn")
    names: dict = {}
    exec(BLOCKS[4], names)
    found, f = names["found"], names["f"]
    assert found.x.shape == (12, 10, 8, 8, 1) and found.valid.mean() > 0.9
    said = jax.vmap(f)(found.x.reshape(-1, 8, 8, 1)).argmax(1).reshape(12, 10)
    assert bool((said == names["targets"])[found.valid].all())
    assert bool(names["one"].valid) and int(f(names["one"].x).argmax()) == 3
    section = README.split("## Counterfactuals")[1].split("\n## ")[0]
    assert set(counterfactual.METHODS) <= set(re.findall(r"`(\w+)`", section))
