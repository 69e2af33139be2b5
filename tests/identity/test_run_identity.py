"""A run is what its record says: of anything that a result depends on, another one is refused with a word that says which; of the rest nothing is."""

import shutil
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jxai import data, evaluate, metrics
from jxai.attribution import occlusion
from jxai.identity import versions

CODE = """
import jax
import jax.numpy as jnp
import numpy as np

STEP = 255.0


def scaled(pixels):
    return np.float32(pixels[..., :1]) / STEP


def preprocess(pixels, offset=0.0):
    return scaled(pixels) + offset


def factor(x):
    return 2 * x


def mine(f, x, target, key=None, *, power=1):
    return factor(x) ** power


def made(weights, by):
    def f(x):
        return by * jnp.tanh(weights @ x.ravel())

    return f


class Net:
    def __init__(self, act):
        self.act = act

    def prepare(self, x):
        return self.act(x).ravel()[:4]

    def __call__(self, x):
        return self.prepare(x)
"""
W = np.random.default_rng(0).normal(size=(4, 16)).astype(np.float32)


def module(*changes):
    """The code with these changes, as another file of the same name would have it."""
    text = CODE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    made = types.ModuleType("mycode")
    exec(compile(text, "mycode.py", "exec"), vars(made))
    return made


def images(folder, seed=0, label=None):
    """Three pictures of equal size in bytes, and a mask of each."""
    rng = np.random.default_rng(seed)
    for n in range(3):
        for place, image in ((f"pictures/{n if label is None else label}", rng.integers(0, 256, (4, 4, 3))), (f"masks/{n}", (rng.random((4, 4)) > 0.5) * 255)):
            path = folder / place / f"{n}.bmp"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.astype(np.uint8)).save(path)
    return folder


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A folder of pictures, and a whole run on it."""
    folder = images(tmp_path_factory.mktemp("begun"))
    run(folder, folder / "run")
    return folder


def run(folder, out, code=None, f=None, weights=W, by=1.0, method=None, options=None, **more):
    code = module() if code is None else code
    f = code.made(jnp.asarray(weights), by) if f is None else f(code)
    source = more.pop("source", None) or data.Folder(folder / "pictures", masks=folder / "masks")
    methods = {
        "mine": (code.mine if method is None else method(code), options or {}),
        "occlusion": (occlusion, {"fill": more.pop("fill", np.zeros((4, 4, 1), np.float32))}),
    }
    methods = dict(reversed(methods.items())) if more.pop("backwards", False) else methods
    judges = {"mass": (metrics.relevance_mass, {}), "sparseness": (metrics.sparseness, {})}
    return evaluate.run(f, source, methods, judges, out, **{"preprocess": code.preprocess, "block": 2, "batch_size": 1, **more})


CHANGES = {
    "what preprocess computes": (dict(code=module(("scaled(pixels) + offset", "1 - scaled(pixels) + offset"))), r"preprocess\.made_of\.code"),
    "a default of preprocess": (dict(code=module(("offset=0.0", "offset=0.5"))), r"preprocess\.made_of\.defaults\.offset: 0\.0 there, 0\.5 here"),
    "what preprocess calls": (dict(code=module(("pixels[..., :1]", "pixels[..., 1:2]"))), r"preprocess\.made_of\.uses\.scaled"),
    "a number of its file": (dict(code=module(("STEP = 255.0", "STEP = 127.5"))), r"preprocess\.made_of\.uses\.scaled"),
    "a number in the model's closure": (dict(by=2.0), r"model\.made_of\.closure\.by: 1\.0 there, 2\.0 here"),
    "weights in its closure": (dict(weights=W + 1), r"model\.arrays"),
    "its code": (dict(code=module(("jnp.tanh(", "jnp.sin("))), r"model\.made_of\.code"),
    "another model": (dict(f=lambda code: code.Net(jax.nn.relu)), r"model\.made_of"),
    "the code of a method": (dict(code=module(("** power", "** (power + 1)"))), r"methods\.mine\.made_of\.code"),
    "what a method calls": (dict(code=module(("return 2 * x", "return 3 * x"))), r"methods\.mine\.made_of\.uses\.factor\.code"),
    "a default of a method": (dict(code=module(("power=1", "power=3"))), r"methods\.mine\.(options\.power|made_of\.defaults)"),
    "an option": (dict(options={"power": 2}), r"methods\.mine\.options\.power: 1 there, 2 here"),
    "an option's array": (dict(fill=np.ones((4, 4, 1), np.float32)), r"methods\.occlusion\.options\.fill"),
    "the seed": (dict(seed=1), "seed"),
    "whose class": (dict(target="label"), "target"),
    "how many": (dict(limit=2), r"data\.examples"),
    "rounding": (dict(batch_size=2), "batch_size"),
    "what is kept": (dict(keep_maps=False), "keep_maps"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_anything_else_is_refused_and_named(begun, name):
    change, word = CHANGES[name]
    before = {path: path.stat().st_mtime_ns for path in (begun / "run").rglob("*.*")}
    with pytest.raises(ValueError, match=f"of another configuration: {word}.*choose another folder, or begin anew"):
        run(begun, begun / "run", **change)
    assert before == {path: path.stat().st_mtime_ns for path in (begun / "run").rglob("*.*")}


@pytest.mark.parametrize(("part", "word"), [("pictures", r"data\.content"), ("masks", r"data\.content"), ("labels", r"data\.(name|content)")])
def test_other_files_of_equal_names_and_sizes_are_refused(begun, tmp_path, part, word):
    shutil.copytree(begun, tmp_path / "begun")
    here = tmp_path / "begun"
    run(here, here / "run")
    other = images(tmp_path / "other", 1)
    if part == "labels":
        for kind in ("pictures", "masks"):
            for old, new in (("0", "kept"), ("1", "0"), ("kept", "1")):
                (here / kind / old).rename(here / kind / new)
    else:
        shutil.rmtree(here / part)
        (other / part).rename(here / part)
    with pytest.raises(ValueError, match=f"of another configuration: {word}"):
        run(here, here / "run")
    fresh = run(here, here / "run", anew=True)
    table = fresh.table()
    assert len(table["index"]) == 3 and sorted(path.name for path in (here / "run" / "blocks").iterdir()) == ["000000.npz", "000001.npz"]


def test_other_versions_are_refused(begun, monkeypatch):
    monkeypatch.setattr(versions.importlib.metadata, "version", lambda name: "9.9")
    with pytest.raises(ValueError, match=r"versions\.jax: .* there, '9\.9' here"):
        run(begun, begun / "run")


class Told:
    """A source that says nothing of its content but a name."""

    name, class_names = "told", None

    def __init__(self, pixels):
        self.pixels = pixels

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, index):
        return data.Example(self.pixels[index], 0, np.ones((4, 4), bool), str(index))


def test_what_no_description_says_is_seen_in_what_comes_out(begun, tmp_path):
    pixels = np.random.default_rng(3).integers(0, 256, (3, 4, 4, 3)).astype(np.uint8)
    run(begun, tmp_path / "run", source=Told(pixels))
    run(begun, tmp_path / "run", source=Told(pixels))
    with pytest.raises(ValueError, match="not what comes out of it: x, as it is preprocessed, of example 0: .* there, .* here"):
        run(begun, tmp_path / "run", source=Told(255 - pixels))


SAME = {
    "blocks": dict(block=3),
    "devices": dict(devices=jax.devices()[:1]),
    "order": dict(backwards=True),
    "verbosity": dict(on_progress=lambda progress: None),
    "a name for the record": dict(model_name="another"),
    "comments and lines": dict(code=module(("def preprocess", "\n# a comment\n\n\ndef preprocess"))),
}


@pytest.mark.parametrize("name", SAME)
def test_what_no_result_depends_on_changes_nothing(begun, name):
    before = {path: path.stat().st_mtime_ns for path in (begun / "run").rglob("*.npz")}
    run(begun, begun / "run", **SAME[name])
    assert before == {path: path.stat().st_mtime_ns for path in (begun / "run").rglob("*.npz")}


def test_a_run_goes_on_by_the_blocks_that_it_began_with(begun, tmp_path):
    shutil.copytree(begun / "run", tmp_path / "run")
    (tmp_path / "run" / "blocks" / "000001.npz").unlink()
    again, whole = run(begun, tmp_path / "run", block=3).table(), evaluate.Run(begun / "run").table()
    assert again.keys() == whole.keys() and all(again[name].tobytes() == whole[name].tobytes() for name in whole)
