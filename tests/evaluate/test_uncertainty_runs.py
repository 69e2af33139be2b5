"""Uncertainty runs: what is in the table is what the scores say, what was begun goes on to the bit, and what is another run is refused."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runs
import uncertainty_runs

from jxai import data, evaluate, naming, uncertainty
from jxai.evaluate import Run
from jxai.evaluate.uncertain.names import left_out

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    run = uncertainty_runs.run(tmp_path_factory.mktemp("uncertainty") / "whole")
    jax.config.update("jax_disable_most_optimizations", before)
    return run


def test_scores_have_proper_names():
    assert set(naming.SCORES) == set(uncertainty.scores.__all__)
    assert naming.proper("vim@dimension=3") == "ViM (dimension 3)"


def test_the_table_is_what_the_scores_say(made):
    table, f = made.table(), runs.model()
    assert table["valid"].all() and np.bincount(table["set"]).tolist() == [21, 11] and (table["label"][21:] == -1).all()
    config = made.config["uncertainty"]
    assert [one["label"] for one in config["sets"]] == ["digits", "noise"] and config["fit_on"]["data"]["examples"] == 30
    source, noise = data.Digits("test"), data.Noise((8, 8, 1), 11)
    chosen = data.sampled(source, 21)
    train = data.Digits("train")
    fit = data.load(train, data.sampled(train, 30))
    answers = [uncertainty.answers(f, x) for x in fit.x]
    bank = uncertainty.fit_knn(jnp.stack([a.features for a in answers]), jnp.stack([a.logits for a in answers]), fit.label)
    for row, pixels in ((3, source[chosen[3]].pixels), (30, noise[9].pixels)):
        x = np.float32(pixels) / 255
        p = np.asarray(jax.nn.softmax(f(x)))
        assert table["uncertainty/max_softmax"][row] == pytest.approx(-p.max(), rel=1e-5) and table["predicted"][row] == p.argmax()
        for name, fitted in (("energy", None), ("knn", bank), ("odin", None)):
            own = {} if fitted is None else {"fitted": fitted, "num_neighbours": 5}
            assert table[f"uncertainty/{name}"][row] == pytest.approx(float(getattr(uncertainty, name)(f, x, **own)), rel=1e-4)
        if row == 3:
            y = source[chosen[3]].label
            assert table["log_likelihood"][row] == pytest.approx(np.log(p[y]), rel=1e-4)
            assert table["brier"][row] == pytest.approx(((p - np.eye(10)[y]) ** 2).sum(), rel=1e-4)
    assert np.isnan(table["brier"][21:]).all() and made.looked_at({0})[0]["_picture"].shape == (8, 8, 1)


@pytest.mark.parametrize("stop", [8, 24, 41], ids=["fitting", "fitted", "scoring"])
def test_what_was_stopped_goes_on_to_the_same_bits(made, tmp_path, stop):
    class Stop(Exception):
        pass

    seen = []

    def stopping(progress):
        seen.append(progress.fresh)
        if progress.what == "" and sum(b > a for a, b in zip(seen, seen[1:])) >= -(-stop // 8):
            raise Stop

    with pytest.raises(Stop):
        uncertainty_runs.run(tmp_path / "run", on_progress=stopping)
    there = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("blocks/*.npz")}
    assert there
    again = uncertainty_runs.run(tmp_path / "run")
    assert runs.same(again, made) and all(path.stat().st_mtime_ns == at for path, at in there.items())


def test_blocks_and_damage_show_in_no_bit(made, tmp_path):
    run = uncertainty_runs.run(tmp_path / "run", block=5)
    assert runs.same(run, made)
    (run.path / "fits" / "knn.npz").write_bytes(b"no fit")
    (run.path / "blocks" / "000001.npz").write_bytes(b"no block")
    assert runs.same(uncertainty_runs.run(run.path), made)
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*.npz")}
    uncertainty_runs.run(run.path)
    assert before == {path: path.stat().st_mtime_ns for path in run.path.rglob("*.npz")}


def test_what_is_begun_anew_keeps_no_fit(tmp_path):
    knn = {"knn": (uncertainty.knn, {"num_neighbours": 5})}
    fitted = lambda out, limit, **more: uncertainty_runs.run(tmp_path / out, scores=knn, fit_limit=limit, limit=5, **more)
    first, other = (fitted(out, limit).table()["uncertainty/knn"].copy() for out, limit in (("run", 30), ("other", 60)))
    again = fitted("run", 60, anew=True)
    assert not np.array_equal(first, other) and np.array_equal(again.table()["uncertainty/knn"], other)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"scale": 2.0}, "model"),
        ({"scores": ("max_softmax", "energy")}, "uncertainty.scores"),
        (
            {"scores": {**dict.fromkeys(uncertainty_runs.SCORES), "knn": (uncertainty.knn, {"num_neighbours": 3})}},
            "uncertainty.scores.knn.options.num_neighbours",
        ),
        ({"against": {"noise": data.Noise((8, 8, 1), 11, seed=1)}}, "data.name"),
        ({"fit_limit": 31}, "uncertainty.fit_on"),
        ({"fit_on": data.Digits("test")}, "uncertainty.fit_on.data"),
        ({"limit": 20}, "data"),
        ({"seed": 1}, "seed"),
    ],
)
def test_another_run_is_refused_by_name(made, changed, message):
    before = made.table()
    with pytest.raises(ValueError, match=f"is a run of another configuration: .*{message}"):
        uncertainty_runs.run(made.path, **changed)
    assert list(before) == list(made.table())


def test_scores_that_cannot_be_had_are_left_out_with_the_reason(tmp_path):
    run = uncertainty_runs.run(tmp_path / "run", scores={"max_softmax": None, "knn": None, "rank_feat": None}, strict=False, fit_on=None, limit=3)
    why = left_out(run)
    assert set(why) == {"knn", "rank_feat"} and "no examples are named to fit it on" in why["knn"]
    assert [name for name in run.table() if name.startswith("uncertainty/")] == ["uncertainty/max_softmax"]


def one_logit(x):
    return x.ravel()[:1]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"scores": ("energie",)}, "unknown score 'energie'; known: ash, .*, energy, entropy"),
        ({"scores": "some"}, "scores='some' must be a sequence"),
        ({"scores": {"knn": (uncertainty.knn, {"neighbours": 3})}}, "knn has no option 'neighbours', but layer, num_neighbours"),
        ({"fit_on": None}, "knn: it is fitted, and no examples are named"),
        ({"fit_on": data.Noise((8, 8, 1), 9)}, "have no labels, which scores are fitted by"),
        ({"fit_on": data.Arrays(np.zeros((3, 9, 9, 1), np.uint8), [0, 1, 2], name="nines")}, r"the examples of nines have shape \(9, 9, 1\), those of digits"),
        ({"against": {"noise": data.Noise((8, 8, 3), 9)}}, r"the examples of noise have shape \(8, 8, 3\), those of digits.*\(8, 8, 1\).*resized"),
        ({"against": {"digits": data.Noise((8, 8, 1), 9)}}, "against names 'digits', which is the data set itself"),
        ({"against": [data.Noise((8, 8, 1), 9)]}, "against must name other data sets"),
        ({"limit": 0}, "limit=0"),
    ],
)
def test_what_is_wrong_is_said_before_any_work(tmp_path, changed, message):
    with pytest.raises(ValueError, match=message):
        uncertainty_runs.run(tmp_path / "run", **changed)
    assert not (tmp_path / "run").exists()


def test_examples_that_the_model_does_not_take_are_said(tmp_path):
    with pytest.raises(ValueError, match=r"the model fails on the examples of noise: noise:9×9×1:3, of shape \(9, 9, 1\): dot_general requires"):
        evaluate.uncertainty(runs.model(), data.Noise((9, 9, 1), 3), tmp_path / "run", label="noise", scores=("max_softmax",))


def test_a_model_of_one_logit_has_no_two_classes(tmp_path):
    with pytest.raises(ValueError, match="must be two logits or more"):
        evaluate.uncertainty(jax.tree_util.Partial(one_logit), data.Digits("test"), tmp_path / "run", scores=("max_softmax",))


def test_labels_of_other_classes_are_no_labels(tmp_path):
    x = np.zeros((3, 8, 8, 1), np.uint8)
    other = {"letters": data.Arrays(x, [0, 1, 2], class_names="abcdefghij"), "digits too": data.Arrays(x, [0, 1, 99], class_names="0123456789")}
    run = uncertainty_runs.run(tmp_path / "run", against=other, scores=("max_softmax",), limit=3)
    table = run.table()
    assert table["label"][3:].tolist() == [-1, -1, -1, 0, 1, 99] and table["valid"].tolist() == [True] * 8 + [False]
    assert "its label 99 is no class" in table["error"][-1] and np.isnan(table["uncertainty/max_softmax"][-1])
    assert [one["labelled"] for one in Run(run.path).config["uncertainty"]["sets"]] == [True, False, True]
    json.loads((run.path / "left_out.json").read_text())
