"""Medical files on the command line: 16 bits reach the model, and what a file does not state is asked for."""

import numpy as np
import pytest

from jxai import data, plot
from jxai.cli import main
from jxai.data import Medical
from jxai.plot.page import Page

nibabel = pytest.importorskip("nibabel")

OWN = """
import jax.numpy as jnp, numpy as np

def plain():
    return lambda x: jnp.stack([x.mean(), -x.mean()])

class Halved:
    model = staticmethod(lambda x: jnp.stack([x.mean(), -x.mean()]))
    preprocess = staticmethod(lambda pixels: np.float32(pixels[::2]) / 255)

def halved():
    return Halved()
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "medical_models.py").write_text(OWN)
    (tmp_path / "scans").mkdir()
    values = np.arange(4 * 5 * 3, dtype=np.int16).reshape(4, 5, 3) * 37
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "scans" / "a.nii.gz")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plot, "explanations", lambda *given, **options: Page(figsize=(1, 1)))
    monkeypatch.syspath_prepend(tmp_path)
    return values


def explained(*arguments, model="plain"):
    assert main(["explain", "scans/a.nii.gz", "--model", f"medical_models:{model}", "--methods", "gradient", *arguments]) == 0
    with np.load("explanation/explanation.npz") as results:
        return results["x"]


def test_a_slice_a_video_and_units(here):
    np.testing.assert_allclose(explained("--window", "-50", "300", "--slice", "1")[..., 0], np.clip((here[..., 1] + 200) / 300, 0, 1), atol=1e-5)
    np.testing.assert_allclose(explained("--window=1000,2000", "--slice=all", "--axis=0")[..., 2], np.clip(here / 2000, 0, 1), atol=1e-5)
    np.testing.assert_array_equal(explained("--window", "units", "--slice", "-1"), np.float32(here[..., -1:]))
    np.testing.assert_allclose(explained("--window=1000,2000", "--slice=2", model="halved")[..., 1], np.clip(here[::2, :, 2] / 2000, 0, 1), atol=1e-5)


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["scans/a.nii.gz"], "a.nii.gz is a volume, 4×5×3: name a slice (0 to 2 along axis 2), or 'all' for a video"),
        (["scans/a.nii.gz", "--slice", "0"], "a.nii.gz states no range of its values (int16, from 0 to 2109); name a window"),
        (["scans/a.nii.gz", "--window", "5"], "--window '5' must be CENTER,WIDTH, file or units"),
        (["scans/a.nii.gz", "--window", "5,-1"], "must be None, (center, width) with width > 0"),
        (["scans/a.nii.gz", "--slice", "x"], "--slice 'x' must be an index or all"),
        (["medical_models.py", "--slice", "0"], "say nothing about medical_models.py, which is no medical file"),
    ],
)
def test_what_is_not_stated_is_one_line(here, capsys, arguments, said):
    assert main(["explain", *arguments, "--model", "medical_models:plain", "--methods", "gradient"]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1


def test_a_folder_is_a_data_set(here):
    source = data.source("scans", channels=1, medical=Medical((1000, 2000), 1))
    np.testing.assert_array_equal(source[0].pixels[..., 0], np.rint(65535 * np.clip(here[..., 1] / 2000, 0, 1)))
    with pytest.raises(ValueError, match="says nothing about digits"):
        data.source("digits", medical=Medical((1, 2)))
