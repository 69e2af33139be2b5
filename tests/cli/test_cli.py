"""The command line: results that equal the library's, and one line with exit code 2 for every kind of bad input."""

import importlib
import sys
from functools import partial

import jax
import numpy as np
import pytest
from PIL import Image

from jxai import attribution, cli, fills
from jxai.cli import explain, programs
from jxai.segments import Segmentation

OWN_MODEL = """
import dataclasses
import jax.numpy as jnp
import numpy as np
from flax import nnx

WEIGHTS = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)

def plain():
    return lambda x: jnp.tanh(x.mean((0, 1))) @ WEIGHTS

class Net(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.out = nnx.Linear(4, 4, rngs=rngs)

    def __call__(self, x):
        return self.out(nnx.relu(self.conv(x)).mean((0, 1)))

@dataclasses.dataclass
class Bundle:
    model: object
    preprocess: object
    class_names: list
    input_shape: tuple

def bundle():
    half = lambda pixels: np.float32(pixels[::2, ::2]) / 255
    return Bundle(Net(nnx.Rngs(0)), half, ["tabby, tabby cat", "tiger", "dog", "great white"], (8, 10, 3))

def tabular():
    return lambda x: jnp.stack([x @ jnp.arange(5.0), -x.sum()])

def matrix():
    return lambda x: x.mean(0)

def scalar():
    return lambda x: x.sum()

def dense():
    return lambda x: x.reshape(-1) @ jnp.ones((7, 4))

def not_finite():
    return lambda x: jnp.log(-1 - x.mean((0, 1)))

def haiku():
    import haiku as hk
    return hk.transform(lambda x: x)
def number():
    return 3

def broken():
    raise RuntimeError("no weights\\nand more lines")
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a photograph and a stranger's model."""
    (tmp_path / "own.py").write_text(OWN_MODEL)
    (tmp_path / "empty").mkdir()
    pixels = np.random.default_rng(1).integers(0, 255, (16, 20, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield tmp_path
    sys.modules.pop("own", None)


def own():
    return importlib.import_module("own")


def run(*arguments):
    return cli.main(["explain", *map(str, arguments)])


def written(folder):
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and p.suffix in (".png", ".npz") and "cache" not in p.parts)


def refused(capsys, here, *arguments):
    """Runs what must fail; returns the line on stderr after checking that nothing else happened."""
    before = written(here)
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("jxai: error: ") and captured.err.count("\n") == 1, captured.err
    assert "%" not in captured.out and written(here) == before
    return captured.err


# Results


def test_maps_equal_the_library_and_options_reach_the_methods(here, capsys):
    arguments = ["--methods", "gradient,sobol,smoothgrad", "--target", "tabby cat,3", "--seed", 5]
    sobol = ["--sobol.grid", "4,5", "--sobol.num_designs", "8"]
    assert run("photo.png", "--model", "own:bundle", *arguments, *sobol, "--sobol.fill=blur:2") == 0
    out = capsys.readouterr().out
    results = np.load(here / "explanation" / "explanation.npz")
    made = own().bundle()
    x = made.preprocess(np.asarray(Image.open("photo.png")))
    np.testing.assert_array_equal(results["x"], x)
    np.testing.assert_array_equal(results["targets"], [0, 3])
    np.testing.assert_allclose(results["logits"], made.model(x), rtol=1e-5)
    key = jax.random.key(5)
    for row, target in enumerate((0, 3)):
        expected = jax.jit(partial(attribution.sobol, made.model, grid=(4, 5), num_designs=8, fill=fills.Blur(2)))(x, target, key=key)
        np.testing.assert_allclose(results["sobol"][row], expected, rtol=1e-3, atol=1e-4)
        expected = jax.jit(partial(attribution.smoothgrad, made.model))(x, target, key=key)
        np.testing.assert_allclose(results["smoothgrad"][row], expected, rtol=1e-3, atol=1e-5)
    probabilities = jax.nn.softmax(results["logits"])
    assert f"{probabilities[0]:.1%}     0  tabby, tabby cat  ← explained" in out
    assert Image.open(here / "explanation" / "explanation.png").size[0] > 400


def test_the_top_class_is_explained_by_default_and_the_seed_decides(here):
    def maps(seed, out):
        assert run("photo.png", "--model", "own:bundle", "--methods", "smoothgrad", "--seed", seed, "--out", out) == 0
        return np.load(here / out / "explanation.npz")

    one, again, other = maps(1, "a"), maps(1, "b"), maps(2, "c")
    assert one["targets"] == np.argmax(one["logits"])
    np.testing.assert_array_equal(one["smoothgrad"], again["smoothgrad"])
    assert np.abs(one["smoothgrad"] - other["smoothgrad"]).max() > 0


def test_several_images_go_to_folders_named_after_them(here):
    (here / "more").mkdir()
    Image.open("photo.png").rotate(180).save("more/photo.png")
    Image.open("photo.png").save("other.png")
    assert run("photo.png", "more/photo.png", "other.png", "--model", "own:plain", "--methods", "gradient", "--out", "o") == 0
    assert sorted(p.name for p in (here / "o").iterdir()) == ["index.csv", "other", "photo", "photo-2"]
    maps = {n: np.load(here / "o" / n / "explanation.npz") for n in ("photo", "photo-2", "other")}
    np.testing.assert_array_equal(maps["photo"]["x"], maps["photo-2"]["x"][::-1, ::-1])
    np.testing.assert_array_equal(maps["photo"]["gradient"], maps["other"]["gradient"])


def test_images_of_one_shape_share_programs_and_a_map_of_the_top_class_comes_with_the_prediction(here, monkeypatch):
    Image.open("photo.png").rotate(180).save("turned.png")
    made, compiling = [], programs.compiled
    monkeypatch.setattr(programs, "compiled", lambda traced, runs: made.append(runs) or compiling(traced, runs))
    images = ["photo.png", "turned.png", "--model", "own:bundle"]
    for methods, count in (("gradient", 1), ("gradient,input_x_gradient", 3)):
        made.clear()
        assert run(*images, "--methods", methods, "--out", str(count)) == 0
        assert made == [len(images) - 2] * count
    for image in ("photo", "turned"):
        alone, among = (np.load(here / out / image / "explanation.npz") for out in "13")
        assert alone["targets"] == among["targets"] == np.argmax(alone["logits"])
        np.testing.assert_allclose(alone["logits"], among["logits"], rtol=1e-6)
        np.testing.assert_allclose(alone["gradient"], among["gradient"], rtol=1e-5, atol=1e-8)


def test_images_of_one_shape_with_other_numbers_of_segments_are_not_confused(here):
    flat = np.full((16, 20, 3), 90, np.uint8)
    flat[:, 12:] = 200
    Image.fromarray(flat).save("flat.png")
    arguments = ["--model", "own:bundle", "--methods", "feature_ablation", "--feature_ablation.segments", "slic:20"]
    assert run("flat.png", "photo.png", *arguments, "--out", "both") == 0
    assert run("photo.png", *arguments, "--out", "alone") == 0
    both, alone = (np.load(here / p / "explanation.npz") for p in ("both/photo", "alone"))
    np.testing.assert_array_equal(both["feature_ablation"], alone["feature_ablation"])


def test_an_array_is_an_example_as_it_is(here):
    np.save("row.npy", np.arange(5, dtype=np.float32))
    assert run("row.npy", "--model", "own:tabular", "--methods", "gradient,input_x_gradient", "--target", 0) == 0
    results = np.load(here / "explanation" / "explanation.npz")
    np.testing.assert_allclose(results["gradient"], [[0, 1, 2, 3, 4]])
    np.testing.assert_allclose(results["input_x_gradient"], [[0, 1, 4, 9, 16]])


def test_methods_that_need_segments_get_those_of_the_image(here):
    named = ["--feature_ablation.segments", "slic:6"]
    assert run("photo.png", "--model", "own:bundle", "--methods", "feature_ablation,xrai", *named) == 0
    results = np.load(here / "explanation" / "explanation.npz")
    labels = Segmentation("slic", (6,))(results["x"])
    expected = attribution.feature_ablation(own().bundle().model, results["x"], results["targets"][0], segments=labels)
    np.testing.assert_allclose(results["feature_ablation"][0], expected, rtol=1e-3, atol=1e-6)
    assert labels.shape == (8, 10) and labels.min() == 0 and results["xrai"].shape == (1, 8, 10, 1)
    np.save("halves.npy", np.repeat([0, 1], 40).reshape(8, 10))
    assert run("photo.png", "--model", "own:bundle", "--methods", "feature_ablation", "--feature_ablation.segments", "halves.npy") == 0
    ablation = np.load(here / "explanation" / "explanation.npz")["feature_ablation"][0, ..., 0]
    assert np.ptp(ablation[:4]) == np.ptp(ablation[4:]) == 0 and ablation[0, 0] != ablation[7, 0]


def test_ctrl_c_writes_nothing_and_exits_130(here, capsys, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(explain, "_run", stop)
    assert run("photo.png", "--model", "own:plain", "--methods", "gradient") == 130
    assert capsys.readouterr().err == "jxai: interrupted\n" and written(here) == ["photo.png"]


# Bad input


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["photo.png", "--methods", "gradcam"], "unknown method 'gradcam'; did you mean grad_cam"),
        (["photo.png", "--methods", ","], "--methods names none"),
        (["photo.png", "--methods", "sobol", "--sobol.grids", "3"], "unknown option of sobol 'grids'; did you mean grid?"),
        (["photo.png", "--methods", "sobol", "--rise.fill", "0"], "--rise.fill: rise is not asked for, only sobol"),
        (["photo.png", "--methods", "sobol", "--sobal.grid", "3"], "unknown method 'sobal'; did you mean sobol?"),
        (["photo.png", "--methods", "sobol", "--sobol.grid"], "--sobol.grid needs a value"),
        (["photo.png", "--methods", "sobol", "--sobol.grid", "many"], "--sobol.grid 'many' must be"),
        (["photo.png", "--methods", "sobol", "--sobol.fill", "blur:x"], "--sobol.fill: blur:x must give numbers for sigma"),
        (["photo.png", "--methods", "sobol", "--sobol.grid", "12"], "sobol: grid=12 is larger than the positions of x, (8, 10)"),
        (["photo.png", "--methods", "sobol", "--sobol.estimator", "jensen"], "sobol: estimator='jensen' must be one of"),
        (["photo.png", "--methods", "grad_cam", "--grad_cam.layer", "konv"], "grad_cam: "),
        (["photo.png", "--methods", "lime", "--lime.segments", "slick:9"], "--lime.segments 'slick:9' must be slic:COUNT"),
        (["photo.png", "--methods", "lime", "--lime.segments", "slic:0"], "--lime.segments 'slic:0' must give numbers of at least 1"),
        (["photo.png", "--target", "4"], "--target 4 must be in [0, 4)"),
        (["photo.png", "--target", "-1"], "--target -1 must be in [0, 4)"),
        (["photo.png", "--target", "taby"], "--target 'taby' is no class of own:bundle; did you mean tabby"),
        (["absent.png"], "absent.png: no such file"),
        (["empty"], "empty holds no images"),
        (["own.py"], "own.py cannot be read as an image"),
        (["photo.png", "--seed", "x"], "argument --seed: invalid seed value: 'x'"),
        (["photo.png", "--seed", "-1"], "argument --seed: -1 must be in"),
        (["photo.png", "--nothing"], "unrecognized arguments: --nothing"),
        (["photo.png", "--out", "photo.png/x"], "--out photo.png/x: photo.png is not a folder"),
    ],
)
def test_bad_arguments(here, capsys, arguments, said):
    assert said in refused(capsys, here, "--model", "own:bundle", *arguments)


