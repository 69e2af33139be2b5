"""A ramp from black to white in files of all kinds: 0 … 255 comes out, or an error that says what to do."""

import struct

import numpy as np
import pytest

from jxai import data, models
from jxai.cli import inputs
from jxai.cli.errors import UserError
from jxai.data.batches import to_input

PIL = pytest.importorskip("PIL.Image", reason="needs Pillow")
RAMP = np.tile(np.linspace(0, 1, 64), (8, 1))
BYTES = np.uint8(np.rint(255 * RAMP))
COLOUR = np.stack([BYTES] * 3, -1)
UINT16 = np.uint16(np.rint(65535 * RAMP))


def bytes_(mode):
    return PIL.fromarray(BYTES).convert("RGB" if mode in ("CMYK", "YCbCr", "HSV", "RGBA") else "L").convert(mode)


def tiff(bits, data_, photometric=1, kind=1, extra=()):
    """An uncompressed grey TIFF, little-endian."""
    pixels = np.ascontiguousarray(data_).tobytes()
    tags = [(256, 64), (257, 8), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1), (278, 8), (279, len(pixels)), *extra, (339, kind)]
    body = b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + struct.pack("<H", len(tags))
    return body + b"".join(struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, value) for tag, value in tags) + struct.pack("<I", 0)


def packed(bits):
    values = np.rint(RAMP * (2**bits - 1)).astype(np.uint16)
    return np.packbits(((values[..., None] >> np.arange(bits - 1, -1, -1)) & 1).astype(np.uint8).reshape(8, -1), axis=1)


def saved(image, suffix, **options):
    return lambda path: image.save(path.with_suffix(suffix), **options) or path.with_suffix(suffix)


def raw(content, suffix=".tif"):
    return lambda path: path.with_suffix(suffix).write_bytes(content) and path.with_suffix(suffix)


F4, I4 = RAMP.astype("<f4"), lambda top: np.rint(top * RAMP).astype("<i4")
L = PIL.fromarray(BYTES)
FILES = {
    **{f"L {s}": (saved(L, s), 1) for s in (".png", ".bmp", ".gif", ".tif", ".tiff")},
    **{f"RGB {s}": (saved(PIL.fromarray(COLOUR), s), 1) for s in (".png", ".bmp", ".tif")},
    **{f"{s} with losses": (saved(PIL.fromarray(COLOUR), s, quality=95), 6) for s in (".jpg", ".jpeg", ".webp")},
    "RGB webp lossless": (saved(PIL.fromarray(COLOUR), ".webp", lossless=True), 1),
    "L jpg": (saved(L, ".jpg", quality=95), 4),
    "CMYK jpg": (saved(bytes_("CMYK"), ".jpg", quality=98), 6),
    "CMYK tif": (saved(bytes_("CMYK"), ".tif"), 2),
    "YCbCr tif": (saved(bytes_("YCbCr"), ".tif"), 4),
    "RGBA png": (saved(bytes_("RGBA"), ".png"), 1),
    "LA png": (saved(bytes_("LA"), ".png"), 1),
    "P png": (saved(L.convert("P"), ".png"), 1),
    "P gif": (saved(L.convert("P"), ".gif"), 1),
    "LZW tif": (saved(L, ".tif", compression="tiff_lzw"), 1),
    "1 bit png": (saved(L.convert("1", dither=0), ".png"), 128),
    "1 bit tif": (saved(L.convert("1", dither=0), ".tif"), 128),
    "4 bits png": (saved(L.quantize(16), ".png", bits=4), 16),
    "16 bits png": (saved(PIL.fromarray(UINT16), ".png"), 1),
    "16 bits tif": (saved(PIL.fromarray(UINT16), ".tif"), 1),
    "16 bits big-endian tif": (raw(tiff(16, UINT16.astype("<u2"))), 1),
    "16 bits pgm as tif suffix": (raw(b"P5 64 8 65535\n" + UINT16.astype(">u2").tobytes()), 1),
    "8 bits, white is zero": (raw(tiff(8, 255 - BYTES, 0)), 1),
    "16 bits, white is zero": (raw(tiff(16, (65535 - UINT16).astype("<u2"), 0)), 1),
    "12 bits told by the file": (raw(tiff(16, np.rint(4095 * RAMP).astype("<u2"), extra=[(281, 4095)])), 1),
    "12 bits, white is zero, told by the file": (raw(tiff(16, np.rint(4095 * (1 - RAMP)).astype("<u2"), 0, extra=[(281, 4095)])), 1),
    "12 bits packed": (raw(tiff(12, packed(12))), 1),
    "4 bits packed": (raw(tiff(4, packed(4))), 16),
    "float": (saved(PIL.fromarray(F4), ".tif"), 1),
    "float, white is zero": (raw(tiff(32, 1 - F4, 0, 3)), 1),
    "black 16 bits": (saved(PIL.fromarray(0 * UINT16), ".png"), None),
    "float 0 … 255": (saved(PIL.fromarray(255 * F4), ".tif"), r"floating point from 0 to 255, which must be in \[0, 1\]"),
    "float with NaN": (saved(PIL.fromarray(np.where(F4 > 0.9, np.nan, F4)), ".tif"), "floating point from nan"),
    "int32 0 … 255": (saved(PIL.fromarray(I4(255)), ".tif"), "32-bit or signed integers from 0 to 255, whose range it does not tell; save it as 8 or 16"),
    "int32 0 … 65535": (saved(PIL.fromarray(I4(65535)), ".tif"), "32-bit or signed integers"),
    "int16": (raw(tiff(16, np.rint(32767 * RAMP).astype("<i2"), kind=2)), "32-bit or signed integers"),
    "12 bits in 16 png": (
        saved(PIL.fromarray(np.uint16(4095 * RAMP)), ".png"),
        "16 bits, but no value above 4095, as of 12 bits; save it as 8 bits, or scaled to 16",
    ),
    "12 bits in 16 tif": (saved(PIL.fromarray(np.uint16(4095 * RAMP)), ".tif"), "as of 12 bits"),
    "10 bits in 16": (saved(PIL.fromarray(np.uint16(1023 * RAMP)), ".png"), "as of 10 bits"),
    "14 bits in 16": (saved(PIL.fromarray(np.uint16(16383 * RAMP)), ".png"), "as of 14 bits"),
    "8 bits in 16": (saved(PIL.fromarray(np.uint16(255 * RAMP)), ".png"), "as of 8 bits"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_ramp_in_every_kind_of_file(tmp_path, kind):
    write, want = FILES[kind]
    path = write(tmp_path / "ramp")
    if isinstance(want, str):
        with pytest.raises(ValueError, match=f"ramp.*{want}"):
            models.load_image(path)
        return
    ramp = models.load_image(path)
    assert ramp.shape == (8, 64, 3) and ramp.dtype == np.uint8
    assert np.abs(np.int32(ramp) - (0 if want is None else COLOUR)).max() <= (want or 0)
    grey = models.load_image(path, channels=1)
    assert grey.shape == (8, 64, 1) and np.abs(np.int32(grey) - ramp).max() <= (want or 0) + 1


@pytest.mark.parametrize("x", [255 * RAMP, np.rint(255 * RAMP), np.float32(4 * RAMP).round(), 255 * np.float16(RAMP)])
def test_pictures_of_floats_are_x_and_not_pixels(x):
    x = np.repeat(x[..., None], 3, -1)
    with pytest.raises(ValueError, match="give pixels as uint8"):
        data.Arrays(x[None])


@pytest.mark.parametrize("x", [RAMP[..., None], 8 * RAMP[..., None], 255 * RAMP[..., None] - 128, 255 * RAMP, 255 * RAMP[..., None].repeat(7, -1)])
def test_x_in_a_models_own_units_is_taken(x):
    assert (data.Arrays(x[None])[0].pixels == x).all()


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, bool])
def test_arrays_of_other_kinds_are_refused(dtype):
    with pytest.raises(ValueError, match="uint8 pixels or floating-point x, got"):
        data.Arrays(COLOUR[None].astype(dtype))


