"""Sources: what is stored comes out, and what is wrong is said."""

import csv
import sys

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from jxai import data

PIXELS = np.random.default_rng(0).integers(0, 255, (5, 6, 7, 3), np.uint8)


def test_arrays_come_out_as_they_went_in():
    masks = PIXELS[..., 0] > 100
    source = data.Arrays(PIXELS, [4, 3, 2, 1, 0], masks, class_names="abcde")
    assert len(source) == 5 and source.class_names == tuple("abcde")
    assert all(np.array_equal(source[i].pixels, PIXELS[i]) and np.array_equal(source[i].mask, masks[i]) for i in range(5))
    assert [source[i].label for i in range(5)] == [4, 3, 2, 1, 0]


def test_arrays_are_named_by_their_content():
    names = {data.Arrays(PIXELS).name, data.Arrays(PIXELS, range(5)).name, data.Arrays(PIXELS + 1).name, data.Arrays(PIXELS, None, PIXELS[..., 0] > 9).name}
    assert len(names) == 4 and data.Arrays(PIXELS.copy()).name in names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((PIXELS[:0],), r"at least one example, got shape \(0, 6"),
        ((PIXELS.astype(int),), "uint8 pixels or floating-point x, got int64"),
        ((PIXELS, [1, 2]), "labels must be 5 integers"),
        ((PIXELS, np.zeros(5)), "labels must be 5 integers, got float64"),
        ((PIXELS, None, np.zeros((5, 7, 6), bool)), r"masks must have shape \(5, 6, 7\), got \(5, 7, 6\)"),
    ],
)
def test_arrays_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        data.Arrays(*arguments)


def test_digits_are_those_of_scikit_learn():
    digits, theirs = data.source("digits"), load_digits()
    assert len(digits) == 1797
    for i in (0, 5, 1796):
        assert digits[i].label == theirs.target[i] and np.abs(digits[i].pixels[..., 0] / 255 * 16 - theirs.images[i]).max() <= 16 / 510
        assert np.array_equal(digits[i].mask, theirs.images[i] > 8) or (theirs.images[i] == 8).any()


def test_the_digits_that_networks_are_trained_on_are_apart():
    whole, train, test = (data.source("digits", split=split) for split in (None, "train", "test"))
    assert len(train) + len(test) == len(whole) and len({whole.name, train.name, test.name}) == 3
    assert np.array_equal(np.r_[train.labels(), test.labels()], whole.labels()) and np.array_equal(test[0].pixels, whole[len(train)].pixels)
    with pytest.raises(ValueError, match="split='validation' of the digits must be"):
        data.source("digits", split="validation")


def test_noise_is_of_its_seed_and_place():
    noise = data.Noise((5, 6, 3), 4)
    assert len(noise) == 4 and noise[3].pixels.shape == (5, 6, 3) and np.array_equal(noise[3].pixels, noise[3].pixels)
    assert not np.array_equal(noise[3].pixels, noise[2].pixels) and not np.array_equal(noise[3].pixels, data.Noise((5, 6, 3), 4, seed=1)[3].pixels)
    assert np.mean([noise[i].pixels.mean() for i in range(4)]) == pytest.approx(127.5, abs=10) and noise.name != data.Noise((5, 6, 3), 4, seed=1).name
    with pytest.raises(ValueError, match="shape=.* must be"):
        data.Noise((5, 6, 2), 4)
    with pytest.raises(IndexError):
        noise[4]


def test_a_source_is_brought_to_another_size():
    source = data.Arrays(PIXELS, [4, 3, 2, 1, 0], PIXELS[..., 0] > 100)
    same, grey, large = (data.resized(source, shape) for shape in ((6, 7, 3), (6, 7, 1), (12, 14, 3)))
    assert np.array_equal(same[2].pixels, PIXELS[2]) and np.array_equal(same[2].mask, source[2].mask) and same.labels() is source.labels()
    assert np.abs(grey[2].pixels[..., 0] - PIXELS[2] @ [0.299, 0.587, 0.114]).max() <= 1
    assert large[2].pixels.shape == (12, 14, 3) and large[2].mask.shape == (12, 14) and large.name != source.name
    flat = data.resized(data.Arrays(np.full((1, 9, 4, 1), 7, np.uint8)), (3, 5, 3))
    assert (flat[0].pixels == 7).all() and flat[0].pixels.shape == (3, 5, 3)
    with pytest.raises(ValueError, match="pictures .* are resized, got float32"):
        data.resized(data.Arrays(np.zeros((1, 4, 4, 3), np.float32)), (3, 3, 3))[0]


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [([0, 0, 1, 1], 8, 10), ([0.25, 0.5, 0.75, 0.6], 4, 1), ([0.2, 0, 0.3, 0.01], 2, 1), ([0.109375, 0, 0.8125, 1], 7, 10)],
)
def test_a_box_covers_the_pixels_that_it_touches(box, rows, columns):
    mask = data.box_mask((8, 10), np.float32(box))
    assert mask.any(1).sum() == rows and mask.any(0).sum() == columns and mask.sum() == rows * columns
    assert mask[int(box[0] * 8), int(box[1] * 10)]


