"""Certificates in files and in general: any class of them, whole or refused."""

import dataclasses
import errno
import functools
import importlib
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jxai import certificates, files
from jxai.bounds import Ball, Interval, ball
from jxai.certificates import Digests, digests, judged, load, save, verify, weights_digest

pytestmark = pytest.mark.usefixtures("quick_compilation")


@functools.partial(jax.tree_util.register_dataclass, data_fields=["region", "least"], meta_fields=["name", "threshold", "digests"])
@dataclasses.dataclass(frozen=True)
class SumIsLarge:
    """f(x) sums to more than the threshold; everything else is ballast."""

    region: Ball
    least: jax.Array
    name: tuple
    threshold: float
    digests: Digests | None

    def check(self, f, x):
        return judged(f, x, self.digests, {"sum": float(f(x).sum())}, {"sum": self.threshold})


W = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)), jnp.float32)
F = jax.tree_util.Partial(lambda w, x: w @ x, W)
X = jnp.asarray([0.1, 0.7, 0.2, 0.9], jnp.float32)


def claim(**changes):
    given = {"region": ball(X, 0.1, 2), "least": np.float32([1, np.inf, np.nan]), "name": ("a", 1, 2.5, None, True, Interval("b", -np.inf)), "threshold": -9.0}
    return SumIsLarge(**{**given, "digests": digests(F, X), **changes})


def test_a_file_gives_back_what_was_saved(tmp_path):
    save(tmp_path / "c.npz", claim())
    back = load(tmp_path / "c.npz", SumIsLarge)
    assert (
        jax.tree.structure(back) == jax.tree.structure(claim()) and back.name == claim().name and type(back.name[4]) is bool and type(back.name[5]) is Interval
    )
    chex.assert_trees_all_equal(jax.tree.leaves(back), jax.tree.leaves(claim()), strict=True)
    assert verify(F, X, back) == verify(F, X, claim()) and verify(F, X, back).holds
    save(tmp_path / "none.npz", claim(digests=None))
    assert load(tmp_path / "none.npz", SumIsLarge).digests is None


def test_verdicts():
    total = float(F(X).sum())
    holds, values, thresholds = verify(F, X, claim())
    assert holds and values == {"same_x": 1.0, "same_weights": 1.0, "sum": pytest.approx(total)} and thresholds["sum"] == -9.0
    assert not verify(F, X, claim(threshold=total)).holds and not verify(F, X, claim(digests=None)).holds
    assert not verify(F, X + 1e-6, claim()).holds and not verify(jax.tree.map(lambda w: w + 1e-6, F), X, claim()).holds
    assert not verify(jax.tree.map(lambda w: w * jnp.nan, F), X, claim()).holds
    with pytest.raises(ValueError, match="must have check"):
        verify(F, X, {"claim": 1})


def test_digests_tell_arrays_apart():
    same = digests(F, X)
    assert same == digests(jax.tree_util.Partial(F.func, W + 0), np.asarray(X))
    others = [digests(F, X.astype(jnp.float16)), digests(F, X.at[0].add(1e-7)), digests(jax.tree_util.Partial(F.func, W.astype(jnp.bfloat16)), X)]
    assert len({same, *others}) == 4
    # A plain function is told by what it has closed over.
    closed = [weights_digest(lambda x, w=w: w @ x, (4,)) for w in (W, W, W + 1)]
    assert closed[0] == closed[1] != closed[2]
    seen = []
    jax.jit(lambda f, x: seen.append(digests(f, X)) or seen.append(digests(F, x)) or x)(F, X)
    jax.jit(lambda w: seen.append(digests(lambda x: w @ x, X)) or w)(W)
    assert seen == [None, None, None]


