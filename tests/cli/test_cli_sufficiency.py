"""`jxai suffice`, `disambiguate` and `verify`: sentences that say what the library found, certificates that hold, one line for bad input."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jxai import certificates, cli, sufficiency
from jxai.attribution import input_x_gradient
from jxai.cli.sufficiency import sentence

pytestmark = pytest.mark.usefixtures("quick_compilation")

OWN = """
import jax, jax.numpy as jnp, numpy as np
def halves(w, x):
    # "left" sees the left half, "right" the right half, "also left" what "left" sees.
    left, right = x[:, :4].sum(), x[:, 4:].sum()
    return w * jnp.stack([left, right, left, jnp.zeros(())])
def make():
    class Bundle:
        model = staticmethod(jax.tree_util.Partial(halves, jnp.float32(0.5))); class_names = ["left", "right", "also left", "none"]; input_shape = (8, 8, 1)
    return Bundle()
def other():
    return jax.tree_util.Partial(halves, jnp.float32(0.6))
def broken():
    return lambda x: jnp.full(4, jnp.nan) + x.sum()
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "own_claims.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    x = np.full((8, 8, 1), 0.2, np.float32)
    x[2:4, 1:3] = x[2:4, 5:7] = 0.9
    np.save("x.npy", x)
    np.save("y.npy", x + 0.01)
    np.save("parts.npy", np.add.outer(2 * (np.arange(8) // 4), np.arange(8) // 4) + 0)
    return tmp_path


def main(capsys, *arguments, code=0):
    assert cli.main([*map(str, arguments)]) == code
    said = capsys.readouterr()
    return said.out if code in (0, 1) else said.err


def model():
    made = {}
    exec(OWN, made)
    return made["make"]().model


def test_suffice_and_verify(here, capsys):
    own = ("--model", "own_claims:make")
    said = main(capsys, "suffice", "x.npy", *own, "--threshold", 0.3, "--target", "right", "--out", "s")
    found = certificates.load("s/certificate.npz")
    again = sufficiency.batched_gradient_sis(model(), jnp.load("x.npy"), 1, jax.random.key(0), threshold=0.3)
    assert np.array_equal(found.held, again.held) and found.threshold == pytest.approx(0.3) and 0 < found.size < 64
    assert f"x.npy: {int(found.size)} of 64 pixels" in said and "suffice for right at probability" in said and "sufficient.png" in said
    assert (here / "s/sufficient.png").stat().st_size > 1000 and (here / "s/curve.png").stat().st_size > 1000
    told = main(capsys, "verify", "s/certificate.npz", "x.npy", *own)
    assert "SufficientSubset: holds" in told and "same_weights" in told
    assert "does NOT hold" in main(capsys, "verify", "s/certificate.npz", "y.npy", *own, code=1)
    assert "same_weights" in main(capsys, "verify", "s/certificate.npz", "x.npy", "--model", "own_claims:other", code=1).split("← does not")[0]
    said = main(capsys, "suffice", "x.npy", *own, "--method", "sis", "--sis.grid", 4, "--threshold", 0.3, "--target", 0, "--out", "t")
    assert "of 16 features" in said and certificates.load("t/certificate.npz").held.shape == (16,)


@pytest.mark.slow
def test_disambiguate(here, capsys):
    own = ("--model", "own_claims:make", "--disambiguate.segments", "parts.npy", "--disambiguate.score", "logit", "--delta", 0.7)
    own = (*own, "--disambiguate.attribution", "input_x_gradient")
    said = main(capsys, "disambiguate", "x.npy", *own, "--top", 3, "--out", "d").splitlines()
    assert len(said) == 4
    apart = [line for line in said if "right" in line.split("rest")[0]]
    assert len(apart) == 2 and all("rest on different parts" in line for line in apart)
    (same,) = [line for line in said if "left and also left" in line or "also left and left" in line]
    assert "rest on the same part" in same
    f, x = model(), jnp.load("x.npy")
    files = sorted(p.name for p in (here / "d").glob("*.npz"))
    assert files == ["disjoint_0_1.npz", "disjoint_1_2.npz", "overlapping_0_2.npz"]
    for name in files:
        assert certificates.verify(f, x, certificates.load(here / "d" / name)).holds
        assert "holds" in main(capsys, "verify", f"d/{name}", "x.npy", *own[:2])
    assert (here / "d/pair_0_1.png").stat().st_size > 1000
    found = sufficiency.disambiguate(f, x, (0, 1), jax.random.key(0), segments=np.load("parts.npy"), score="logit", delta=0.7, attribution=input_x_gradient)
    assert f"x.npy: {sentence(found, ['left', 'right'])}" in said
    nothing = main(capsys, "disambiguate", "x.npy", *own[:6], "--labels", "left,also left", "--delta", 0.999, "--out", "e")
    assert "left and also left" in nothing


def test_pairs_are_what_each_is_alone():
    f, x = model(), jnp.asarray(np.random.default_rng(0).uniform(size=(8, 8, 1)), jnp.float32)
    parts = np.arange(64).reshape(8, 8) // 8
    pairs, options = [(0, 1), (2, 1), (0, 2)], dict(segments=parts, delta=0.3, fill=0.1)
    for pair, found in zip(pairs, sufficiency.disambiguate_pairs(f, x, pairs, **options)):
        alone = sufficiency.disambiguate(f, x, pair, **options)
        assert found.disjoint.digests == alone.disjoint.digests
        chex.assert_trees_all_close(jax.tree.leaves(found), jax.tree.leaves(alone), rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="at least one pair"):
        sufficiency.disambiguate_pairs(f, x, [], **options)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("suffice", "x.npy", "--threshold", "0.99"), "--threshold 0.99 is above the probability of left"),
        (("suffice", "x.npy", "--threshold", "0"), "threshold"),
        (("suffice", "x.npy", "--target", "up"), "--target 'up'"),
        (("suffice", "x.npy", "--target", "0,1"), "must name one class"),
        (("suffice", "x.npy", "--method", "magic"), "method 'magic'"),
        (("suffice", "x.npy", "--sis.grid", "4"), "sis is not asked for"),
        (("suffice", "no.npy"), "no such file"),
        (("disambiguate", "x.npy", "--labels", "left,left"), "must name two classes or more"),
        (("disambiguate", "x.npy", "--labels", "left,7"), "--target 7"),
        (("disambiguate", "x.npy", "--top", "1"), "--top 1"),
        (("disambiguate", "x.npy", "--delta", "1.5", "--disambiguate.segments", "parts.npy"), "delta=1.5"),
        (("disambiguate", "x.npy", "--disambiguate.segments", "x.npy"), "segments must be integers"),
        (("verify", "no.npz", "x.npy"), "no such file"),
        (("verify", "x.npy", "x.npy"), "no certificate, or damaged"),
    ],
)
def test_bad_input_is_one_line(here, capsys, arguments, message):
    said = main(capsys, *arguments, "--model", "own_claims:make", code=2)
    assert message in said and len(said.strip().splitlines()) == 1


def test_a_model_that_is_broken(here, capsys):
    for command in ("suffice", "disambiguate"):
        assert "not finite" in main(capsys, command, "x.npy", "--model", "own_claims:broken", code=2)


def test_certificates_about_something_else(here, capsys):
    main(capsys, "suffice", "x.npy", "--model", "own_claims:make", "--threshold", 0.3, "--out", "s")
    np.save("small.npy", np.zeros((4, 8, 1), np.float32))
    assert "is not about" in main(capsys, "verify", "s/certificate.npz", "small.npy", "--model", "own_claims:other", code=2)
