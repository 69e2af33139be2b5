"""`jxai uncertainty`: from words to a run and its report; what is wrong is one line, with what there is."""

import json

import numpy as np
import pytest

from jxai.cli import main
from jxai.evaluate import Run

MODEL = """
import jax, jax.numpy as jnp, numpy as np
W = np.random.default_rng(0).normal(size=(64, 10)).astype(np.float32)
def make():
    return jax.tree_util.Partial(lambda w, x: jnp.tanh(x.ravel()) @ w, jnp.asarray(W))
"""
SMALL = ("--model", "uncertain_model:make", "--limit", "12", "--fit-limit", "40")


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "uncertain_model.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fails(capsys, *arguments):
    assert main(["uncertainty", *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("jxai: error: ") and err.count("\n") == 1
    return err


@pytest.mark.usefixtures("quick_compilation")
def test_words_become_a_run_and_its_report(here, capsys):
    command = [
        "uncertainty",
        "digits",
        "--against",
        "noise",
        "digits+gaussian_noise:5",
        "--scores",
        "max_softmax",
        "knn",
        "--knn.num_neighbours",
        "2,5",
        *SMALL,
    ]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "| KNN (num neighbours 5) |" in out and "AUROC, digits+gaussian_noise:5" in out and "`jxai report uncertainty` adds" in out
    run = Run("uncertainty")
    table, config = run.table(), run.config["uncertainty"]
    assert [one["label"] for one in config["sets"]] == ["digits", "noise", "digits+gaussian_noise:5"] and [one["size"] for one in config["sets"]][::2] == [
        597,
        597,
    ]
    assert config["fit_on"]["data"]["name"] == "digits:train" and config["fit_on"]["data"]["examples"] == 40
    assert np.array_equal(table["label"][:12], table["label"][24:]) and {f"uncertainty/knn@num_neighbours={n}" for n in (2, 5)} <= set(table)
    assert len(json.loads((here / "uncertainty" / "report" / "summary.json").read_text())["rows"]) == 62
    assert main(["report", "uncertainty", "--no-pictures", "--out", "again"]) == 0
    assert (here / "again" / "summary.csv").read_text() == (here / "uncertainty" / "report" / "summary.csv").read_text()


@pytest.mark.slow
def test_the_default_is_digits_against_noise_with_every_score_and_a_page(here, capsys):
    assert main(["uncertainty", "digits", "--html"]) == 0
    said = capsys.readouterr()
    assert "left out" not in said.err and "| ViM |" in said.out
    config = Run("uncertainty").config["uncertainty"]
    assert [one["label"] for one in config["sets"]] == ["digits", "noise"] and len(config["scores"]) > 25
    assert "The most and the least certain images" in (here / "uncertainty" / "report" / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digits", "--scores", "energie"], "unknown score 'energie'; did you mean energy"),
        (["digits", "--scores", "energy,energy"], "--scores names 'energy' twice"),
        (["digits", "--scores", "knn", "--knn.neighbours", "3"], "unknown option of knn 'neighbours'; did you mean num_neighbours"),
        (["digits", "--scores", "knn", "--energy.temperature", "3"], "--energy.temperature: energy is not asked for"),
        (["digits", "--scores", "knn", "--fit-on", "none"], "knn: it is fitted, and no examples are named"),
        (["digits", "--scores", "knn", "--fit-split", "validation"], "split='validation' of the digits must be"),
        (["digits", "--against", "digits+mist:3"], "no corruption 'mist'; there are gaussian_noise"),
        (["digits", "--against", "nowhere/images"], "nowhere/images is no folder of images"),
        (["digits", "--against", "noise", "noise"], "--against names 'noise' twice"),
        (["digits", "--against", "digits"], "--against names 'digits' twice, or DATASET itself"),
        (["digits", "--model", "no_such_model"], "unknown model 'no_such_model'"),
        ([], "required: DATASET"),
        (["digits", "--model", "uncertain_model:make", "--limit", "0"], "limit=0 must be a positive integer"),
    ],
)
def test_bad_input_is_one_line(here, capsys, arguments, message):
    assert message in fails(capsys, *arguments, *(() if "--model" in arguments else SMALL))
    assert not (here / "uncertainty").exists()


@pytest.mark.parametrize("words", [["nowhere/images"], ["digits", "--against", "digits+mist:3"], ["digits", "--fit-on", "no_such_set"]])
def test_a_data_set_that_is_not_there_is_said_before_a_network_is_trained(here, capsys, monkeypatch, words):
    monkeypatch.setattr("jxai.cli.inputs.subject", lambda name: pytest.fail(f"{name} was made"))
    assert "no folder of images" in (said := fails(capsys, *words)) or "no corruption 'mist'" in said or "no data set 'no_such_set'" in said


@pytest.mark.usefixtures("quick_compilation")
def test_pictures_of_another_size_are_refused_or_resized(here, capsys):
    from PIL import Image

    (here / "some+photos").mkdir()
    for n in range(3):
        Image.fromarray(np.random.default_rng(n).integers(0, 255, (9, 7, 3), np.uint8)).save(here / "some+photos" / f"{n}.png")
    words = ["digits", "--against", "some+photos+contrast:2", "--scores", "max_softmax", *SMALL]
    assert "the examples of some+photos+contrast:2 have shape (9, 7, 3), those of digits, and what the model takes, (8, 8, 1)" in fails(capsys, *words)
    assert main(["uncertainty", *words, "--resize"]) == 0
    assert Run("uncertainty").config["uncertainty"]["sets"][1]["examples"] == 3 and capsys.readouterr().out
    words = ["digits", "--scores", "knn", "--out", "fits", *SMALL, "--fit-on", "some+photos+contrast:2"]
    assert "the examples of folder:some+photos:" in (said := fails(capsys, *words)) and "have shape (9, 7, 3), those of digits, and what" in said
    assert "have no labels, which scores are fitted by" in fails(capsys, *words, "--resize")
    assert "the model fails on the examples of some+photos" in fails(capsys, "some+photos", "--scores", "energy", *SMALL)
