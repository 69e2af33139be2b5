"""`--methods all` leaves out, and says, what a model cannot have; what was asked for by hand is an error as ever."""

import json

import numpy as np
import pytest
from PIL import Image

from jxai import attribution, data, evaluate
from jxai.cli import main

pytestmark = pytest.mark.usefixtures("quick_compilation")

OWN = """
import jax, jax.numpy as jnp, numpy as np
W = np.random.default_rng(0).normal(size=(64, 10)).astype(np.float32)
def make():
    return jax.tree_util.Partial(lambda w, x: jnp.tanh(x.ravel()[:64]) @ w, jnp.asarray(W))
"""
RUN = ["evaluate", "digits", "--model", "own_model:make", "--out", "run", "--limit", "3", "--metrics", "sparseness"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "own_model.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(attribution, "__all__", ["gradient", "chefer", "eva"])  # one that every model has, one that needs attention, one that needs an option
    for name in "ab":
        Image.fromarray(np.random.default_rng(ord(name)).integers(0, 256, (8, 8), np.uint8)).save(tmp_path / f"{name}.png")
    return tmp_path


def test_explain_leaves_out_what_the_model_cannot_have(here, capsys):
    explain = ["explain", "a.png", "b.png", "--model", "own_model:make", "--out", "out"]
    assert main([*explain, "--methods", "all", "--html"]) == 0
    out = capsys.readouterr().out
    assert out.count("chefer is left out: f has no attention") == 1 and out.count("eva is left out: eva needs --eva.radius") == 1
    for name in "ab":
        with np.load(here / "out" / name / "explanation.npz") as made:
            assert "gradient" in made.files and not {"chefer", "eva"} & set(made.files)
            assert json.loads(str(made["settings"]))["methods"] == ["gradient"]
    assert main([*explain, "--methods", "all"]) == 0
    assert capsys.readouterr().out.count("already") == 2  # the same command finds its own work
    for asked in (["gradient,chefer"], ["all", "--chefer.start", "0"]):
        assert main([*explain, "--methods", *asked]) == 2
        assert "chefer" in capsys.readouterr().err


def test_evaluate_leaves_out_what_the_model_cannot_have(here, capsys):
    assert main([*RUN, "--methods", "all"]) == 0
    out = capsys.readouterr().out
    assert "chefer is left out: f has no attention" in out and "eva is left out: eva needs the option radius" in out
    assert tuple(evaluate.Run("run").methods) == ("gradient",)
    assert main([*RUN, "--methods", "chefer", "--anew"]) == 2
    assert "chefer: f has no attention" in capsys.readouterr().err
    assert main([*RUN, "--methods", "all", "--eva.radius", "-1", "--anew"]) == 2  # given by hand
    assert "eva" in capsys.readouterr().err


def test_no_method_is_an_error(here):
    import own_model

    with pytest.raises(ValueError, match="no method can explain the model: chefer: f has no attention"):
        evaluate.possible(own_model.make(), data.source("digits"), ["chefer"])