def test_a_box_outside_is_refused():
    with pytest.raises(ValueError, match=r"ymin, xmin, ymax, xmax"):
        data.box_mask((8, 8), [0.5, 0, 0.2, 1])


@pytest.fixture
def folder(tmp_path):
    for n, name in enumerate(["dog/1.png", "dog/2.png", "cat/1.png", "tabby cat/x.png"]):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(PIXELS[n]).save(path)
    (tmp_path / "images" / "notes.txt").write_text("not an image")
    return tmp_path / "images"


def test_a_folder_is_labelled_by_subfolders(folder):
    source = data.Folder(folder)
    assert [source[i].name for i in range(len(source))] == ["cat/1.png", "dog/1.png", "dog/2.png", "tabby cat/x.png"]
    assert [source[i].label for i in range(4)] == [0, 1, 1, 2] and source.class_names == ("cat", "dog", "tabby cat")
    assert np.array_equal(source[0].pixels, PIXELS[2])


def test_subfolders_are_found_among_the_models_classes_and_their_synonyms(folder):
    source = data.Folder(folder, class_names=["fish", "tabby, tabby cat", "cat", "dog"])
    assert [source[i].label for i in range(4)] == [2, 3, 3, 1]
    with pytest.raises(ValueError, match="label 'dog' is no class of the model"):
        data.Folder(folder, class_names=["cat", "tabby cat"])


def test_a_table_of_labels_goes_before_subfolders(folder):
    with open(folder / "labels.csv", "w", newline="") as file:
        csv.writer(file).writerows([["file", "label"], ["dog/1.png", 7], ["cat/1.png", 0]])
    assert [data.Folder(folder)[i].label for i in range(4)] == [0, 7, -1, -1]
    with pytest.raises(ValueError, match=r"label 7 must be in \[0, 3\)"):
        data.Folder(folder, class_names="abc")
    (folder / "labels.csv").write_text("file,label\nnowhere.png,1\n")
    with pytest.raises(ValueError, match="nowhere.png, which is not there"):
        data.Folder(folder)
    (folder / "labels.csv").write_text("1,2\n")
    with pytest.raises(ValueError, match="header with file and label"):
        data.Folder(folder)


def test_masks_travel_with_the_images_of_a_folder(folder, tmp_path):
    for name in ["dog/1", "dog/2", "cat/1", "tabby cat/x"]:
        path = tmp_path / "masks" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.uint8(255 * (np.arange(7) > 3))[None].repeat(6, 0)).save(path)
    source = data.Folder(folder, masks=tmp_path / "masks")
    assert np.array_equal(source[2].mask, np.broadcast_to(np.arange(7) > 3, (6, 7)))
    (tmp_path / "masks" / "cat" / "1.jpg").unlink()
    with pytest.raises(ValueError, match="no mask for cat/1.png"):
        data.Folder(folder, masks=tmp_path / "masks")


def test_a_changed_folder_has_another_name(folder):
    before = data.Folder(folder).name
    Image.fromarray(PIXELS[4]).save(folder / "dog" / "3.png")
    assert data.Folder(folder).name != before


def test_folders_that_are_none(tmp_path):
    with pytest.raises(ValueError, match="no folder of images"):
        data.Folder(tmp_path / "missing")
    with pytest.raises(ValueError, match="holds no images"):
        data.Folder(tmp_path)


def test_options_that_say_nothing_about_a_source(folder):
    with pytest.raises(ValueError, match="label='x' says nothing about digits"):
        data.source("digits", label="x")
    with pytest.raises(ValueError, match="data_dir='x' says nothing about a folder"):
        data.source(str(folder), data_dir="x")


def test_without_scikit_learn_the_digits_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match="pip install scikit-learn"):
        data.source("digits")
