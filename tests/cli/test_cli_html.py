"""`--html`: what the commands found, as one page that holds it all."""

import os
import sys

import numpy as np
import pytest
from page_parser import self_contained
from PIL import Image

from jxai import pages
from jxai.cli import main
from jxai.plot.concepts import over

pytestmark = pytest.mark.usefixtures("quick_compilation")

OWN = """
import jax, jax.numpy as jnp, numpy as np
W = np.random.default_rng(0).normal(size=(8, 8, 3, 4)).astype(np.float32)
def make():
    class Bundle:
        model = staticmethod(jax.tree_util.Partial(lambda w, x: jnp.einsum("hwc,hwck->k", x, w), jnp.asarray(W))); class_names = ["a <b>", "b", "c", "d"]; input_shape = (8, 8, 3)
    return Bundle()
def layered():
    bundle = make()
    bundle.model = jax.tree_util.Partial(lambda w, v, x: jax.nn.relu(x @ w).mean((0, 1)) @ v, jnp.asarray(W[0, 0]), jnp.asarray(W[:4, 0, 0]))
    return bundle
def table():
    return jax.tree_util.Partial(lambda w, x: x @ w, jnp.asarray(W[0, :, 0, :3]))
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "own_pages.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    (tmp_path / "folder").mkdir()
    for name in (os.fsdecode(b"odd <i> $\xff.png"), "b.png", "c.png"):
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(tmp_path / "folder" / name)
    yield tmp_path
    sys.modules.pop("own_pages", None)


def page(path):
    """The parsed page and the examples in it."""
    text = (path).read_text("utf-8")
    parsed = self_contained(text)
    return parsed, [case for browser in parsed.browsers() for case in browser["c"]]


def said(parsed, tag):
    return [text for where, text in parsed.texts if where == tag and text.strip()]


def test_a_folder_is_one_page(here):
    command = ["explain", "folder", "--model", "own_pages:make", "--methods", "gradient,occlusion", "--out", "out", "--html", "--occlusion.window", "2"]
    assert main(command) == 0
    parsed, cases = page(here / "out" / "explanation.html")
    assert [case["n"] for case in cases] == ["b.png", "c.png", "odd <i> $\\xff.png"]
    with np.load(here / "out" / "b" / "explanation.npz") as kept:
        assert cases[0]["l"][1]["u"] == pages.layer("", kept["occlusion"][0], (8, 8, 3), signed=True).source and cases[0]["x"] == pages.picture(kept["x"])
        assert cases[0]["d"] == pytest.approx(pages.disagreement([kept["gradient"][0], kept["occlusion"][0]]), abs=1e-4)
    assert [layer["n"] for layer in cases[0]["l"]] == ["Gradient", "Occlusion"]
    assert said(parsed, "code") == ["jxai explain folder --model own_pages:make --methods gradient,occlusion --out out --html --occlusion.window 2"]
    assert any("window 2" in text and text.startswith("Occlusion: ") for text in said(parsed, "li"))
    before = (here / "out" / "explanation.html").read_bytes()
    assert main(command) == 0 and (here / "out" / "explanation.html").read_bytes() == before  # all was there


def test_one_image_and_a_vector(here):
    own = ["--model", "own_pages:make", "--methods", "gradient", "--target", "a <b>,2"]
    assert main(["explain", "folder/b.png", *own, "--out", "one", "--html"]) == 0
    parsed, cases = page(here / "one" / "explanation.html")
    with np.load(here / "one" / "explanation.npz") as kept:
        logits = kept["logits"]
    assert [case["f"][0][1].split(",")[0] for case in cases] == ["a <b>", "c"] and [case["g"] for case in cases] == ["a <b>", "c"]
    order = np.argsort(-logits)
    assert parsed.cells[0::3] == [str(k) for k in order] and np.allclose([float(v) for v in parsed.cells[2::3]], logits[order])
    assert sum(text.strip().endswith("←") for text in said(parsed, "th")) == 2
    np.save("x.npy", np.float32([0.5, -1, 2, 0, 0, 0, 3, 1]))
    assert main(["explain", "x.npy", "--model", "own_pages:table", "--methods", "input_x_gradient", "--out", "v", "--html"]) == 0
    (case,) = page(here / "v" / "explanation.html")[1]
    assert case["v"][1] == ["x[1]", -1.0] and case["l"][0]["k"] == "bars" and len(case["l"][0]["b"]) == 8


def test_without_jinja2_it_is_said_before_any_work(here, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    for command in (
        ["explain", "folder"],
        ["suffice", "folder/b.png"],
        ["disambiguate", "folder/b.png"],
        ["counterfactual", "digits"],
        ["certify", "digits", "--radius", "1"],
        ["concepts", "digits"],
    ):
        assert main([*command, "--html", "--out", "none"]) == 2
        assert capsys.readouterr().err == "jxai: error: --html needs jinja2: pip install 'jxai[demo]'\n" and not (here / "none").exists()


def test_certificates_are_pages(here):
    for radius, verdict in ((0.001, "certified"), (0.5, "attacked")):
        assert main(["certify", "folder/b.png", "--model", "own_pages:make", "--radius", str(radius), "--html", "--out", f"{verdict}.npz", "--steps", "9"]) == 0
        parsed, (case,) = page(here / f"{verdict}.html")
        facts = said(parsed, "dd")
        assert facts[0] == verdict and case["f"] == [["verdict", verdict]] and ("RobustnessCertificate" in facts) == (verdict == "certified")
        margins = np.asarray(parsed.cells, float).reshape(3, 3)
        assert (margins[:, 0] > 0).all() == (verdict == "certified") and (margins[:, 1] > 0).all() and (margins[:, 0] <= margins.min(1)).all()
        assert (margins[:, 2] < 0).any() == (verdict == "attacked") == (case["l"][-1]["n"] == "difference")


def test_counterfactuals_are_pages(here):
    own = ["--model", "own_pages:make", "--method", "wachter", "--html"]
    assert main(["counterfactual", "folder/b.png", *own, "--target", "all", "--out", "one"]) == 0
    parsed, cases = page(here / "one" / "counterfactual.html")
    with np.load(here / "one" / "counterfactual.npz") as kept:
        assert len(cases) == len(kept["found"]) == 3
        for case, found, valid in zip(cases, kept["found"], kept["valid"]):
            assert case["l"][0]["u"] == pages.picture(found) == case["i"] and case["x"] == pages.picture(kept["x"]) and case.get("w", 0) == (not valid)
            assert case["l"][1]["u"] == pages.layer("", found - kept["x"], (8, 8, 3), signed=True).source


@pytest.mark.slow
def test_concepts_are_pages(here):
    own = ["--model", "own_pages:layered", "--lrp.composite", "epsilon", "--of", "predicted", "--top", "2", "--references", "2", "--html"]
    assert main(["concepts", "folder", *own, "--out", "c"]) == 0
    parsed, cases = page(here / "c" / "concepts.html")
    with np.load(here / "c" / "references.npz") as kept:
        assert (
            [case["n"] for case in cases] == [f"channel {channel}" for channel in kept["channels"]] == [row for row in said(parsed, "th") if "channel" in row]
        )
        assert [case["l"][0]["u"] for case in cases] == [pages.picture(over(kept["x"], a), 160) for a in kept["maps"]]
        shares = [f"{share:.2%}".replace("-", "\N{MINUS SIGN}") for share in kept["share"]]
    assert [case["f"][0][1] for case in cases] == shares and [len(case["l"]) for case in cases] == [3, 3]


def test_claims_are_pages(here, capsys):
    own = ["--model", "own_pages:make", "--html"]
    assert main(["suffice", "folder/b.png", *own, "--threshold", "0.5", "--out", "s"]) == 0
    out = capsys.readouterr().out
    parsed, (case,) = page(here / "s" / "sufficient.html")
    assert [layer["n"] for layer in case["l"]] == ["what the model was shown", "held"] and parsed.count("polyline") == 1
    assert out.splitlines()[0] in said(parsed, "li") and "SufficientSubset" in said(parsed, "dd") and "wrote s/sufficient.html" in out
    np.save("parts.npy", np.add.outer(2 * (np.arange(8) // 4), np.arange(8) // 4))
    assert (
        main(
            [
                "disambiguate",
                "folder/b.png",
                *own,
                "--labels",
                "0,1",
                "--disambiguate.segments",
                "parts.npy",
                "--disambiguate.score",
                "probability",
                "--out",
                "d",
            ]
        )
        == 0
    )
    out = capsys.readouterr().out
    parsed, (case,) = page(here / "d" / "disambiguation.html")
    assert case["t"] in out and parsed.cells[0] == "b" and parsed.cells[1] == case["g"] and 1 <= len(case["l"]) <= 2


@pytest.mark.slow
def test_data_sets_are_pages(here):
    assert main(["certify", "folder", "--model", "own_pages:make", "--radius", "0.001", "--target", "predicted", "--html", "--out", "run", "--steps", "5"]) == 0
    parsed, cases = page(here / "run" / "certification.html")
    assert not cases and parsed.cells[:2] == ["3", "1.0"] and parsed.cells[9:].count("certified") == 3 and parsed.count("img") == 3
    assert "odd <i> $\\xff.png" in said(parsed, "th")
    assert main(["counterfactual", "folder", "--model", "own_pages:make", "--method", "wachter", "--html", "--out", "changed"]) == 0
    parsed, cases = page(here / "changed" / "counterfactuals.html")
    assert len(cases) == 3 and cases[2]["n"] == "odd <i> $\\xff.png" and [len(case["l"]) for case in cases] == [2, 2, 2] and "3" in said(parsed, "dd")
