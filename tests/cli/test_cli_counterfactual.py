"""`jxai counterfactual` and its runs: what is written is what the searches found, an interrupted run goes on, bad input is one line."""

import jax
import numpy as np
import pytest
from PIL import Image

from jxai import counterfactual, data, evaluate, plot
from jxai.cli import main
from jxai.models import digits_cnn, digits_vae

pytestmark = pytest.mark.usefixtures("quick_compilation")

SETTING = {"steps": 60, "threshold": 0.8}


@pytest.fixture(scope="module")
def digits():
    return data.source("digits")


@pytest.fixture(scope="module")
def run(tmp_path_factory, digits):
    out = tmp_path_factory.mktemp("runs") / "run"
    return evaluate.counterfactuals(
        digits_cnn(), digits, out, method="diffeomorphic", options={"generator": digits_vae(), **SETTING}, target="all", limit=5, sample="first", block=2
    )


def test_rows_are_what_the_searches_found(run, digits):
    table, maps = run.table(), run.maps("counterfactual")
    f, x = digits_cnn(), data.load(digits, range(5)).x
    assert table["to"].shape == (5, 9) and (table["to"] != table["predicted"][:, None]).all()
    method = jax.jit(lambda x, t: counterfactual.diffeomorphic(f, x, t, generator=digits_vae(), **SETTING))
    for i, j in [(0, 0), (3, 7), (4, 8)]:
        one = method(x[i], table["to"][i, j])
        assert np.allclose(maps[i][j], one.x, atol=1e-3) and table["reached"][i, j] == one.valid and table["steps"][i, j] == one.steps
        assert table["l1"][i, j] == pytest.approx(float(np.abs(one.x - x[i]).sum()), rel=1e-2)
        assert table["probability"][i, j] == pytest.approx(float(jax.nn.softmax(one.logits)[table["to"][i, j]]), abs=1e-2)
    found = evaluate.found(run)
    assert (found.examples, found.failed, found.searches) == (5, 0, 45) and found.valid == table["reached"].sum() > 35
    assert found.steps == pytest.approx(table["steps"].mean())


def test_an_interrupted_run_goes_on(run, digits, tmp_path):
    class Stop(Exception):
        pass

    def stop(progress):
        if progress.done >= 3:  # within the second block
            raise Stop

    def again(**more):
        options = {"generator": digits_vae(), **SETTING}
        return evaluate.counterfactuals(
            digits_cnn(), digits, tmp_path / "run", method="diffeomorphic", options=options, target="all", limit=5, sample="first", block=2, **more
        )

    with pytest.raises(Stop):
        again(on_progress=stop)
    first = (tmp_path / "run" / "blocks" / "000000.npz").stat().st_mtime_ns
    whole = again()
    assert (tmp_path / "run" / "blocks" / "000000.npz").stat().st_mtime_ns == first  # not computed again
    for name, column in run.table().items():
        assert np.array_equal(whole.table()[name], column), name
    with pytest.raises(ValueError, match="another configuration"):
        evaluate.counterfactuals(digits_cnn(), digits, tmp_path / "run", method="wachter", target="all", limit=5, sample="first", block=2)


def test_a_data_set(tmp_path, capsys):
    command = [
        "counterfactual",
        "digits",
        "--limit",
        "3",
        "--sample",
        "first",
        "--out",
        str(tmp_path / "run"),
        "--diffeomorphic.steps",
        "60",
        "--diffeomorphic.threshold",
        "0.7",
    ]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "3 examples of digits, 0 failed" in shown and "of 3 searches reached their target" in shown
    assert Image.open(tmp_path / "run" / "counterfactuals.png").size[0] > 100


