"""The experiment on STEEX runs, and its rows are what the searches, the images and their parts say."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.counterfactual import scenes, steex
from jxai import counterfactual
from jxai.evaluate.answers import logits
from jxai.evaluate.record import folder
from jxai.models import SemanticAutoencoder, cifar_resnet
from jxai.models import ordinary as trained

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_layouts_go_from_the_middle_outwards():
    x = np.full((1, 12, 12, 3), (0.1, 0.6, 0.1), np.float32)
    x[0, 4:8, 4:8] = 0.9, 0.1, 0.1
    layout = scenes.layouts(x, 2)
    expected = np.ones((1, 12, 12))
    expected[0, 4:8, 4:8] = 0
    np.testing.assert_array_equal(layout, expected)
    x[0, 4:8, 4:8, 0] += np.linspace(-0.1, 0.1, 4)
    flat = scenes.mean_colours(x, layout, 3)
    np.testing.assert_allclose(flat[0, 5, 5], (0.9, 0.1, 0.1), atol=1e-6)
    np.testing.assert_allclose(flat[0, 0, 0], (0.1, 0.6, 0.1), atol=1e-6)


def test_parts_that_hold_the_change_and_odds():
    segments = np.repeat(np.arange(4)[None, :, None], 5, 2)
    change = np.stack([np.full((4, 5), v, float) for v in (0, 1)])
    change[0, 2] = 1
    one, none = np.zeros((1, 4, 5)), np.zeros((1, 4, 5))
    one[0, 0], one[0, 1] = 8.8, 1.2
    got = scenes.carrying(np.concatenate([change, one, none]), np.repeat(segments, 4, 0))
    # All in one part; a quarter in each of four; .88 in one, so that two are needed; nothing.
    np.testing.assert_array_equal(got, [1, 4, 2, 0])
    logits = np.arange(12.0).reshape(2, 2, 3) ** 2
    np.testing.assert_array_equal(scenes.odds(logits, np.array([2, 0]), np.array([0, 1])), [[4, 16], [-13, -19]])


def test_the_foremost_code_is_that_of_the_part():
    rng = np.random.default_rng(0)
    x, labels = jnp.asarray(rng.random((6, 6, 3)), jnp.float32), jnp.asarray(rng.integers(0, 3, (6, 6)), jnp.int32)
    plain = SemanticAutoencoder(3, 3, code=4, rngs=nnx.Rngs(0))
    turned, codes = scenes.Foremost(plain), plain.encode(x, labels)
    before = plain.decode(codes, labels)
    for part in range(3):
        packed = labels + 3 * part
        found = turned.encode(x, packed)
        np.testing.assert_allclose(found[0], codes[part], atol=1e-6)
        np.testing.assert_allclose(turned.decode(found, packed), before, atol=1e-6)
        moved = np.abs(turned.decode(found.at[0].add(1.0), packed) - before).max(-1) > 1e-5
        np.testing.assert_array_equal(moved, labels == part)


def test_bad_options_are_named():
    for options, message in [
        ({"images": 0}, "images=0"),
        ({"parts": 1}, "parts=1 must be at least 2"),
        ({"threshold": 2.0}, "threshold=2.0"),
        ({"targeted": 50}, r"targeted=50 must be in \[1, 40\]"),
        ({"proximities": ()}, r"proximities=\(\) must"),
    ]:
        with pytest.raises(ValueError, match=message):
            steex.Config(**options)


@pytest.mark.slow
def test_steex(tmp_path):
    small = dict(images=2, seeds=1, parts=3, train=96, steps=60, targeted=1, search_steps=6, proximities=(0.3,))
    config = steex.Config(threshold=0.2, learning_rate=0.1, out=str(tmp_path), **small)
    try:
        rows = steex.run(config)
    except (FileNotFoundError, ImportError) as error:
        pytest.skip(f"needs the data set cifar10 and the weights cifar10_resnet20 and cifar10_resnet56: {error}")
    assert (
        len(json.loads((folder(config) / "results.json").read_text())["rows"]) == len(rows) and (folder(config) / "counterfactuals.png").stat().st_size > 1000
    )
    row = {(r["method"], r["metric"]): r for r in rows if r["seed"] == 0}
    f, oracle = cifar_resnet(20), cifar_resnet(56)
    pool = trained.mnist("train", 96, 0, "cifar10")[0]
    generator = steex.learned(pool, scenes.layouts(pool, 3), 0, config)
    x, segments, made, _ = steex.cases(generator, f, oracle, 0, config)
    target = steex.targets(f, made, 0)
    before = logits(f, made)
    assert (target[:, 0] == np.argsort(-before, 1)[:, 1]).all() and (target[:, 1] != before.argmax(1)).all() and (target[:, 1] != target[:, 0]).all()

    def found(parts, x, target, segments):
        options = dict(generator=generator, parts=parts, proximity=jnp.float32(0.3), threshold=0.2, steps=6, learning_rate=0.1)
        return jax.jit(jax.vmap(lambda v, t, s: counterfactual.steex(f, v, t, segments=s, **options)))(x, target, segments)

    all_parts = found(None, np.repeat(x, 2, 0), target.ravel(), np.repeat(segments, 2, 0))
    points, ok = np.asarray(all_parts.x), np.asarray(all_parts.valid)
    p = np.asarray(jax.nn.softmax(logits(f, points)))[np.arange(4), target.ravel()]
    assert ok.any() and (ok == (p >= 0.2)).all()
    name = "STEEX, λ = 0.3"
    assert row[name, "reached"]["mean"] == ok.mean() and row[name, "reached"]["n"] == 4
    far = np.sqrt(((points - np.repeat(x, 2, 0)) ** 2).sum((1, 2, 3)))
    assert row[name, "L2"]["mean"] == pytest.approx(far[ok].mean(), rel=1e-2) and row[name, "L2"]["n"] == ok.sum()
    agrees = logits(oracle, points).argmax(1) == target.ravel()
    assert row[name, "oracle agrees"]["mean"] == pytest.approx(agrees[ok].mean())
    assert row["reconstruction", "squared error"]["n"] == 26 and row["reconstruction", "oracle agrees"]["mean"] == 0
    only = found((1,), x[:1], target[:1, 0], segments[:1])
    gain = lambda v: float(v[0, target[0, 0]] - v[0, before[0].argmax()])
    assert row["part 1", "gain in log odds"]["mean"] == pytest.approx(gain(np.asarray(only.logits)) - gain(before), abs=2e-2)
    assert row["part 1", "pixels"]["mean"] == (segments[0] == 1).sum()
    assert row["one part", "largest change outside"]["mean"] < 1e-5 < row["one part", "largest change inside"]["mean"]
    gone = np.where((segments[0] == 1)[..., None], made[0].mean((0, 1)), made[0])
    assert row["part 1", "lost without it"]["mean"] == pytest.approx(gain(logits(f, gone[None])) - gain(before), abs=2e-3)