@pytest.mark.parametrize("made", [COLOUR, COLOUR.astype(np.int32), COLOUR > 9])
def test_a_preprocess_that_returns_pixels_is_refused(made):
    with pytest.raises(ValueError, match="preprocess must return floating-point x, got"):
        to_input(COLOUR, lambda pixels: made)
    with pytest.raises(ValueError, match="preprocess must return floating-point x"):
        data.load(data.Arrays(COLOUR[None]), [0], preprocess=lambda pixels: made)


def test_a_mask_that_is_nowhere_white_is_refused(tmp_path):
    for folder, pixels in (("images", BYTES), ("masks", np.uint8(RAMP > 0.5))):
        (tmp_path / folder).mkdir()
        PIL.fromarray(pixels).save(tmp_path / folder / "1.png")
    with pytest.raises(ValueError, match="nowhere brighter than 1; a mask's object is white, 255"):
        data.Folder(tmp_path / "images", masks=tmp_path / "masks")[0]


def test_a_model_of_one_channel_gets_grey(tmp_path):
    PIL.fromarray(COLOUR).save(tmp_path / "1.png")
    subject = inputs.Subject("m", lambda x: x[0, :3, 0], input_shape=(8, 64, 1))
    x = inputs.example(tmp_path / "1.png", inputs.read(tmp_path / "1.png"), subject)
    np.testing.assert_array_equal(x, data.load(data.source(str(tmp_path), channels=subject.channels), [0]).x[0])
    np.testing.assert_allclose(x[..., 0], BYTES / 255, atol=1 / 255)


@pytest.mark.parametrize(("logits", "names", "fits"), [(3, "abc", True), (1, "a", True), (1, "ab", False), (2, "abc", False), (3, "ab", False)])
def test_a_model_has_as_many_names_as_logits(logits, names, fits):
    subject = inputs.Subject("m", lambda x: x[:logits], class_names=names)
    if fits:
        assert inputs.num_classes(subject, np.zeros(5, np.float32)) == logits
    else:
        with pytest.raises(UserError, match=f"returns {logits} logits?, but has {len(names)} class_names"):
            inputs.num_classes(subject, np.zeros(5, np.float32))