@pytest.mark.slow
def test_methods_without_a_target_and_sets(tmp_path, capsys, digits):
    options = ["--nabla_clue.num_counterfactuals", "3", "--nabla_clue.steps", "4"]
    assert main(["counterfactual", "digits", "--method", "nabla_clue", "--limit", "2", *options, "--out", str(tmp_path / "run")]) == 0
    assert "of 6 searches reached" in capsys.readouterr().out
    run = evaluate.Run(tmp_path / "run")
    table, maps = run.table(), run.maps("counterfactual")
    assert maps[0].shape == (3, 8, 8, 1) and table["reached"].shape == table["steps"].shape == (2, 3)
    assert np.array_equal(np.asarray(jax.vmap(digits_cnn())(maps[1])).argmax(1), table["to"][1])
    np.save(tmp_path / "x.npy", data.load(digits, [0]).x[0])
    base = ["counterfactual", str(tmp_path / "x.npy"), "--model", "digits_cnn", "--out", str(tmp_path / "out")]
    assert main([*base, "--method", "dive", "--target", "6,8", "--dive.num_counterfactuals", "2"]) == 0
    kept = np.load(tmp_path / "out" / "counterfactual.npz")
    assert kept["target"].tolist() == [6, 6, 8, 8] and kept["found"].shape == (4, 8, 8, 1)
    assert main([*base, "--method", "clue"]) == 2 and "clue searches for certainty" in capsys.readouterr().err


def test_an_image(tmp_path, digits, capsys):
    x = np.float32(digits[0].pixels) / np.float32(255) if digits[0].pixels.dtype == np.uint8 else np.float32(digits[0].pixels)
    np.save(tmp_path / "x.npy", x.reshape(8, 8, 1))
    base = ["counterfactual", str(tmp_path / "x.npy"), "--model", "digits_cnn", "--out", str(tmp_path / "out")]
    assert main([*base, "--target", "8,0", "--diffeomorphic.threshold", "0.6"]) == 0
    said = capsys.readouterr().out
    assert "0 → 8" in said and "0 is what it is" in said
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"counterfactual.png", "counterfactual.npz", "path.gif"}
    kept = np.load(tmp_path / "out" / "counterfactual.npz")
    assert np.array_equal(kept["found"][1], kept["x"]) and kept["valid"][1] and kept["steps"][1] == 0
    assert np.allclose(jax.vmap(digits_cnn())(kept["found"])[0], kept["logits"][0], atol=1e-3)
    assert getattr(Image.open(tmp_path / "out" / "path.gif"), "n_frames", 1) > 10


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["digits", "--method", "nope"], "unknown method 'nope'; known: "),
        (["digits", "--target", "12"], "--target 12 must be in [0, 10)"),
        (["digits", "--target", "1,2"], "--target 1,2 must be second, all, or one class"),
        (["digits", "--method", "wachter", "--generator", "digits_vae"], "--generator says nothing about wachter"),
        (["digits", "--method", "native_guide"], "native_guide needs the option examples, labels"),
        (["digits", "--generator", "nope"], "unknown generator 'nope'"),
        (["digits", "--diffeomorphic.threshold", "2"], "threshold=2 must lie in [0, 1]"),
        (["digits", "--diffeomorphic.steps", "0"], "steps=0 must be a positive integer"),
        (["digits", "--limit", "0"], "limit=0 must be a positive integer"),
        (["gone.png", "--model", "digits_cnn"], "gone.png: no such file"),
    ],
)
def test_bad_input_is_one_line(arguments, said, capsys, tmp_path):
    assert main(["counterfactual", *arguments, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_pictures():
    rng = np.random.default_rng(0)
    x, found = rng.uniform(size=(2, 8, 8, 1)), rng.uniform(size=(2, 3, 8, 8, 1))
    figure = plot.counterfactuals(x, found, titles=[["a", "b", "c"]] * 2, originals=["d", "e"], valid=np.arange(6).reshape(2, 3) > 0)
    assert len(figure.axes) == 16 and figure.axes[1].spines["left"].get_edgecolor()[:3] == (1.0, 0.0, 0.0)
    assert [a.get_title() for a in figure.axes[:4]] == ["d", "a", "b", "c"]
    assert len(plot.counterfactuals(x.reshape(2, -1), found.reshape(2, 3, -1)).axes) == 8
    with pytest.raises(ValueError, match="found must be"):
        plot.counterfactuals(x, found[:1])
