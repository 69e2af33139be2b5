"""What a run makes of names and options: the score that a method explained is the one that its metrics measure, and the record says so."""

import jax.numpy as jnp
import numpy as np
import pytest
import runs

from jxai import data, evaluate
from jxai.attribution import gradient, occlusion
from jxai.evaluate import tasks
from jxai.metrics import average_drop, deletion, max_sensitivity


def made(methods, metrics):
    shape = (8, 8, 1)
    explainers = tasks.methods(methods, data.Digits(), shape, None)
    return explainers, tasks.judges(metrics, explainers, shape, 0)


def own(f, x, target, key=None):
    return jnp.zeros_like(x)


METHODS = {
    "by default": gradient,
    "by probability": (occlusion, {"score": "probability"}),
    "by sigmoid": (gradient, {"score": "sigmoid"}),
    "of one's own": own,
}


def test_a_metric_measures_what_its_method_explained():
    _, by = made(METHODS, {"deletion": deletion, "named": (deletion, {"score": "probability"}), "average_drop": average_drop})
    scores = {metric: {name: task.options.get("score") for name, task in of.items()} for metric, of in by.items()}
    assert scores["deletion"] == {"by default": "logit", "by probability": "probability", "by sigmoid": "sigmoid", "of one's own": None}
    assert set(scores["named"].values()) == {"probability"}
    # A ratio of logits means nothing: what can be measured of the logit's map is the probability.
    assert scores["average_drop"] == {"by default": "probability", "by probability": "probability", "by sigmoid": "sigmoid", "of one's own": None}


def test_methods_of_one_score_share_a_task_and_the_record_says_which():
    _, by = made({"a": gradient, "b": (occlusion, {"score": "logit"}), "c": (gradient, {"score": "probability"})}, {"deletion": deletion})
    assert by["deletion"]["a"] is by["deletion"]["b"] is not by["deletion"]["c"]
    scores = {method: how["options"]["score"] for method, how in tasks.judged_by(by["deletion"])["on"].items()}
    assert scores == {"a": "logit", "b": "logit", "c": "probability"}
    _, alike = made({"a": gradient}, {"deletion": (deletion, {"steps": 4})})
    assert tasks.judged_by(alike["deletion"])["options"]["steps"] == 4 and tasks.judged_by(alike["deletion"])["on"]["a"]["options"]["score"] == "logit"


def test_a_metric_that_explains_again_does_so_with_the_methods_score():
    explainers, by = made({"a": (gradient, {"score": "probability"})}, {"max_sensitivity": (max_sensitivity, {"num_samples": 2})})
    x, key = np.random.default_rng(0).uniform(size=(8, 8, 1)).astype(np.float32), explainers[0].key(0)
    f, task = runs.model(), by["max_sensitivity"]["a"]
    a = gradient(f, x, 1, score="probability")
    expected = max_sensitivity(f, x, 1, a, key, num_samples=2, method=gradient, method_options={"score": "probability"})
    assert task.fn(f, x, 1, a, key, **task.options) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.slow
def test_a_run_holds_what_was_measured_and_by_which_score(tmp_path):
    methods = {"logit": gradient, "probability": (gradient, {"score": "probability"})}
    done = evaluate.run(runs.model(), data.Digits(), methods, {"deletion": (deletion, {"steps": 4})}, tmp_path / "run", limit=2, sample="first")
    table = done.table()
    assert (table["curve/probability/deletion/y"] <= 1).all() and (table["curve/logit/deletion/y"][:, 0] > 1).all()
    assert {method: how["options"]["score"] for method, how in done.config["metrics"]["deletion"]["on"].items()} == {
        "logit": "logit",
        "probability": "probability",
    }
