"""Checkpoints are whole or skipped."""

import shutil
import warnings

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jxai import checkpoint

TREE = {
    "weights": [jnp.arange(6.0).reshape(2, 3), jnp.ones(3, jnp.bfloat16)],
    "key": jax.random.key(5),
    "empty": np.zeros((0, 2), np.float32),
    "number": 3,
    "flag": np.asarray(True),
}


def test_checkpoints_give_back_what_was_saved_and_the_last_two_are_kept(tmp_path):
    assert checkpoint.restore(tmp_path / "none", TREE) is None and checkpoint.steps(tmp_path / "none") == []
    for step in (1, 2, 10):
        checkpoint.save(tmp_path, step, TREE | {"number": step}, extra={"note": step})
    assert checkpoint.steps(tmp_path) == [2, 10]
    found = checkpoint.restore(tmp_path, TREE)
    assert (found.step, found.extra, found.tree["number"]) == (10, {"note": 10}, 10)
    assert jax.random.key_data(found.tree["key"]).tolist() == jax.random.key_data(TREE["key"]).tolist()
    chex.assert_trees_all_equal(list(found.tree["weights"]), list(TREE["weights"]), strict=True)
    checkpoint.save(tmp_path, 10, TREE | {"number": 11})
    assert checkpoint.restore(tmp_path, TREE).tree["number"] == 11 and sorted(p.name for p in tmp_path.iterdir()) == ["0000000002", "0000000010"]


def damage(path):
    """Turns a byte in the middle of the largest file over."""
    file = max((p for p in path.rglob("*") if p.is_file() and p.name != "manifest.json"), key=lambda p: p.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)


def swap(path):
    """Puts the arrays of another checkpoint into this one: readable, and wrong."""
    checkpoint.save(path.parent / "other", 1, {**TREE, "weights": [jnp.zeros((2, 3)), jnp.ones(3, jnp.bfloat16)]})
    shutil.rmtree(path / "arrays")
    shutil.copytree(path.parent / "other" / "0000000001" / "arrays", path / "arrays")


@pytest.mark.parametrize(
    "harm",
    [
        damage,
        swap,
        lambda path: shutil.rmtree(path / "arrays"),
        lambda path: (path / "manifest.json").write_text("{"),
        lambda path: (path / "manifest.json").unlink(),
    ],
)
def test_a_damaged_checkpoint_is_skipped_and_the_one_before_it_taken(tmp_path, harm):
    for step in (1, 2):
        checkpoint.save(tmp_path, step, TREE)
    harm(tmp_path / "0000000002")
    with pytest.warns(UserWarning, match="0000000002 is damaged and skipped"):
        assert checkpoint.restore(tmp_path, TREE).step == 1
    harm(tmp_path / "0000000001")
    with pytest.warns(UserWarning, match="is damaged and skipped") as warned:
        assert checkpoint.restore(tmp_path, TREE) is None
    assert [str(w.message).split(" is ")[0][-2:] for w in warned] == ["02", "01"]


def test_a_half_written_checkpoint_is_not_seen(tmp_path):
    checkpoint.save(tmp_path, 1, TREE)
    shutil.copytree(tmp_path / "0000000001", tmp_path / ".checkpoint.killed")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert checkpoint.restore(tmp_path, TREE).step == 1
    checkpoint.save(tmp_path, 2, TREE)
    assert not (tmp_path / ".checkpoint.killed").exists()


def test_a_leaf_that_is_no_array_cannot_be_saved(tmp_path):
    with pytest.raises(ValueError, match="leaf 00000.* must be an array, got str"):
        checkpoint.save(tmp_path, 0, {"name": "text"})
    assert list(tmp_path.iterdir()) == []
    checkpoint.save(tmp_path, 0, {"a": jnp.ones(2)})
    with pytest.raises(ValueError, match="is of another structure"):
        checkpoint.restore(tmp_path, {"a": jnp.ones(2), "b": jnp.ones(2)})
    with pytest.raises(ValueError, match="is of something else: .* is float32"):
        checkpoint.restore(tmp_path, {"a": jnp.ones(3)})
