"""`jxai certify`: counts that equal the library's, runs that go on after a kill, certificates that verify, one line for bad input."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jxai import certificates, cli, data, evaluate
from jxai.bounds import ball, margins
from jxai.bounds.attack import attack
from jxai.bounds.certify import certify, least
from jxai.evaluate import certification

pytestmark = pytest.mark.usefixtures("quick_compilation")

OWN = """
import jax, jax.numpy as jnp, numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
def net(weights, x):
    return weights[1] @ jax.nn.relu(weights[0] @ x.ravel())
def make():
    digits = load_digits()
    fitted = LogisticRegression(max_iter=500).fit(digits.images[300:500].reshape(200, -1) / 16, digits.target[300:500])
    # The linear model as a network: its logits are 100 + W x, all of them positive.
    first = np.concatenate([fitted.coef_ + 100 / 64, -np.eye(64)[:6]]).astype(np.float32)
    second = np.concatenate([np.eye(10), np.zeros((10, 6))], 1).astype(np.float32)
    return jax.tree_util.Partial(net, [jnp.asarray(first), jnp.asarray(second)])
def named():
    f = make()
    class Bundle: model = staticmethod(f); class_names = ["cat", "dog", "fish"] + list("3456789"); input_shape = (8, 8, 1)
    return Bundle()
def multiplying():
    return lambda x: jnp.cumprod(x.ravel())[:10]
def sums():
    return lambda x: x.sum()
