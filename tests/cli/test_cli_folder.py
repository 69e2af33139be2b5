"""`jxai explain` of a folder: each image as by itself, the unreadable recorded, what is there kept, and the cost said before it is paid."""

import csv
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jxai import attribution, plot
from jxai.cli import cache, calls, cost, explain, inputs, jobs, main, pictures, programs
from jxai.plot.page import Page
from jxai.tracing.arithmetic import work

OWN = """
import os
import jax, jax.numpy as jnp, numpy as np

def make():
    w = np.random.default_rng(int(os.environ.get("WEIGHTS", "0"))).normal(size=(3, 4)).astype(np.float32)
    return jax.tree_util.Partial(lambda w, x: jnp.tanh(x.mean((0, 1))) @ w, jnp.asarray(w))
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "strangers_net.py").write_text(OWN)
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    pixels = np.random.default_rng(1).integers(0, 255, (4, 6, 7, 3), np.uint8)
    for name, values in zip(("photos/one.png", "photos/one.bmp", "photos/cat/one.png", "photos/.hidden.png"), pixels):
        Image.fromarray(values).save(tmp_path / name)
    (tmp_path / "photos" / "bad.png").write_bytes(b"no picture")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(plot, "explanations", lambda *given, **options: Page(figsize=(1, 1)))  # what is drawn has tests of its own
    return tmp_path


def run(*arguments):
    return main(["explain", *arguments, "--model", "strangers_net:make", "--methods", "gradient", "occlusion"])


def rows(folder):
    with open(folder / "index.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_folder_is_explained_image_by_image_and_goes_on(here, capsys, monkeypatch):
    made, compiling = [], programs.compiled
    monkeypatch.setattr(programs, "compiled", lambda traced, runs: made.append(runs) or compiling(traced, runs))
    assert run("photos", "--out", "o") == 0
    out, err = capsys.readouterr()
    assert len(made) == 3 and set(made) == {4}  # the prediction and two methods, for all images of one shape
    assert "3 images explained, 1 failed" in out and err.count("failed: photos/bad.png cannot be read as an image") == 1
    assert err.count("2 methods: the arithmetic of about") == err.count("for each image; ") == 1
    found = {row["image"]: row for row in rows(here / "o")}
    assert [found[f"photos/{name}"]["folder"] for name in ("one.png", "one.bmp", "cat/one.png", "bad.png")] == ["one-2", "one", "cat/one", ""]
    assert found["photos/bad.png"]["error"].startswith("photos/bad.png cannot be read")
    for image in ("photos/one.png", "photos/cat/one.png"):
        assert run(image, "--out", "alone") == 0
        alone, among = np.load("alone/explanation.npz"), np.load(here / "o" / found[image]["folder"] / "explanation.npz")
        for name in ("x", "logits", "targets", "gradient", "occlusion"):
            np.testing.assert_array_equal(alone[name], among[name])
        p = np.exp(alone["logits"]) / np.exp(alone["logits"]).sum()
        assert float(found[image]["score"]) == pytest.approx(p.max(), rel=1e-4) and int(found[image]["target"]) == p.argmax()

    def again(*more):
        """The images that the same command explains."""
        before = {path: path.stat().st_mtime_ns for path in (here / "o").rglob("explanation.npz")}
        capsys.readouterr()
        assert run("photos", "--out", "o", *more) == 0
        out = capsys.readouterr().out
        changed = sorted(str(p.parent.relative_to(here / "o")) for p, at in before.items() if p.stat().st_mtime_ns != at)
        assert out.count("(--anew explains it again)") == 3 - len(changed) and len(rows(here / "o")) == 4
        return changed

    everything = ["cat/one", "one", "one-2"]
    assert again() == []
    (here / "o" / "one" / "explanation.png").unlink()
    assert again() == ["one"]
    Image.open("photos/cat/one.png").rotate(180).save("photos/cat/one.png")  # which this network takes for the same
    assert again() == ["cat/one"]
    Image.fromarray(np.zeros((6, 7, 3), np.uint8)).save("photos/one.bmp")  # of which this network says the same whatever its weights
    assert again("--occlusion.fill", "0.25") == everything and again("--anew", "--occlusion.fill", "0.25") == everything
    monkeypatch.setenv("WEIGHTS", "1")
    assert again("--occlusion.fill", "0.25") == everything


def test_images_with_other_numbers_of_regions_share_the_program_of_xrai(here, monkeypatch):
    made, compiling = [], programs.compiled
    monkeypatch.setattr(programs, "compiled", lambda traced, runs: made.append(runs) or compiling(traced, runs))
    options = {"xrai": {"segments": None, "baselines": (0.0,), "method_options": {"steps": 4}}}
    f = jax.tree_util.Partial(lambda w, x: jnp.tanh(x.mean((0, 1))) @ w, jnp.ones((3, 4)) * jnp.arange(4))
    one = calls.Calls(inputs.Subject("mine", f), options, 0, 2)
    x = np.random.default_rng(0).uniform(size=(6, 7, 3)).astype(np.float32)
    for segments in (np.arange(42).reshape(6, 7) // 7, np.arange(42).reshape(6, 7) // 6):  # 6 and 7 regions
        options["xrai"]["segments"] = segments
        found = one.call(one.method("xrai", x, [1])).value[0]
        expected = jax.jit(
            lambda x, s=segments: attribution.xrai(f, x, 1, segments=s, num_segments=int(s.max()) + 1, baselines=(0.0,), method_options={"steps": 4})
        )(x)
        np.testing.assert_array_equal(found, expected)
    assert len(made) == 1


def test_what_is_wrong_with_the_command_or_with_all_images_ends_it(here, capsys):
    assert run("photos", "--target", "9") == 2
    assert "--target 9 must be in [0, 4)" in capsys.readouterr().err and not (here / "explanation" / "one").exists()
    assert run("photos", "absent.png") == 2 and capsys.readouterr().err == "jxai: error: absent.png: no such file\n"
    (here / "bad").mkdir()
    (here / "photos" / "bad.png").rename(here / "bad" / "bad.png")
    assert run("bad") == 2
    assert "none of the 1 images can be explained: bad/bad.png cannot be read" in capsys.readouterr().err
    assert [row["image"] for row in rows(here / "explanation")] == ["bad/bad.png"]


def test_several_paths_have_folders_of_their_own_and_results_are_no_images(here):
    assert run("photos", "photos/one.png", "--out", "photos/o") == 0
    assert {row["folder"] for row in rows(here / "photos" / "o")} == {"photos/one", "photos/one-2", "photos/cat/one", "one", ""}
    before = len(list(here.rglob("*.npz")))
    assert run("photos", "photos/one.png", "--out", "photos/o") == 0 and len(list(here.rglob("*.npz"))) == before


def test_ctrl_c_says_how_to_go_on(here, capsys, monkeypatch):
    asked = []

    def stop(*given):
        asked.append(given)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return begin(*given)

    begin = jobs.begin
    monkeypatch.setattr(explain, "begin", stop)
    (here / "photos" / "bad.png").unlink()
    assert run("photos") == 130
    assert "stopped; the same command goes on with explanation" in capsys.readouterr().err and len(rows(here / "explanation")) == 1


def test_passes_are_counted_in_the_program():
    """Of a network of one product, the multiplications of methods whose passes are known."""
    f = lambda x: jnp.tanh(x.reshape(-1) @ jnp.ones((48, 999))) @ jnp.ones((999, 3))
    x = jnp.ones((4, 4, 3))
    count = lambda fn: work(jax.make_jaxpr(fn)(x).jaxpr)
    one = count(f)
    assert one == (48 * 999 + 999 * 3, True)
    counted = {
        "occlusion": count(lambda x: attribution.occlusion(f, x, 1, window=2, stride=2)),
        "rise": count(lambda x: attribution.rise(f, x, 1, jax.random.key(0), num_masks=7, grid=2, chunk=7)),
        "integrated_gradients": count(lambda x: attribution.integrated_gradients(f, x, 1, steps=5, chunk=1)),
        "gradient": count(lambda x: attribution.gradient(f, x, 1)),
    }
    passes = {name: w.multiplications / one.multiplications for name, w in counted.items()}
    expected = {"occlusion": 1 + 4, "rise": 7, "integrated_gradients": 2 * 5, "gradient": 2}
    assert passes == pytest.approx(expected, rel=0.05)  # masks multiply a little, too
    image = jnp.ones((1, 8, 8, 3))
    convolved = jax.make_jaxpr(lambda v: jax.lax.conv_general_dilated(v, jnp.ones((3, 3, 3, 5)), (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")))
    assert work(convolved(image).jaxpr).multiplications == 8 * 8 * 5 * 3 * 3 * 3
    endless = jax.make_jaxpr(lambda v: jax.lax.while_loop(lambda v: v.sum() < 9, lambda v: v @ jnp.ones((4, 4)), v))(jnp.ones((4, 4)))
    assert work(endless.jaxpr) == (64, False)


@pytest.fixture
def kept_whole():
    before = jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    yield
    jax.config.update("jax_persistent_cache_min_compile_time_secs", before)


def test_kept_programs_are_known_by_the_next_command(tmp_path, monkeypatch, capsys, kept_whole):
    monkeypatch.setattr(cache, "kept", lambda: str(tmp_path))
    f, x = jax.tree_util.Partial(lambda w, v: v.mean((0, 1)) @ w, jnp.ones((3, 4))), np.ones((4, 5, 3), np.float32)

    def said(value):
        made = calls.Calls(inputs.Subject("mine", f), {"occlusion": {"fill": value}}, 0, 1)
        method = made.method("occlusion", x, [0])
        cost.say(made, made.prediction(x), {"occlusion": method})
        made.call(method)
        cost.say(made, made.prediction(x), {"occlusion": method})  # compiled by now: nothing is said
        return capsys.readouterr().err

    first = said(0.25)
    assert re.fullmatch(rf"occlusion: the arithmetic of about \d+ forward passes; compiles 1 program first, kept in {tmp_path} for the next time\n", first)
    assert re.search(rf"passes; takes 1 program kept in {tmp_path}, compiled in \d+\.\d s by an earlier run\n", said(0.25))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cache, "kept", lambda: "gs://bucket/programs")
    assert "compiles 1 program first, kept in gs://bucket/programs" in said(0.25) and not (tmp_path / "gs:").exists()
    monkeypatch.setattr(cache, "kept", lambda: None)
    assert "compiles 1 program first, at every start (no cache folder is in use)" in said(0.25)


def test_results_stay_within_out(tmp_path):
    for name in ("...png", "..png", ".png", "a.nii.gz"):
        (tmp_path / name).touch()
    found = pictures.listed([str(tmp_path / name) for name in ("...png", "..png", ".png", "a.nii.gz")], tmp_path / "o")
    assert [one.folder.name for one in found] == ["...png", "..png", ".png", "a"] and all(one.folder.parent == tmp_path / "o" for one in found)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half a file", b"nothing of the kind"])
def test_damaged_results_are_made_again(tmp_path, content):
    (tmp_path / "explanation.npz").write_bytes(content)
    assert jobs._kept(pictures.Named(tmp_path / "a.png", tmp_path), np.zeros(3), {}) is None