@pytest.mark.parametrize(
    "model, said",
    [
        ("efficientnet_lite", "unknown model 'efficientnet_lite'; did you mean efficientnet_lite"),
        ("absent.module:make", "--model absent.module:make: No module named 'absent'"),
        ("own:bundel", "unknown name in own 'bundel'; did you mean bundle, Bundle?"),
        ("own:matrix", "model 'own:matrix' must return a vector of logits [K], got (20, 3)"),
        ("own:scalar", "model 'own:scalar' must return a vector of logits [K], got ()"),
        ("own:dense", "model 'own:dense' fails on x of shape (16, 20, 3): "),
        ("own:not_finite", "photo.png: 3 of the 3 logits of own:not_finite are not finite"),
        ("own:number", "the factory returned int, which is neither callable nor has .model"),
        ("own:haiku", "the factory returned a haiku model, which is adapted first: let it return jxai.adapt(…) of it"),
        ("own:broken", "--model own:broken: broken() failed: RuntimeError: no weights"),
    ],
)
def test_bad_models(here, capsys, model, said):
    assert said in refused(capsys, here, "photo.png", "--model", model, "--methods", "gradient")


def test_bad_pixels_and_files(here, capsys):
    def said(file, model="own:bundle"):
        return refused(capsys, here, file, "--model", model, "--methods", "gradient")

    nan = np.zeros((8, 10, 3), np.float32)
    nan[0, 0] = np.nan
    np.save("nan.npy", nan)
    assert "nan.npy: 3 of 240 values are not finite" in said("nan.npy")
    np.save("rank.npy", np.zeros((8, 10), np.float32))
    assert "rank.npy: x has shape (8, 10), but own:bundle takes (8, 10, 3)" in said("rank.npy")
    np.save("bytes.npy", np.zeros((8, 10, 3), np.uint8))
    assert "bytes.npy: x must be floating point (pixels in [0, 1]), got uint8" in said("bytes.npy")
    np.save("objects.npy", np.array([{}], object))
    assert "objects.npy is no readable array" in said("objects.npy")
    (here / "half.png").write_bytes((here / "photo.png").read_bytes()[:600])
    assert "half.png is damaged" in said("half.png")
    (here / "empty.png").write_bytes(b"")
    assert "empty.png cannot be read as an image" in said("empty.png")
    np.save("line.npy", np.zeros(7, np.float32))
    assert "model 'own:plain' fails on x of shape (7,)" in said("line.npy", "own:plain")


def test_a_damaged_weights_file_is_one_line(here, capsys, monkeypatch):
    (here / "data" / "weights").mkdir(parents=True)
    (here / "data" / "weights" / "cifar10_resnet20.npz").write_bytes(b"PK half a file")
    monkeypatch.setenv("JXAI_DATA", str(here / "data"))
    assert "cifar10_resnet20.npz is damaged" in refused(capsys, here, "photo.png", "--model", "cifar10_resnet20")
    monkeypatch.setenv("JXAI_DATA", str(here / "nothing"))
    assert "no cifar10_resnet20.npz: tried" in refused(capsys, here, "photo.png", "--model", "cifar10_resnet20")


def test_a_huge_image_is_refused_before_it_is_decoded(here, capsys):
    Image.new("1", (11000, 10000)).save("huge.png")
    assert "huge.png has 110,000,000 pixels, more than 100,000,000" in refused(capsys, here, "huge.png", "--model", "own:plain")
