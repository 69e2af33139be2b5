"""The networks and properties of VNN-COMP's mnistfc as they are read, and the verdicts of the experiment on a few instances."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from experiments.bounds import vnncomp_mnistfc as experiment
from jxai.adapters import weight_files
from jxai.bounds import Box, margins
from jxai.evaluate.record import folder
from jxai.models import weights
from jxai.models.vnncomp import mnistfc, mnistfc_properties

CONFIG = experiment.Config(networks=(2,), limit=6, rounding="nearest", steps=2, splits=1, attack_steps=20, restarts=2)

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def properties():
    try:
        return mnistfc_properties()
    except FileNotFoundError as error:
        pytest.skip(str(error))


def as_written(depth, x):
    """The network by NumPy in float64, from the arrays of the file."""
    arrays = weight_files.read(weights.find("../vnncomp/mnistfc.npz"))
    for i in range(depth + 1):
        x = np.maximum(x, 0) if i else x
        x = x @ arrays[f"net256x{depth}/layer{i}/kernel"].astype(np.float64) + arrays[f"net256x{depth}/layer{i}/bias"]
    return x


@pytest.mark.parametrize("depth", [2, 4, 6])
def test_networks_are_those_of_the_file(properties, depth):
    x = 0.5 * properties.lower + 0.5 * properties.upper
    f, expected = mnistfc(depth), as_written(depth, x.astype(np.float64))
    assert np.allclose(jax.vmap(f)(x), expected, atol=1e-5)
    # All three read the digits that the properties are about.
    assert (expected.argmax(1) == properties.label).all()


def test_properties_are_boxes_around_the_same_digits(properties):
    assert properties.lower.shape == (30, 784) and (properties.lower >= 0).all() and (properties.upper <= 1).all()
    width = properties.upper - properties.lower
    assert np.allclose(width.max(1), 2 * properties.radius, atol=1e-6) and set(properties.radius) == {0.03, 0.05}
    # They come in pairs, the larger box around the smaller.
    assert (properties.lower[1::2] <= properties.lower[::2]).all() and (properties.upper[1::2] >= properties.upper[::2]).all()
    assert (properties.label[1::2] == properties.label[::2]).all()


def test_loading_says_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match=r"depth=3 must be one of \(2, 4, 6\)"):
        mnistfc(3)
    with pytest.raises(FileNotFoundError, match="mnistfc.npz"):
        mnistfc(2, tmp_path)


@pytest.mark.slow
def test_verdicts(properties, tmp_path, monkeypatch):
    config = dataclasses.replace(CONFIG, out=str(tmp_path))
    seen = []
    rows = experiment.run(config, seen.append)
    kept = {piece["property"]: piece for path in (folder(config) / "kept").iterdir() for piece in json.loads(path.read_text())}
    told, seen = seen, [kept[name] for name in properties.name[:6]]
    assert [found["property"] for found in seen] == list(properties.name[:6])
    assert all(text.endswith(f"{found['property']}: {found['verdict']}") for text, found in zip(told, seen, strict=True))
    f = mnistfc(2)
    draw = np.random.default_rng(0)
    for i, found in enumerate(seen):
        lower, upper, label = properties.lower[i], properties.upper[i], int(properties.label[i])
        proved = margins(f, Box(lower, upper), label)
        assert found["crown"] == pytest.approx(float(np.delete(proved, label).min()), rel=1e-4, abs=1e-4)
        # The proof holds for points of the box; the attack's point beats them; α-CROWN and its cases lie between CROWN and both.
        logits = as_written(2, draw.uniform(lower, upper, (200, 784)))
        sampled = (logits[:, label] - np.delete(logits, label, 1).max(1)).min()
        assert found["crown"] <= found["alpha_crown"] <= found["cases"] <= found["attack"] + 1e-5 and found["attack"] <= sampled
        assert ("cases" in found["seconds"]) == (found["alpha_crown"] < 0 < found["attack"])
    assert [found["verdict"] for found in seen] == ["open", "open", "open", "attacked", "verified", "verified"]
    content = json.loads((folder(config) / "results.json").read_text())
    assert content["rows"] == rows and content["seconds"] > 0
    counts = {row["outcome"]: row["more"]["count"] for row in rows if row["network"] == "all"}
    assert counts == {"crown": 2, "alpha_crown": 2, "cases": 2, "attacked": 1, "open": 3}
    assert "| net256x2 | 2 (" in experiment.table(rows)

    # What was kept is not decided again.
    (folder(config) / "results.json").unlink()
    monkeypatch.setattr(experiment, "decide", lambda *given: pytest.fail("decided twice"))
    assert experiment.run(config) == rows


def test_what_is_both_verified_and_attacked_raises(properties):
    f, center = mnistfc(2), 0.5 * properties.lower[3] + 0.5 * properties.upper[3]
    sides = experiment.judges(CONFIG)
    liar = {**sides, "crown": lambda f, lower, upper, label: np.ones(10)}
    with pytest.raises(RuntimeError, match="has a counterexample"):
        experiment.decide(f, liar, properties, 3)
    with pytest.raises(RuntimeError, match="left its box"):
        experiment.decide(f, {**sides, "attack": lambda f, lower, upper, label: center + 1}, properties, 3)
