"""What of a run can be looked at: the examples that the model saw, beside their explanations."""

import shutil

import numpy as np
import pytest
import runs

from jxai import data
from jxai.evaluate.blocks import PICTURE
from jxai.evaluate.examples import shown_as

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_a_run_keeps_what_the_model_saw(whole):
    found, digits = whole.looked_at({0, 9, 20}), data.Digits()
    assert set(found) == {0, 9, 20} and whole.config["data"]["class_names"] == list("0123456789")
    for place, kept in found.items():
        assert np.array_equal(kept[PICTURE], digits[place].pixels)
        assert all(np.array_equal(kept[method], whole.maps(method)[place]) for method in runs.METHODS)


def test_what_is_damaged_is_left_out(whole, tmp_path):
    shutil.copytree(whole.path, tmp_path / "run")
    run = type(whole)(tmp_path / "run")
    run.block(0).explanations().write_bytes(b"PK")
    run.block(1).pictures.unlink()
    found = run.looked_at({0, 9, 20})
    assert set(found[0]) == {PICTURE} and set(found[9]) == set(runs.METHODS) and set(found[20]) == {PICTURE, *runs.METHODS}


def test_ranges_are_stretched_and_vectors_stay():
    x = np.float32([[[[0.0], [1.0]]], [[[-1.0], [3.0]]], [[[0.5], [0.5]]], [[[7.0], [7.0]]], [[[np.nan], [1.0]]]])
    assert shown_as(x)[..., 0].reshape(5, 2).tolist() == [[0, 255], [0, 255], [128, 128], [0, 0], [0, 255]]
    vector = np.float32([[-3.0, np.nan]])
    assert shown_as(vector) is vector
