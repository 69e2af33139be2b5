"""What the command line prints of a model that has one logit, several labels or probabilities, and which score it explains."""

import sys
import warnings

import numpy as np
import pytest

from jxai import cli

MODELS = """
import jax, jax.numpy as jnp, numpy as np

W = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)

class Named:
    def __init__(self, f, names): self.f, self.class_names, self.input_shape = f, names, (6,)
    def __call__(self, x): return self.f(x)

def sure(): return Named(lambda x: x @ W[:, :1] - 200, ["cat"])
def binary(): return Named(lambda x: x @ W[:, :1], ["cat"])
def labels(): return Named(lambda x: x @ W, ["cat, tabby", "dog", "12", "car", "dog house"])
def graded(): return Named(lambda x: x @ W[:, :4], ["1", "2", "3", "4"])
def softened(): return Named(lambda x: jax.nn.softmax(x @ W), list("abcde"))
def squashed(): return Named(lambda x: jax.nn.sigmoid(x @ W), list("abcde"))
"""
W = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
X = np.linspace(-1, 1, 6, dtype=np.float32)
LOGITS = X @ W


@pytest.fixture
def explain(tmp_path, monkeypatch, capsys):
    (tmp_path / "odd.py").write_text(MODELS)
    np.save(tmp_path / "x.npy", X)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def call(model, *arguments):
        code = cli.main(["explain", "x.npy", "--model", f"odd:{model}", "--methods", "input_x_gradient", *arguments])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    yield call
    sys.modules.pop("odd", None)


def test_one_logit_has_a_sigmoid(explain):
    code, out = explain("binary", "--score", "sigmoid")
    p = 1 / (1 + np.exp(-LOGITS[0]))
    assert code == 0 and f"{p:6.1%}     0  cat  ← explained" in out and "100" not in out
    maps = np.load("explanation/explanation.npz")
    np.testing.assert_allclose(maps["input_x_gradient"][0], X * W[:, 0] * p * (1 - p), rtol=1e-4)
    code, out = explain("binary", "--score", "probability")
    assert code == 2 and "score='probability' of a one-class model is the constant 1; use score='sigmoid'" in out


def test_a_logit_far_from_0_warns_of_nothing(explain):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        code, out = explain("sure")
    assert code == 0 and "  0.0%     0  cat" in out


def test_labels_have_sigmoids_where_they_are_explained_and_names_go_before_numbers(explain):
    for given in (["--score", "sigmoid"], ["--input_x_gradient.score", "sigmoid"]):
        code, out = explain("labels", "--target", "12", *given)
        assert code == 0 and f"{1 / (1 + np.exp(-LOGITS[2])):6.1%}     2  12  ← explained" in out
    softmax = np.exp(LOGITS - LOGITS.max()) / np.exp(LOGITS - LOGITS.max()).sum()
    assert f"{softmax[1]:6.1%}     1  dog  ← explained" in explain("labels", "--target", "dog")[1]
    for text, places in (("2", [1]), ("2,3", [1, 2])):
        assert explain("graded", "--target", text)[0] == 0
        assert np.load("explanation/explanation.npz")["targets"].tolist() == places
    code, out = explain("graded", "--target", "0")  # neither a name nor, beside names that are numbers, an index
    assert code == 2 and "--target '0' is no class of the model: classes are named 1, 2, 3, 4" in out


@pytest.mark.parametrize(("model", "said"), [("softened", "it is probabilities"), ("squashed", "f ends in a sigmoid")])
def test_probabilities_are_refused(explain, model, said):
    code, out = explain(model)
    assert code == 2 and said in out and "%" not in out and out.count("\n") == 1


@pytest.mark.slow
def test_evaluation_by_one_score(explain, monkeypatch):
    assert cli.main(["evaluate", "digits", "--methods", "gradient", "--metrics", "deletion", "--score", "probability", "--limit", "2", "--out", "run"]) == 0
    from jxai.evaluate.store import Run

    assert Run("run").config["metrics"]["deletion"]["on"]["gradient"]["options"]["score"] == "probability"
