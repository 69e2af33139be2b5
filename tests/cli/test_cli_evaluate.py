"""`jxai evaluate` and `jxai report`: runs that equal the library's, progress, and one line for every kind of bad input."""

import os
import signal
import zipfile

import numpy as np
import pytest
from PIL import Image

from jxai import attribution, data, evaluate, metrics
from jxai.cli import main
from jxai.evaluate import Progress
from jxai.segments import Segmentation

pytestmark = pytest.mark.usefixtures("quick_compilation")

OWN = """
import jax, jax.numpy as jnp, numpy as np
W = np.random.default_rng(0).normal(size=(64, 10)).astype(np.float32)
def make():
    return jax.tree_util.Partial(lambda w, x: jnp.tanh(x.ravel()[:64]) @ w, jnp.asarray(W))
def named():
    f = make()
    class Bundle: model = staticmethod(f); class_names = ["cat", "dog", "fish"] + list("3456789"); input_shape = (6, 7, 3)
    return Bundle()
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "own_model.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fails(capsys, *arguments):
    assert main(["evaluate", *arguments]) == 2
    out, err = capsys.readouterr()
    assert err.startswith("jxai: error: ") and err.count("\n") == 1 and not out, err
    return err


GIVEN = ["--model", "own_model:make", "--out", "run", "--limit", "6", "--sample", "first"]


def test_the_command_runs_what_the_library_runs(here, capsys):
    options = ["--methods", "gradient,abs:gradient,feature_ablation", "--metrics", "pointing_game,deletion,sparseness"]
    more = ["--deletion.steps", "5", "--feature_ablation.segments", "slic:6", "--seed", "3", "--feature_ablation.fill=0.5"]
    assert main(["evaluate", "digits", *GIVEN, *options, *more]) == 0
    out, err = capsys.readouterr()
    assert "6 examples are done, 0 failed; `jxai report run`" in out and "6/6 examples" in err
    import own_model

    methods = {
        "gradient": attribution.gradient,
        "abs:gradient": attribution.gradient,
        "feature_ablation": (attribution.feature_ablation, {"segments": Segmentation("slic", (6.0,)), "fill": 0.5}),
    }
    judges = {"pointing_game": metrics.pointing_game, "deletion": (metrics.deletion, {"steps": 5}), "sparseness": metrics.sparseness}
    mine = evaluate.run(own_model.make(), data.Digits(), methods, judges, here / "mine", model_name="own_model:make", limit=6, sample="first", seed=3)
    theirs = evaluate.Run("run")
    assert theirs.config == mine.config
    table = mine.table()
    assert all(np.array_equal(theirs.table()[name], table[name], equal_nan=name.startswith(("score", "curve"))) for name in table)


def test_report_prints_and_writes_the_table(here, capsys):
    assert main(["evaluate", "digits", *GIVEN, "--methods", "gradient,input_x_gradient", "--metrics", "deletion", "--no-maps"]) == 0
    assert not (here / "run" / "maps").exists()
    capsys.readouterr()
    assert main(["report", "run"]) == 0
    out, _ = capsys.readouterr()
    assert "| gradient |" in out and "summary.csv" in out
    names = {path.name for path in (here / "run" / "report").iterdir()}
    tables = {"summary.csv", "summary.md", "summary.tex", "tests.csv"}
    assert names == tables | {"report.html"} | {
        f"{name}.{kind}" for name in ("heatmap", "curves_deletion", "critical_difference_deletion") for kind in ("png", "pdf")
    }
    assert main(["report", "run", "--out", "tables", "--no-pictures"]) == 0
    assert {path.name for path in (here / "tables").iterdir()} == tables


def test_a_folder_of_images_labelled_by_the_models_classes(here, capsys):
    for n, name in enumerate(["dog/1.png", "cat/1.png", "fish/1.png", "dog/broken.png"]):
        (here / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(n).integers(0, 255, (6, 7, 3), np.uint8)).save(here / "images" / name)
    (here / "images" / "dog" / "broken.png").write_bytes(b"no image")
    arguments = ["--model", "own_model:named", "--out", "run", "--methods", "gradient", "--metrics", "sparseness", "--target", "label"]
    assert main(["evaluate", f"images{os.sep}", *arguments]) == 0
    out, err = capsys.readouterr()
    assert evaluate.Run("run").table()["label"].tolist()[:2] == [0, 1] and evaluate.Run("run").table()["label"][3] == 2
    assert "4 examples are done, 1 failed" in out and "broken.png" in err


@pytest.fixture
def before():
    """Python's own answer to Ctrl-C, which a shell's background jobs do without."""
    found = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, found)


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_that_gets_lost_on_its_way_is_heeded(here, capsys, monkeypatch, before):
    """A finaliser forgets it; clean-up that cannot be done puts another error in its place, as zipfile's does."""

    class Finalised:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    def forgetful(*_, on_progress, **options):
        Finalised()
        on_progress(Progress(0, 9, 0, 1.0, ""))
        raise AssertionError("it went on")

    def shadowed(*_, **options):
        with zipfile.ZipFile(here / "part.zip", "w") as archive:
            member = archive.open("member", "w")
            assert member is not None
            signal.raise_signal(signal.SIGINT)

    for lost in (forgetful, shadowed):
        monkeypatch.setattr(evaluate, "run", lost)
        assert main(["evaluate", "digits", "--methods", "gradient", "--metrics", "sparseness", "--out", "r"]) == 130
        assert capsys.readouterr().err == "\nstopped; the same command goes on with r\njxai: interrupted\n"
        assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digits", "--methods", "gradent", "--metrics", "sparseness"], "unknown method 'gradent'; did you mean gradient"),
        (["digits", "--methods", "gradient", "--metrics", "sparsenes"], "unknown metric 'sparsenes'; did you mean sparseness?"),
        (["digits", "--methods", ",", "--metrics", "sparseness"], "--methods names none"),
        (["digits", "--methods", "rise,rise", "--metrics", "sparseness"], "names 'rise' twice"),
        (["digits", "--methods", "rise", "--metrics", "sparseness", "--rise.num_masks", "0"], "rise: num_masks=0"),
        (["digits", "--methods", "rise", "--metrics", "sparseness", "--sobol.grid", "3"], "--sobol.grid: sobol is not asked for"),
        (["digits", "--methods", "gradient", "--metrics", "deletion", "--deletion.stps", "3"], "unknown option of deletion 'stps'; did you mean steps?"),
        (["digits", "--methods", "gradient", "--metrics", "sparseness", "--split", "tests"], "split='tests' of the digits must be"),
        (["nowhere/images", "--methods", "gradient", "--metrics", "sparseness"], "nowhere/images is no folder"),
        (["digits", "--methods", "gradient", "--metrics", "sparseness", "--process", "1"], "go with --distributed"),
        (["digits", "--methods", "gradient"], "required: --metrics"),
    ],
)
def test_bad_input_is_one_line(here, capsys, arguments, message):
    assert message in fails(capsys, *arguments, *GIVEN)
    assert not (here / "run").exists()


