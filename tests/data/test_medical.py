"""DICOM and NIfTI files that are written here, read back with values that are known exactly; what they do not state is an error that says what to do."""

import functools

import numpy as np
import pytest
from PIL import Image

from jxai import data
from jxai.data import Medical, images
from jxai.data.batches import to_input

pydicom, nibabel = pytest.importorskip("pydicom"), pytest.importorskip("nibabel")

PLAIN = np.asarray([[0, 1, 2048], [4095, 3000, 7]])


def dicom(path, values, bits=12, signed=False, **tags):
    """Writes values `[H, W]`, frames `[T, H, W]` or colours `[H, W, 3]`."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ExplicitVRLittleEndian, SecondaryCaptureImageStorage, "1.2.3"
    held = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    colours = tags.pop("PhotometricInterpretation", "MONOCHROME2")
    three = colours == "RGB"
    held.Rows, held.Columns = values.shape[-3:-1] if three else values.shape[-2:]
    held.SamplesPerPixel, held.PhotometricInterpretation = 3 if three else 1, colours
    if three:
        held.PlanarConfiguration = 0
    held.BitsAllocated = 8 if bits <= 8 else 16
    held.BitsStored, held.HighBit, held.PixelRepresentation = bits, bits - 1, int(signed)
    if values.ndim == 3 and not three:
        held.NumberOfFrames = len(values)
    for name, value in tags.items():
        setattr(held, name, value)
    held.PixelData = values.astype(f"{'i' if signed else 'u'}{held.BitsAllocated // 8}").tobytes()
    held.save_as(path)
    return path


def nifti(path, values, slope=None, shift=0.0, **header):
    made = nibabel.Nifti1Image(values, np.eye(4))
    made.header.set_slope_inter(slope, shift if slope else None)
    for name, value in header.items():
        made.header[name] = value
    nibabel.save(made, path)
    return path


def test_a_file_of_twelve_bits_keeps_them(tmp_path):
    path = dicom(tmp_path / "a.dcm", PLAIN)
    pixels = Medical().read(path)
    assert pixels.dtype == np.uint16 and pixels.shape == (2, 3, 1)
    np.testing.assert_array_equal(pixels[..., 0], np.rint(65535 * PLAIN / 4095))
    np.testing.assert_array_equal(Medical().read(path, 3), np.repeat(pixels, 3, -1))
    np.testing.assert_allclose(to_input(pixels, None)[..., 0], PLAIN / 4095, atol=1e-5)
    inverted = dicom(tmp_path / "b.dcm", PLAIN, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(Medical().read(inverted)[..., 0], np.rint(65535 * (4095 - PLAIN) / 4095))
    signed = dicom(tmp_path / "c.dcm", PLAIN - 2048, signed=True)
    np.testing.assert_array_equal(Medical().read(signed), pixels)
    eight = dicom(tmp_path / "d.dcm", PLAIN % 256, bits=8)
    assert Medical().read(eight).dtype == np.uint8 and (Medical().read(eight)[..., 0] == PLAIN % 256).all()
    full = dicom(tmp_path / "e.dcm", np.asarray([[0, 65535, 30000]]), bits=16)
    np.testing.assert_array_equal(Medical().read(full)[0, :, 0], [0, 65535, 30000])


def test_windows_are_in_the_units_of_the_file(tmp_path):
    units = PLAIN - 1024
    path = dicom(tmp_path / "a.dcm", PLAIN, RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=[40, 600], WindowWidth=[400, 1500])
    np.testing.assert_array_equal(Medical("units").read(path)[..., 0], units)
    np.testing.assert_array_equal(Medical((1000, 2000)).read(path)[..., 0], np.rint(65535 * np.clip(units / 2000, 0, 1)))
    # The standard's LINEAR function: 0 at c − 1/2 − (w − 1)/2 and 1 at w − 1 above it.
    np.testing.assert_array_equal(Medical("file").read(path)[..., 0], np.rint(65535 * np.clip((units + 160) / 399, 0, 1)))
    steep = dicom(tmp_path / "b.dcm", PLAIN, RescaleSlope=2, RescaleIntercept=-10, WindowCenter=4000, WindowWidth=100, VOILUTFunction="SIGMOID")
    expected = 1 / (1 + np.exp(-4 * (2 * PLAIN - 10 - 4000) / 100.0))
    np.testing.assert_allclose(Medical("file").read(steep)[..., 0], 65535 * expected, atol=0.5)
    np.testing.assert_array_equal(Medical().read(steep)[..., 0], np.rint(65535 * PLAIN / 4095))  # a range scales as its values do
    exact = dicom(tmp_path / "c.dcm", PLAIN, WindowCenter=2048, WindowWidth=4096, VOILUTFunction="LINEAR_EXACT", PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(Medical("file").read(exact)[..., 0], np.rint(65535 * (1 - PLAIN / 4096)))


def test_volumes_are_sliced_as_they_are_told(tmp_path):
    volume = np.arange(2 * 3 * 4).reshape(2, 3, 4) * 100
    frames, cube = dicom(tmp_path / "a.dcm", volume), nifti(tmp_path / "a.nii.gz", volume.astype(np.int16))
    for path, axis in ((frames, 0), (cube, 2)):
        shares = np.moveaxis(volume / 4095, axis, 0)
        window = (2047.5, 4095)
        np.testing.assert_array_equal(Medical(window, 1).read(path)[..., 0], np.rint(65535 * shares[1]))
        np.testing.assert_array_equal(Medical(window, -1).read(path)[..., 0], np.rint(65535 * shares[-1]))
        np.testing.assert_array_equal(Medical(window, "all").read(path)[..., 0], np.rint(65535 * shares))
        np.testing.assert_array_equal(Medical("units", 2, axis=1).read(path)[..., 0], volume[:, 2])
        with pytest.raises(ValueError, match=rf"is a volume, 2×3×4: name a slice \(0 to {volume.shape[axis] - 1} along axis {axis}\), or 'all' for a video"):
            Medical(window).read(path)
        with pytest.raises(ValueError, match="slice=9 of .* must be in"):
            Medical(window, 9).read(path)


def test_nifti_states_little(tmp_path):
    values = np.asarray([[0.5, -1.0], [2.0, 3.5]], np.float32)
    path = nifti(tmp_path / "a.nii", values)
    np.testing.assert_array_equal(Medical("units").read(path)[..., 0], values)
    np.testing.assert_array_equal(Medical((1.25, 4.5)).read(path)[..., 0], np.rint(65535 * (values + 1) / 4.5))
    with pytest.raises(ValueError, match=r"states no range of its values \(float32, from -1 to 3.5\); name a window"):
        Medical().read(path)
    with pytest.raises(ValueError, match="states no window"):
        Medical("file").read(path)
    told = nifti(tmp_path / "b.nii", (values * 2).astype(np.int16), cal_min=-2, cal_max=7)
    np.testing.assert_array_equal(Medical("file").read(told)[..., 0], np.rint(65535 * (2 * values + 2) / 9))
    scaled = nibabel.Nifti1Image(np.asarray([[1.0, 2.5]]), np.eye(4))
    scaled.header.set_data_dtype(np.int16)  # nibabel finds slope and intercept
    nibabel.save(scaled, tmp_path / "c.nii")
    np.testing.assert_allclose(Medical("units").read(tmp_path / "c.nii")[..., 0], [[1, 2.5]], atol=1e-4)
    bytes_ = nifti(tmp_path / "d.nii", np.asarray([[0, 255], [7, 8]], np.uint8))
    assert Medical().read(bytes_).dtype == np.uint8 and Medical().read(bytes_)[0, 1, 0] == 255


def test_what_a_file_does_not_state_or_cannot_is_an_error(tmp_path):
    def said(path, how=Medical()):
        with pytest.raises(ValueError) as error:
            how.read(path)
        assert str(error.value).startswith(str(path))
        return str(error.value)

    assert "states 16 bits, but holds no value beyond 0 to 4095, as of fewer; name a window" in said(dicom(tmp_path / "a.dcm", PLAIN, bits=16))
    assert "states no window" in said(dicom(tmp_path / "b.dcm", PLAIN), Medical("file"))
    assert "the function CURVED" in said(dicom(tmp_path / "c.dcm", PLAIN, WindowCenter=1, WindowWidth=2, VOILUTFunction="CURVED"), Medical("file"))
    assert "holds values from 0 to 4095, outside of 0 to 1023, which it states" in said(dicom(tmp_path / "d.dcm", PLAIN, bits=10))
    with pytest.raises(ValueError, match=r"slice=1 says nothing about .*b.dcm, which is one picture \(2, 3\)"):
        Medical(slice=1).read(tmp_path / "b.dcm")
    (tmp_path / "e.dcm").write_bytes((tmp_path / "a.dcm").read_bytes()[:-4])
    (tmp_path / "f.nii").write_bytes(b"not a volume")
    assert "cannot be read as DICOM" in said(tmp_path / "e.dcm") and "cannot be read as NIfTI" in said(tmp_path / "f.nii")
    assert "has the axes (2, 2, 2, 2)" in said(nifti(tmp_path / "g.nii", np.zeros((2, 2, 2, 2), np.float32)), Medical("units"))
    assert "1 of 4 values are not finite" in said(nifti(tmp_path / "h.nii", np.asarray([[np.nan, 1], [2, 3]], np.float32)), Medical((0, 1)))
    huge = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4))
    nibabel.save(huge, tmp_path / "i.nii")
    held = bytearray((tmp_path / "i.nii").read_bytes())
    held[42:48] = np.asarray([2000, 2000, 2000], "<i2").tobytes()
    (tmp_path / "i.nii").write_bytes(held)
    assert "holds 8,000,000,000 values, more than 300,000,000" in said(tmp_path / "i.nii", Medical("units", 0))
    assert "states RescaleSlope as '0', which gives no units" in said(dicom(tmp_path / "j.dcm", PLAIN, RescaleSlope="0", RescaleIntercept="1"), Medical((0, 1)))
    assert "states RescaleIntercept as None" in said(dicom(tmp_path / "k.dcm", PLAIN, RescaleSlope="1", RescaleIntercept=""), Medical((0, 1)))
    floats = pydicom.dcmread(tmp_path / "b.dcm")
    del floats.PixelData, floats.BitsStored
    floats.BitsAllocated, floats.FloatPixelData = 32, np.float32(PLAIN).tobytes()
    floats.save_as(tmp_path / "l.dcm")
    assert "holds real numbers, float32, which are not read" in said(tmp_path / "l.dcm")
    assert "states no window" in said(nifti(tmp_path / "m.nii", PLAIN.astype(np.int16), cal_min=0, cal_max=np.inf), Medical("file"))
    assert Medical((np.float32(1), np.int64(2)), np.int64(1), np.int64(0)) == Medical((1.0, 2), 1, 0)
    for bad in (dict(window=(1, 0)), dict(window="wide"), dict(window=5), dict(window=np.ones(2)), dict(slice="some"), dict(axis=3), dict(axis=True)):
        with pytest.raises(ValueError, match="must be"):
            Medical(**bad)


def test_colours_are_as_they_are(tmp_path):
    colours = np.random.default_rng(0).integers(0, 255, (3, 4, 3))
    path = dicom(tmp_path / "a.dcm", colours, bits=8, PhotometricInterpretation="RGB")
    np.testing.assert_array_equal(Medical().read(path, 3), colours)
    grey = np.asarray(Image.fromarray(colours.astype(np.uint8)).convert("L"))
    np.testing.assert_array_equal(Medical().read(path)[..., 0], grey)


def test_a_preprocessing_gets_sixteen_bits_in_the_range_of_eight(tmp_path):
    smooth = np.add.outer(np.arange(40), np.arange(30)) * 40
    pixels = Medical().read(dicom(tmp_path / "a.dcm", smooth), 3)
    mine = lambda pixels: np.float32(pixels[::2]) / 255
    np.testing.assert_allclose(to_input(pixels, mine)[..., 0], smooth[::2] / 4095, atol=1e-5)
    ours = functools.partial(images.preprocess, size=16, short_side=16)
    deep, eight = to_input(pixels, ours), to_input(np.uint8(np.rint(pixels / 257)), ours)
    np.testing.assert_allclose(deep, eight, atol=1.5 / 255)
    assert len(np.unique(deep)) > 2 * len(np.unique(eight))  # what eight bits lose
    np.testing.assert_allclose(to_input(pixels, functools.partial(ours, channels=1))[..., 0], deep[..., 0], atol=1e-6)
    with pytest.raises(ValueError, match="must be pixels from 0 to 255"):
        ours(np.ones((40, 30, 3), np.float32))


def test_folders_hold_medical_files_with_their_masks_and_the_window_is_part_of_their_name(tmp_path):
    for label, shift in (("ill", 0), ("well", 1)):
        (tmp_path / "scans" / label).mkdir(parents=True)
        (tmp_path / "masks" / label).mkdir(parents=True)
        dicom(tmp_path / "scans" / label / "1.dcm", (PLAIN + shift) % 4096)
        nifti(tmp_path / "masks" / label / "1.nii.gz", (PLAIN > 2000).astype(np.int16))
    wide = Medical((2048, 4096))
    source = data.Folder(tmp_path / "scans", masks=tmp_path / "masks", channels=1, medical=wide)
    assert source.class_names == ("ill", "well") and source.labels().tolist() == [0, 1]
    assert source.name != data.Folder(tmp_path / "scans", masks=tmp_path / "masks", channels=1).name and "2048" in source.name
    np.testing.assert_array_equal(source[0].pixels[..., 0], np.rint(65535 * PLAIN / 4096))
    np.testing.assert_array_equal(source[0].mask, PLAIN > 2000)
    batch = data.load(source, [0, 1])
    np.testing.assert_allclose(batch.x[1, ..., 0], (PLAIN + 1) % 4096 / 4096, atol=1e-5)
    assert batch.x.dtype == np.float32 and not batch.errors and (batch.mask[0] == (PLAIN > 2000)).all()
    halved = data.load(source, [0], preprocess=lambda pixels: np.float32(pixels[:, ::2]) / 255)
    assert (halved.mask[0] == (PLAIN > 2000)[:, ::2]).all()
    (tmp_path / "plain").mkdir()
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "plain" / "a.png")
    with pytest.raises(ValueError, match="says nothing about"):
        data.Folder(tmp_path / "plain", medical=wide)
