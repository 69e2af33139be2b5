"""`jxai concepts`: the library's run and references, a picture, one line for bad input."""

import os

import numpy as np
import pytest
from PIL import Image

from jxai import cli, concepts, data, evaluate
from jxai.cli import inputs

pytestmark = pytest.mark.usefixtures("quick_compilation")

OWN = """
import jax, jax.numpy as jnp, numpy as np
rng = np.random.default_rng(0)
W = [jnp.asarray(rng.normal(size=s).astype(np.float32)) for s in ((3, 3, 1, 6), (6, 10))]
def net(w, x):
    h = jax.lax.conv_general_dilated(x[None], w[0], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))[0]
    return jax.nn.relu(h).sum((0, 1)) @ w[1] / 10
def make():
    class Bundle: model = jax.tree_util.Partial(net, W); class_names = ["cat", "dog, hound", "fish"] + list("3456789"); input_shape = (8, 8, 1)
    return Bundle()
"""
GIVEN = ["--model", "own_concepts:make", "--limit", 30, "--block", 8, "--batch-size", 2, "--lrp.composite", "epsilon"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "own_concepts.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def main(capsys, *arguments, code=0):
    assert cli.main(["concepts", *map(str, arguments)]) == code
    out, err = capsys.readouterr()
    if code == 2:
        assert err.startswith("jxai: error: ") and err.count("\n") == 1 and not out, err
        return err
    return out


def test_the_command_writes_the_librarys_run_and_a_picture(here, capsys):
    out = main(capsys, "digits", *GIVEN, "--top", 2, "--references", 3, "--out", "run")
    made, subject, digits = evaluate.Run("run"), inputs.subject("own_concepts:make"), data.Digits()
    mine = concepts.collect(subject.model, digits, None, "mine", composite="epsilon", limit=30, block=8, batch_size=2, model_name="own_concepts:make")
    assert all(made.table()[name].tobytes() == column.tobytes() for name, column in mine.table().items())
    x = np.float32(digits[0].pixels) / 255
    target = int(subject.model(x).argmax())
    share = np.asarray(concepts.channel_relevance(subject.model, x, target, composite="epsilon", normalise=True))
    order = np.argsort(-share)[:2]
    lines = out.splitlines()
    assert f"2 of the 6 channels of {mine.config['concepts']['layer']}, by relevance" in lines[0] and subject.label(target) in lines[0]
    means = concepts.class_means(mine, top=10)
    for line, channel in zip(lines[1:3], order):
        best = [subject.label(label).split(",")[0] for label in np.argsort(-means.mean[channel], kind="stable")[:3]]
        assert line.split(maxsplit=3)[:3] == ["channel", str(channel), f"{share[channel]:.2%}"] and line.split(maxsplit=3)[3] == "; ".join(best)
    with np.load("run/references.npz") as found:
        assert np.array_equal(found["index"], concepts.strongest(mine, 3).index) and found["channels"].tolist() == order.tolist()
        assert found["maps"].shape == (2, 8, 8, 1) and np.allclose(
            found["maps"].sum((1, 2, 3)), share[order] * np.abs(channel_sums(subject, x, target)).sum(), rtol=1e-3
        )
    assert Image.open("run/concepts.png").size[0] > 300
    there = {path: path.stat().st_mtime_ns for path in (here / "run" / "blocks").iterdir()}
    image = Image.fromarray(np.repeat(digits[7].pixels, 3, -1))
    image.save("seven.png")
    again = main(capsys, "digits", *GIVEN, "--channels", 5, 0, 5, "--references", 3, "--out", "run", "--image", "seven.png", "--target", "fish")
    assert again.startswith("seven.png, fish: 2 of the 6") and [line.split()[1] for line in again.splitlines()[1:3]] == ["5", "0"]
    assert all(path.stat().st_mtime_ns == at for path, at in there.items())
    assert "concepts.reduction: 'sum' there, 'max' here" in main(capsys, "digits", *GIVEN, "--reduction", "max", "--out", "run", code=2)


def channel_sums(subject, x, target):
    return np.asarray(concepts.channel_relevance(subject.model, x, target, composite="epsilon"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layer", "nowhere"], "layer='nowhere' is part of no layer's name"),
        (["--references", 31], "--references 31 must be a positive integer, at most the number of examples, 30"),
        (["--references", 0], "--references 0 must be a positive integer"),
        (["--top", 0], "--top 0 must be a positive integer"),
        (["--channels", "1,six"], "--channels 'six' must be a channel's number, below 6"),
        (["--channels", "6"], "--channels '6' must be a channel's number, below 6"),
        (["--image", "9999"], "--image 9999 must be a file, or a place in digits below 1797"),
        (["--target", "bird"], "--target 'bird' is no class"),
        (["--lrp.composite", "epsilom"], "epsilon"),
        (["--lrp.score", "probability"], "--lrp.score: concepts are of the logit of a class"),
    ],
)
def test_bad_input_is_one_line(here, capsys, arguments, message):
    known = here.parent / "known"
    assert message in main(capsys, "digits", *GIVEN, "--out", known, *arguments, code=2)


@pytest.mark.slow
def test_by_activation_of_a_layer_by_its_number(here, capsys):
    out = main(capsys, "digits", "--limit", 12, "--by", "activation", "--layer", 3, "--top", 1, "--references", 2, "--model", "own_concepts:make")
    assert "1 of the 6 channels of 3 · relu [8, 8, 6], by activation" in out and os.path.exists("concepts/concepts.png")


def test_the_first_image_that_can_be_read_is_shown(here, capsys):
    (here / "images").mkdir()
    (here / "images" / "a.png").write_text("no image")
    for name, digit in (("b", 3), ("c", 5)):
        Image.fromarray(data.Digits()[digit].pixels[..., 0]).save(here / "images" / f"{name}.png")
    out = main(capsys, "images", "--model", "own_concepts:make", "--of", "predicted", "--top", 1, "--references", 1, "--out", "run")
    assert out.startswith("b.png, ") or "\nb.png, " in out
    assert "a.png cannot be read" in main(capsys, "images", "--model", "own_concepts:make", "--image", 0, "--out", "run", code=2)