def test_a_run_of_another_configuration_is_refused(here, capsys):
    given = ["digits", *GIVEN, "--methods", "gradient", "--metrics", "sparseness"]
    assert main(["evaluate", *given]) == 0
    capsys.readouterr()
    assert "seed: 0 there, 5 here" in fails(capsys, *given, "--seed", "5")
    assert main(["report", "nowhere"]) == 2 and "no config.json" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written(here, capsys):
    (here / "file").write_text("")
    given = ["digits", "--model", "own_model:make", "--limit", "3", "--sample", "first", "--methods", "gradient", "--metrics", "sparseness"]
    assert "file" in fails(capsys, *given, "--out", f"file{os.sep}run")


def test_metrics_are_listed_with_their_options(capsys):
    assert main(["metrics"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in metrics.__all__) and f"{len(metrics.__all__)} metrics" in out
    assert main(["metrics", "deletion"]) == 0
    assert "--deletion.steps" in capsys.readouterr().out
    assert main(["metrics", "deletionn"]) == 2


def test_methods_and_metrics_of_ones_own_by_module(tmp_path, monkeypatch):
    from jxai.cli import arguments, columns

    (tmp_path / "strangers_own.py").write_text(
        "def twice(f, x, target, key=None, *, gain=2.0):\n    return gain * x\ndef peak(f, x, target, attribution, key=None):\n    return attribution.max()\nsobol = twice\nnumber = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    _, given = arguments.split(["--twice.gain", "3.0"])
    methods, metrics = columns.chosen("gradient,abs:strangers_own:twice", "strangers_own:peak", given, None)
    assert list(methods) == ["gradient", "abs:twice"] and methods["abs:twice"][1] == {"gain": 3.0} and metrics["peak"][0].__name__ == "peak"
    for name, message in (("sobol", "sobol is a method of jxai's"), ("number", "is a int, which cannot be called"), ("twise", "twise")):
        with pytest.raises(columns.UserError, match=message):
            columns.chosen(f"strangers_own:{name}", "sparseness", [], None)


def test_a_run_grows_by_names_values_and_seeds(here, capsys):
    given = ["digits", *GIVEN, "--methods", "gradient", "smoothgrad", "--metrics", "sparseness", "--smoothgrad.num_samples", "2"]
    assert main(["evaluate", *given]) == 0
    before = (here / "run" / "maps" / "000000.npz").stat().st_mtime_ns
    more = ["--methods", "gradient,smoothgrad@num_samples=2@sigma=0.3,smoothgrad", "--metrics", "sparseness,deletion", "--seeds", "0", "1"]
    swept = ["--smoothgrad.num_samples", "3,4", "--deletion.steps", "4", "--deletion.steps", "5"]
    assert main(["evaluate", "digits", *GIVEN, *more, *swept]) == 0
    run = evaluate.Run("run")
    assert run.methods == ["gradient", "smoothgrad", "smoothgrad@num_samples=2@sigma=0.3", "smoothgrad@num_samples=3", "smoothgrad@num_samples=4"]
    assert run.metrics == ["sparseness", "deletion@steps=4", "deletion@steps=5"]
    assert [run.config["methods"][m]["options"]["num_samples"] for m in run.methods[1:]] == [2, 2, 3, 4]
    assert run.config["methods"][run.methods[2]]["options"]["sigma"] == 0.3
    assert (here / "run" / "maps" / "000000.npz").stat().st_mtime_ns == before and not run.lacking()
    table = run.table()
    assert not np.array_equal(table["score/smoothgrad/sparseness"], table["score/smoothgrad@num_samples=3/sparseness"])
    assert "score/smoothgrad@num_samples=3@seed=1/deletion@steps=4" in table and "score/gradient@seed=1/sparseness" not in table
    capsys.readouterr()
    for arguments, message in (
        (["--methods", "smoothgrad", "--smoothgrad.num_samples", "2,5"], "method 'smoothgrad@num_samples=2' is what the run has as 'smoothgrad'"),
        (["--methods", "smoothgrad@samples=3"], "unknown option of smoothgrad 'samples'"),
        (["--methods", "smoothgrad@3"], "'3' must be OPTION=VALUE"),
        (["--methods", "gradient", "--seeds", "0,x"], "--seeds '0,x' must be integers from 0"),
        (["--methods", "smoothgrad,smoothgrad@num_samples=2", "--smoothgrad.num_samples", "2,3"], "names 'smoothgrad@num_samples=2' twice"),
        (["--methods", "smoothgrad", "--smoothgrad.num_samples", "9"], "methods.smoothgrad.options.num_samples: 2 there, 9 here"),
    ):
        assert message in fails(capsys, "digits", *GIVEN, "--metrics", "sparseness", *arguments)