def test_damage_is_told(tmp_path):
    path = tmp_path / "c.npz"
    save(path, claim())
    whole = path.read_bytes()
    for size in (0, 1, 10, len(whole) // 2, len(whole) - 5):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="is no certificate, or damaged"):
            load(path, SumIsLarge)
    for at in range(40, len(whole), 97):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            back = load(path, SumIsLarge)
        except ValueError as error:
            assert str(path) in str(error) and "\n" not in str(error)
        else:  # a byte that says nothing, such as a date
            assert np.array_equal(back.region.center, X) and back.name == claim().name
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.npz")


def rewritten(path, change):
    with np.load(path) as archive:
        arrays = dict(archive)
    text = json.loads(str(arrays["certificate"]))
    change(text, arrays)
    np.savez(path, **{**arrays, "certificate": np.asarray(json.dumps(text))})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text, arrays: text["fields"].pop("least"), "is damaged .*least"),
        (lambda text, arrays: text["fields"].update(more=1), "is damaged .*more"),
        (lambda text, arrays: arrays.pop("region.center"), "is damaged .*region.center"),
        (lambda text, arrays: text.update({"class": "Popen"}), "class 'Popen' must be one of SumIsLarge, RobustnessCertificate"),
        (lambda text, arrays: text.update({"class": "Ball", "fields": text["fields"]["region"]["fields"]}), "holds no certificate, but Ball"),
        (lambda text, arrays: text.pop("class"), "is damaged"),
        (lambda text, arrays: text.pop("fields"), "is damaged"),
    ],
)
def test_what_is_no_certificate_is_refused(tmp_path, change, message):
    save(tmp_path / "c.npz", claim())
    rewritten(tmp_path / "c.npz", change)
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "c.npz", SumIsLarge)


def test_other_files_are_refused(tmp_path):
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    np.save(tmp_path / "one.npy", np.zeros(3))
    np.savez(tmp_path / "pickle.npz", certificate=np.asarray([{"a": 1}], dtype=object))
    (tmp_path / "text.npz").write_text("{}")
    for name in ("other.npz", "one.npy", "pickle.npz", "text.npz"):
        with pytest.raises(ValueError, match="is no certificate, or damaged"):
            load(tmp_path / name)
    save(tmp_path / "c.npz", claim())
    with pytest.raises(ValueError, match="class 'SumIsLarge' must be one of RobustnessCertificate"):
        load(tmp_path / "c.npz")


def test_what_cannot_be_saved(tmp_path):
    whole = claim()
    with pytest.raises(ValueError, match="must end in .npz"):
        save(tmp_path / "c.txt", claim())
    with pytest.raises(ValueError, match="must be a dataclass, got dict"):
        save(tmp_path / "c.npz", {})
    with pytest.raises(ValueError, match="name must be an array, .* got function"):
        save(tmp_path / "c.npz", claim(name=test_verdicts))
    with pytest.raises(ValueError, match="least must be concrete"):
        jax.jit(lambda v: save(tmp_path / "c.npz", dataclasses.replace(whole, least=v)))(X)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_old_certificate(tmp_path, monkeypatch):
    save(tmp_path / "c.npz", claim())

    def full(file, array, **options):
        file.write(b"half an array")
        raise OSError(errno.ENOSPC, "No space left on device", "c.npz")

    monkeypatch.setattr(files.np.lib.format, "write_array", full)
    with pytest.raises(OSError, match="No space left"):
        save(tmp_path / "c.npz", claim(threshold=1.0))
    assert load(tmp_path / "c.npz", SumIsLarge).threshold == -9.0 and len(list(tmp_path.iterdir())) == 1


def test_every_known_class_is_there():
    for name, module in certificates.CLASSES.items():
        found = getattr(importlib.import_module(module), name)
        assert dataclasses.is_dataclass(found) or issubclass(found, tuple)


def test_double_precision_needs_double_precision(tmp_path):
    save(tmp_path / "c.npz", claim(least=np.ones(3)))
    with pytest.raises(ValueError, match="least is float64, which needs jax_enable_x64"):
        load(tmp_path / "c.npz", SumIsLarge)
