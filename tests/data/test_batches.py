"""Batches: one shape, marked padding, the model's preprocessing for images and masks alike."""

import functools

import numpy as np
import pytest

from jxai import data
from jxai.models import preprocess

PIXELS = np.random.default_rng(0).integers(0, 255, (7, 6, 6, 3), np.uint8)


class Broken(data.Arrays):
    """Example 2 cannot be read."""

    def __getitem__(self, index):
        if index == 2:
            raise OSError("the disk is gone\nfor good")
        return super().__getitem__(index)


def test_batches_are_padded_and_marked():
    found = list(data.batches(data.Arrays(PIXELS, range(7)), 3))
    assert [b.x.shape for b in found] == [(3, 6, 6, 3)] * 3 and found[0].x.dtype == np.float32
    assert [b.valid.tolist() for b in found] == [[True] * 3, [True] * 3, [True, False, False]]
    assert np.concatenate([b.label[b.valid] for b in found]).tolist() == list(range(7))
    assert np.allclose(found[2].x, PIXELS[6] / 255) and found[2].index.tolist() == [6, 6, 6]


def test_limit_and_its_errors():
    assert sum(b.valid.sum() for b in data.batches(data.Arrays(PIXELS), 3, limit=4)) == 4
    for options, message in (({"limit": 0}, "limit=0"), ({"size": 0}, "size=0")):
        with pytest.raises(ValueError, match=message):
            list(data.batches(data.Arrays(PIXELS), **{"size": 2, **options}))
    with pytest.raises(ValueError, match="is empty"):
        list(data.batches([], 2))


def test_floating_point_examples_are_x_already():
    x = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
    assert np.array_equal(data.load(data.Arrays(x), [2, 0], preprocess=lambda pixels: 1 / 0).x, x[[2, 0]])


def test_an_example_that_cannot_be_read_is_marked():
    batch = data.load(Broken(PIXELS), [1, 2, 3], 4)
    assert batch.valid.tolist() == [True, False, True, False] and batch.errors == {2: "OSError: the disk is gone"}
    assert np.array_equal(batch.x[1], batch.x[0])
    with pytest.raises(ValueError, match="none of the examples 2 to 2 can be read .OSError: the disk is gone"):
        data.load(Broken(PIXELS), [2])
    assert not data.load(Broken(PIXELS), [2], like=batch).valid.any()


def test_nan_pixels_and_other_shapes_are_marked():
    x = np.zeros((3, 4), np.float32)
    x[1, 2] = np.nan
    assert data.load(data.Arrays(x), [0, 1, 2]).errors == {1: "ValueError: 1 of 4 values are not finite"}

    class Mixed(data.Arrays):
        def __getitem__(self, index):
            return data.Example(PIXELS[index][: 6 - index])

    batch = data.load(Mixed(PIXELS), [0, 1])
    assert batch.valid.tolist() == [True, False] and "(5, 6, 3), others (6, 6, 3)" in batch.errors[1]


def test_a_mask_goes_through_the_same_resizing_and_crop_as_the_image():
    # A bright square on black: after any geometry, its mask is where the picture is bright.
    pixels, mask = np.zeros((1, 40, 60, 3), np.uint8), np.zeros((1, 40, 60), bool)
    mask[0, 8:30, 20:41] = True
    pixels[mask] = 255
    for options in ({"size": 32, "short_side": 36}, {"size": 60, "short_side": 60}, {"size": 7, "short_side": 7}):
        batch = data.load(data.Arrays(pixels, None, mask), [0], preprocess=functools.partial(preprocess, **options))
        assert batch.mask.shape == batch.x.shape[:-1] and batch.mask.any() and not batch.mask.all()
        assert np.array_equal(batch.mask, batch.x.mean(-1) > 0.5)


def test_a_mask_survives_normalising_preprocessing_of_either_sign():
    mask = PIXELS[..., 0] > 127
    for scale in (3.0, -3.0):
        batch = data.load(data.Arrays(PIXELS, None, mask), range(7), preprocess=lambda p: scale * (np.float32(p) / 255 - 0.4))
        assert np.array_equal(batch.mask, mask)
