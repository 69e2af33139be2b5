"""Data sets of TFDS, read without TensorFlow: the shared ones where they are, and what is said where they are not."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jxai import data

SHARED = Path(os.environ.get("JXAI_DATA", Path(__file__).parents[2] / ".." / "shared")) / "tfds"
shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the prepared data sets are not here: name their folder by JXAI_DATA")


@shared
def test_a_prepared_data_set_is_read_without_tensorflow():
    code = (
        "import sys\n"
        "from jxai import data; s = data.source('mnist', split='test[:7]', data_dir=sys.argv[1])\n"
        "e = s[3]; print(len(s), e.pixels.shape, e.pixels.dtype, e.label, e.mask, s.name, len(s.class_names), 'tensorflow' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code, SHARED], capture_output=True, text=True, check=True).stdout
    assert out.split("\n")[0] == "7 (28, 28, 1) uint8 8 None mnist/3.0.1:test[:7] 10 False"


@shared
def test_boxes_become_masks_and_the_label_suits_the_model():
    source = data.Prepared("tiny_imagenet", num_classes=1000, data_dir=SHARED)
    example = source[3]
    assert source.name == "tiny_imagenet/1.0.0:validation:imagenet_label" and example.label == 286
    # bbox .109375, 0, .8125, 1 of 64 pixels
    assert example.mask[7:52].all() and example.mask.sum() == 45 * 64
    assert data.Prepared("tiny_imagenet", data_dir=SHARED)[3].label == 33


@shared
def test_numbers_by_name_are_one_vector():
    example = data.Prepared("adult", data_dir=SHARED)[0]
    assert example.pixels.shape == (13,) and example.pixels.dtype == np.float32 and example.pixels[0] == 55
    assert data.Prepared("german_credit_numeric", data_dir=SHARED)[0].pixels.shape == (24,)


@shared
@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mnist", {"split": "tst"}, "split='tst' of mnist: Unknown split"),
        ("mnist", {"split": "test[:0]"}, "is empty"),
        ("adult", {"label": "wage"}, "label='wage' is no feature of adult"),
        ("svhn_cropped", {}, "not prepared as array_record.*download_and_prepare"),
        ("nothing_like_it", {}, "no data set 'nothing_like_it'; prepared here: .*mnist"),
    ],
)
def test_what_is_missing_is_said(name, options, message):
    with pytest.raises(ValueError, match=message) as error:
        data.Prepared(name, data_dir=SHARED, **options)
    assert "\n" not in str(error.value)


def test_an_empty_folder_tells_how_to_prepare(tmp_path):
    with pytest.raises(ValueError, match="mnist is not prepared as array_record.*download_and_prepare.*JXAI_DATA"):
        data.Prepared("mnist", data_dir=tmp_path)


def test_without_tfds_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'jxai\[tfds\]'"):
        data.Prepared("mnist")