"""
RADIUS = 0.06


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "own_certified.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    made = {}
    exec(OWN, made)
    return made["make"]()


@pytest.fixture(scope="module")
def whole(tmp_path_factory, model):
    """An undisturbed run."""
    return run(model, tmp_path_factory.mktemp("certified") / "whole")


def run(model, out, source=None, **options):
    given = {"radius": RADIUS, "method": "crown_ibp", "limit": 40, "sample": "first", "block": 8, "batch_size": 2, "steps": 10, **options}
    return evaluate.certify(model, source or data.Digits(), out, **given)


def same(a, b):
    a, b = a.table(), b.table()
    return list(a) == list(b) and all(a[name].tobytes() == b[name].tobytes() for name in a)


def main(capsys, *arguments, code=0):
    assert cli.main(["certify", *map(str, arguments)]) == code
    out, err = capsys.readouterr()
    if code == 2:
        assert err.startswith("jxai: error: ") and err.count("\n") == 1 and not out, err
        return err
    return out


GIVEN = ["--model", "own_certified:make", "--radius", RADIUS, "--method", "crown_ibp"]


def test_every_row_is_what_the_bounds_and_the_attack_say(whole, model):
    table, digits = whole.table(), data.Digits()
    assert table["index"].tolist() == list(range(40)) and table["valid"].all()
    proved = jax.jit(lambda x, label: least(margins(model, ball(x, RADIUS, clip=(0, 1)), label, method="crown_ibp", rounding="outward"), label))
    for i in range(0, 40, 3):
        x, label = jnp.asarray(np.float32(digits[i].pixels) / 255), digits[i].label
        assert table["label"][i] == label and table["predicted"][i] == int(model(x).argmax())
        assert table["margin"][i] == pytest.approx(float(proved(x, label)), abs=1e-4)
        assert table["certified"][i] == (table["margin"][i] > 0) and table["attacked"][i] == (table["attack"][i] < 0)
        # The model is nearly linear here: the attack gets close to what the bound proves, and never below.
        assert table["attack"][i] - 0.3 <= table["margin"][i] <= table["attack"][i] + 1e-4
    found = evaluate.counts(whole)
    assert found.certified == (table["margin"] > 0).sum() > 10 and found.attacked == (table["attack"] < 0).sum() > 0
    assert found.misclassified == (table["predicted"] != table["label"]).sum() > 0 and found.certified + found.attacked + found.unknown == 40
    key = jax.random.fold_in(jax.random.key(0), 4)
    one = attack(model, ball(jnp.asarray(np.float32(digits[4].pixels) / 255), RADIUS, clip=(0, 1)), digits[4].label, key, steps=10, restarts=2)
    assert table["attack"][4] == pytest.approx(float(one.margin), abs=1e-2)


@pytest.mark.parametrize("options", [{"block": 11}, {"devices": jax.devices()[:1]}], ids=["blocks", "one device"])
def test_results_do_not_depend_on_blocks_or_devices(whole, model, tmp_path, options):
    assert same(run(model, tmp_path / "run", **options), whole)


def test_a_run_goes_on_and_refuses_another_configuration(whole, model, tmp_path):
    class Stop(BaseException):
        pass

    def stop(progress):
        if progress.fresh >= 16:
            raise Stop

    with pytest.raises(Stop):
        run(model, tmp_path / "run", on_progress=stop)
    there = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "blocks").iterdir()}
    assert len(there) == 2 and evaluate.counts(evaluate.Run(tmp_path / "run")).certified > 0
    assert same(run(model, tmp_path / "run"), whole) and all(path.stat().st_mtime_ns == time for path, time in there.items())
    for change, message in [({"radius": 0.04}, "certification.radius: 0.06 there, 0.04 here"), ({"p": 2}, "certification.p: 'inf' there"),
                            ({"options": {"rounding": "nearest"}}, "certification.bound.rounding: 'outward' there"), ({"seed": 1}, "seed: 0 there")]:  # fmt: skip
        with pytest.raises(ValueError, match=message):
            run(model, tmp_path / "run", **change)
    with pytest.raises(ValueError, match="is no run of methods and metrics"):
        evaluate.report([whole], tmp_path / "report")


def test_certified_and_attacked_is_an_error(model, tmp_path, monkeypatch):
    monkeypatch.setattr(certification, "margins", lambda f, region, label, **options: jnp.ones(10))
    with pytest.raises(RuntimeError, match=r"is certified \(its margin is at least 1.0\) and attacked .* the bounds .*crown_ibp.* are wrong"):
        run(model, tmp_path / "run", radius=0.061)
    assert not list((tmp_path / "run").rglob("*.npz"))


class Damaged(data.Digits):
    """Example 1 cannot be read, 2 is too bright, 3 has a label that is no class."""

    def __getitem__(self, index):
        example = super().__getitem__(index)
        if index == 1:
            raise OSError("cannot be read")
        if index == 2:
            return data.Example(np.float32(example.pixels) / 200, example.label)
        return data.Example(example.pixels, 12 if index == 3 else example.label)


def test_examples_that_fail_are_counted_apart(whole, model, tmp_path):
    damaged = run(model, tmp_path / "run", Damaged(), limit=8)
    table, other = damaged.table(), whole.table()
    assert np.array_equal(table["valid"], [True, False, False, False, *[True] * 4]) and evaluate.counts(damaged).failed == 3
    assert [e.split(":")[0] for e in table["error"][1:4]] == ["OSError", "its entries must lie in [0.0, 1.0]", "its label 12 is no class in [0, 10)"]
    for name in ("margin", "attack", "certified", "attacked"):
        assert np.array_equal(table[name][[0, 4, 5, 6, 7]], other[name][[0, 4, 5, 6, 7]])
    assert np.isnan(table["margin"][1:4]).all() and not table["certified"][1:4].any() and not table["attacked"][1:4].any()


def test_the_command_prints_the_counts(here, capsys, model):
    arguments = ["digits", *GIVEN, "--limit", 40, "--sample", "first", "--block", 8, "--batch-size", 2, "--steps", 10, "--out", "run"]
    out = main(capsys, *arguments)
    mine = run(model, here / "mine", model_name="own_certified:make")
    assert same(evaluate.Run("run"), mine)
    found = evaluate.counts(mine)
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == "40 examples of digits, radius 0.06 (p = inf), by crown_ibp:".split()
    assert lines[1][:3] == ["certified", str(found.certified), f"{found.certified / 40:.1%}"]
    assert lines[2][:2] == ["attacked", str(found.attacked)] and lines[2][3:5] == [str(found.misclassified), "of"]
    assert lines[3][:2] == ["unknown", str(found.unknown)]
    assert main(capsys, *arguments) == out
    assert "seed: 0 there, 3 here" in main(capsys, *arguments, "--seed", 3, code=2)
    assert "is no run of methods and metrics" in (cli.main(["report", "run"]), capsys.readouterr().err)[1]


def test_target_predicted_needs_no_labels(here, capsys):
    (here / "images").mkdir()
    for n in range(3):
        Image.fromarray(np.repeat(data.Digits()[n].pixels, 3, -1)).save(here / "images" / f"{n}.png")
    (here / "grey.py").write_text(
        "import own_certified\ndef make():\n    f = own_certified.make()\n    class B: model = staticmethod(f); preprocess = staticmethod(lambda p: p[..., :1] / 255)\n    return B()"
    )
    given = ["images/", "--model", "grey:make", "--radius", 0, "--method", "interval"]
    assert "have no labels" in main(capsys, *given, code=2)
    assert "certified       3  100.0%" in main(capsys, *given, "--target", "predicted")


def digit(here, index):
    np.save(here / f"{index}.npy", np.float32(data.Digits()[index].pixels) / 255)
    return f"{index}.npy"


def test_one_image(here, capsys, whole, model):
    table = whole.table()
    sure, shaky = int(table["margin"].argmax()), int(np.where(table["attacked"] & (table["predicted"] == table["label"]))[0][0])
    given = ["--model", "own_certified:named", "--radius", RADIUS, "--method", "crown_ibp"]
    names = ["cat", "dog", "fish", *"3456789"]
    out = main(capsys, digit(here, sure), *given)
    assert out.startswith(f"{sure}.npy, {names[table['label'][sure]]}: certified, no change within radius 0.06 (p = inf) changes the class (margin at least")
    assert out.count("\n") == 1 and out.endswith("wrote certificate.npz\n")
    certificate = certificates.load("certificate.npz")
    x = jnp.asarray(np.load(f"{sure}.npy"))
    assert certificates.verify(model, x, certificate).holds and not certificates.verify(model, x * 0.99, certificate).holds
    assert np.allclose(certificate.margins, certify(model, x, RADIUS, clip=(0, 1), method="crown_ibp").margins)
    os.remove("certificate.npz")
    out = main(capsys, digit(here, shaky), *given)
    assert f"{names[table['label'][shaky]]}: attacked, a change within" in out and "makes own_certified:named say" in out
    wrong = (int(table["label"][sure]) + 1) % 10
    assert (
        main(capsys, f"{sure}.npy", *given, "--target", names[wrong])
        == f"{sure}.npy, {names[wrong]}: own_certified:named says {names[table['label'][sure]]} as it is\n"
    )
    out = main(capsys, f"{sure}.npy", "--model", "own_certified:named", "--radius", 0.2, "--method", "interval", "--p", 1)
    assert ": unknown, interval proves nothing within radius 0.2 (p = 1), and no attack changes the class" in out
    assert not os.path.exists("certificate.npz")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--radius", "-0.1"], "radius=-0.1 must be a finite number of at least 0"),
        (["--radius", "nan"], "radius=nan must be"),
        (["--radius", "big"], "--radius"),
        ([], "required: --radius"),
        (["--radius", "0.1", "--p", "3"], "--p"),
        (["--radius", "0.1", "--method", "cron"], "unknown method 'cron'; did you mean crown"),
        (["--radius", "0.1", "--clip", "0"], "--clip '0' must be LOW,HIGH or none"),
        (["--radius", "0.1", "--clip", "1,0"], "clip=(1.0, 0.0) must be (low, high)"),
        (["--radius", "0.1", "--clip", "0.2,0.3"], "x must lie in clip, but at (0, 0, 0) it is 0.0, outside of [0.2, 0.3]"),
        (["--radius", "0.1", "--steps", "0"], "steps=0 must be a positive"),
        (["--radius", "0.1", "--restarts", "0"], "restarts=0 must be a positive"),
        (["--radius", "0.1", "--margins.chunk", "0"], "chunk=0 must be a positive"),
        (["--radius", "0.1", "--margins.rounding", "up"], "rounding='up' must be one of"),
        (["--radius", "0.1", "--margins.stps", "3"], "unknown option of margins 'stps'"),
        (["--radius", "0.1", "--margins.method", "crown"], "--margins.method is --method"),
        (["--radius", "0.1", "--model", "own_certified:multiplying"], "cumprod"),
        (["--radius", "0.1", "--model", "own_certified:sums"], "must be a vector of logits"),
        (["--radius", "0.1", "--model", "robust_mnst"], "unknown model 'robust_mnst'"),
    ],
)
@pytest.mark.parametrize("what", ["image", "data"])
def test_bad_input_is_one_line(here, capsys, what, arguments, message):
    model = [] if "--model" in arguments else ["--model", "own_certified:make"]
    error = main(capsys, digit(here, 0) if what == "image" else "digits", *model, *arguments, code=2)
    # A model of an image is asked for its classes before it is bounded.
    assert message in error or (what == "image" and "sums" in str(arguments) and "must return a vector of logits" in error)
    assert not os.path.exists("certification") and not os.path.exists("certificate.npz")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["0.npy", "--target", "10"], "--target 10 must be in [0, 10)"),
        (["0.npy", "--target", "1,2"], "must name one class"),
        (["0.npy", "--limit", "3"], "--limit says nothing about an image"),
        (["0.npy", "--batch-size", "3"], "--batch-size says nothing about an image"),
        (["0.npy", "--out", "there"], "--out there must end in .npz"),
        (["nowhere.png"], "nowhere.png: no such file"),
        (["digits", "--target", "3"], "target='3' must be one of"),
        (["digits", "--limit", "0"], "limit=0 must be a positive"),
        (["digits", "--out", "0.npy"], "is no run"),
        (["nowhere/images"], "nowhere/images is no folder"),
    ],
)
def test_bad_input_of_images_and_data_sets(here, capsys, arguments, message):
    digit(here, 0)
    assert message in main(capsys, *arguments, *GIVEN, code=2)


@pytest.mark.slow  # the loop of blocks is that of evaluations, which are killed in tests/evaluate
def test_kill_9_loses_the_block_in_flight_at_most(here, whole):
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "PYTHONPATH": str(Path(cli.__file__).parents[2])}
    kept = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_PLATFORMS") and not k.lower().endswith("_proxy")}
    command = [sys.executable, "-m", "jxai", "certify", "digits", *map(str, GIVEN), "--limit", "300", "--block", "4", "--batch-size", "2", "--steps", "10"]

    def start(out):
        return subprocess.Popen([*command, "--out", out], env={**kept, **flags}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    first, end = start("killed"), time.monotonic() + 120
    while len(list((here / "killed" / "blocks").glob("[0-9]*.npz"))) < 5:
        assert time.monotonic() < end and first.poll() is None
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    there = {path: path.stat().st_mtime_ns for path in (here / "killed" / "blocks").glob("[0-9]*.npz")}
    assert len(there) < 75, "it was done before it could be killed"
    again, undisturbed = start("killed"), start("undisturbed")
    outs = [process.communicate(timeout=200) for process in (again, undisturbed)]
    assert again.returncode == undisturbed.returncode == 0, outs
    assert outs[0][0].splitlines()[:4] == outs[1][0].splitlines()[:4] and "300/300" in outs[0][1]
    assert same(evaluate.Run(here / "killed"), evaluate.Run(here / "undisturbed"))
    assert all(path.stat().st_mtime_ns == written for path, written in there.items())
