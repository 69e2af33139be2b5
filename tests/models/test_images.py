"""Decoding, orientation, resizing and cropping of photographs."""

import struct
import zlib

import numpy as np
import pytest

from jxai import models

PIL = pytest.importorskip("PIL.Image", reason="needs Pillow")


def gradient(height, width):
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 255 // height, columns * 255 // width, rows * 0 + 7], -1).astype(np.uint8)


def test_equals_resize_then_crop():
    """The protocol as written: short side 256 by bicubic interpolation, then the centre 224."""
    pixels = gradient(300, 500)
    whole = PIL.fromarray(pixels).resize((round(500 * 256 / 300), 256), PIL.Resampling.BICUBIC)
    left, top = (whole.width - 224) // 2, (256 - 224) // 2
    expected = np.asarray(whole.crop((left, top, left + 224, top + 224)), np.float32) / 255
    x = models.preprocess(pixels)
    assert x.shape == (224, 224, 3) and x.dtype == np.float32
    np.testing.assert_allclose(x, expected, atol=1 / 255)


def test_bilinear_enlargement_is_that_of_its_definition():
    """28 pixels to 32: output i looks at (i + ½) · 28/32 − ½, between two pixels, the border repeated."""
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28)).astype(np.uint8)
    at = np.clip((np.arange(32) + 0.5) * 28 / 32 - 0.5, 0, 27)
    low = np.floor(at).astype(int)
    along = np.eye(28)[low] * (1 - at + low)[:, None] + np.eye(28)[np.minimum(low + 1, 27)] * (at - low)[:, None]
    x = models.preprocess(pixels, size=32, short_side=32, channels=1, interpolation="bilinear")
    np.testing.assert_allclose(x[..., 0], along @ pixels @ along.T / 255, atol=1.01 / 255)
    with pytest.raises(ValueError, match="interpolation='nearest' must be one of"):
        models.preprocess(pixels, interpolation="nearest")


def test_same_size_is_the_identity():
    pixels = gradient(32, 32)
    np.testing.assert_array_equal(models.preprocess(pixels, size=32, short_side=32), np.float32(pixels) / 255)


def test_greyscale_alpha_palette_and_sixteen_bits(tmp_path):
    grey = gradient(32, 32)[..., 0]
    options = {"size": 32, "short_side": 32}
    expected = np.repeat(np.float32(grey)[..., None] / 255, 3, -1)
    np.testing.assert_array_equal(models.preprocess(grey, **options), expected)
    np.testing.assert_array_equal(models.preprocess(grey[..., None], channels=1, **options), expected[..., :1])
    PIL.fromarray(np.uint16(grey) * 256).save(tmp_path / "sixteen.png")
    np.testing.assert_array_equal(models.preprocess(tmp_path / "sixteen.png", **options), expected)
    PIL.fromarray(grey).convert("P").save(tmp_path / "palette.png")
    np.testing.assert_array_equal(models.preprocess(tmp_path / "palette.png", **options), expected)
    clear = np.zeros((32, 32, 4), np.uint8)
    np.testing.assert_array_equal(models.preprocess(clear, **options), np.ones((32, 32, 3), np.float32))


def test_exif_rotation(tmp_path):
    pixels = gradient(20, 30)
    exif = PIL.Exif()
    exif[0x0112] = 6  # Turn clockwise by 90 degrees to show.
    PIL.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(models.load_image(tmp_path / "turned.png"), np.rot90(pixels, -1))


def test_long_thin_image_is_cheap():
    """Resized whole it would have 2.5 billion pixels."""
    x = models.preprocess(np.full((1, 40_000), 128, np.uint8))
    np.testing.assert_array_equal(x, np.full((224, 224, 3), np.float32(128 / 255)))


def one_line(call, *words):
    with pytest.raises(ValueError) as caught:
        call()
    assert all(word in str(caught.value) for word in words) and "\n" not in str(caught.value)


def test_bad_files_are_named(tmp_path):
    (tmp_path / "text.jpg").write_text("not an image")
    one_line(lambda: models.preprocess(tmp_path / "text.jpg"), "text.jpg")
    one_line(lambda: models.preprocess(tmp_path / "absent.png"), "absent.png", "No such file")
    PIL.fromarray(gradient(64, 64)).save(tmp_path / "cut.png")
    content = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    one_line(lambda: models.preprocess(tmp_path / "cut.png"), "cut.png")


@pytest.mark.parametrize("side", [11_000, 30_000])
def test_decompression_bomb(tmp_path, side):
    """A header that declares more than the limit, just above it and beyond Pillow's own."""
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    one_line(lambda: models.preprocess(tmp_path / "bomb.png"), "bomb.png", "pixels")


def test_bad_arrays_and_sizes():
    one_line(lambda: models.preprocess(np.full((4, 4, 3), 0.5, np.float32)), "float32 values from 0.5 to 0.5", "pixels from 0 to 255")
    one_line(lambda: models.preprocess(np.full((4, 4, 3), 256, np.float32)), "float32 values from 256 to 256")
    assert not models.preprocess(np.zeros((4, 4, 3), np.float32), size=4).any()
    one_line(lambda: models.preprocess(np.zeros((4, 4, 2), np.uint8)), "(4, 4, 2)")
    one_line(lambda: models.preprocess(gradient(8, 8), size=10, short_side=8), "size=10")
    one_line(lambda: models.preprocess(gradient(8, 8), channels=2), "channels=2")


def test_class_names():
    names = models.imagenet_class_names()
    assert len(names) == 1000 and names[0] == "tench" and names[281] == "tabby cat" and names[999] == "toilet paper"
