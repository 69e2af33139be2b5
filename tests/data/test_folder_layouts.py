"""Folders as people have them: the labels are right, or the error says what to do."""

import os

import numpy as np
import pytest
from PIL import Image

from jxai import data
from jxai.cli import inputs
from jxai.cli.errors import UserError
from jxai.data import classes
from jxai.evaluate.examples import Examples

PNG = np.zeros((2, 2, 3), np.uint8)
GRADES, PETS = ("1", "2", "3", "4"), ("cat, tabby", "dog", "bird")


def images(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(PNG).save(root / name)


def table(root, text, encoding="utf-8"):
    images(root, "a.png", "b/c.png")
    (root / "labels.csv").write_bytes(text.format(root=root).encode(encoding))


def linked(root):
    images(root.parent / "elsewhere", "dog/1.png", "dog/2.png")
    images(root, "cat/1.png")
    os.symlink(root.parent / "elsewhere" / "dog", root / "dog")
    os.symlink(root, root / "cat" / "loop")


SUBFOLDERS = [
    (("cat/1.png", "dog/1.png"), None, [0, 1]),
    (("cat/1.png", "dog/1.png"), PETS, [0, 1]),
    (("bird/1.png", "Tabby/1.png"), PETS, [0, 2]),
    (("cat/1.png", "dog/1.png", ".ipynb_checkpoints/1.png", "__MACOSX/cat/1.png", "dog/._1.png"), None, [0, 1]),
    (("0/1.png", "1/1.png", "2/1.png"), None, [0, 1, 2]),
    (("0/1.png", "1/1.png"), PETS, [0, 1]),
    (("0/1.png", "7/1.png"), None, [0, 7]),
    (("1/1.png", "2/1.png", "3/1.png"), None, [0, 1, 2]),
    (("1/1.png", "2/1.png", "3/1.png"), GRADES, [0, 1, 2]),
    (("01/1.png", "04/1.png"), GRADES, [0, 3]),
    (("2019/1.png", "2020/1.png"), None, [0, 1]),
    (("1.png", "cat/1.png", "dog/1.png"), None, [-1, 0, 1]),
    (("-1/1.png", "0/1.png", "1/1.png"), None, [-1, 0, 1]),
    (("cat/persian/1.png", "cat/manx/1.png", "dog/1.png"), None, [0, 0, 1]),
    (("test/1.png", "cat/1.png"), ("cat", "test"), [0, 1]),
    (("train/cat/1.png", "test/cat/1.png"), None, r"splits of a data set.*give one of them: .*/test, .*/train"),
    (("test/1.png",), None, "splits of a data set"),
    (("images/cat/1.png", "images/dog/1.png"), None, r"one subfolder, 'images', .*give .*/images"),
    (("1/1.png", "2/1.png", "10/1.png"), None, r"order is 1, 2, 10 or 1, 10, 2; give class_names"),
    (("class2/1.png", "class10/1.png"), None, "order is class2, class10 or class10, class2"),
    (("1/1.png", "01/1.png"), None, "are one number"),
    (("1/1.png", "5/1.png"), GRADES, r"numbers that are none \(5\)"),
    (("cat/1.png", "1/1.png"), PETS, r"names of classes \(cat\) and numbers"),
    (("0/1.png", "3/1.png"), PETS, r"label 3 must be in \[0, 3\)"),
    (("fish/1.png",), PETS, r"'fish' is no class of the model: classes are named cat, tabby, dog, bird"),
]
TABLES = [
    ("file,label\na.png,1\nb/c.png,0\n", None, [1, 0]),
    ("\ufefffile,label\r\na.png,1\r\nb/c.png,0\r\n", None, [1, 0]),
    ("file;label\na.png;dog\nb/c.png;bird\n", PETS, [1, 2]),
    ("label\tfile\n1\ta.png\n0\tb\\c.png\n", None, [1, 0]),
    ("File,Label\n./a.png,2\n{root}/b/c.png,2.0\n", None, [2, 2]),
    ("file,label\na.png,-1\nb/c.png,cat\n", None, [-1, 0]),
    ("file,label\na.png,nan\nb/../b/c.png,4\n", GRADES, [-1, 3]),
    ("file,label\na.png,3\n", None, [3, -1]),
    ("file,label\na.png,1\na.png,1\nb/c.png,0\n", None, [1, 0]),
    ("file,label\na.png,1\n./a.png,0\n", None, "line 3 labels ./a.png '0', an earlier line '1'"),
    ("file,label\nz.png,1\n", None, "line 2 names z.png, which is not there"),
    ("file,label\nlabels.csv,1\n", None, "no image that is read"),
    ("file,label\na.png\n", None, "line 2 has 1 cells, the header 2"),
    ("file,label\na.png,dog\nb/c.png,1\n", None, r"numbers \(1\) and words \(dog\); give class_names"),
    ("file,label\na.png,-2\n", None, "label -2 must be in"),
]


@pytest.mark.parametrize(("files", "names", "want"), SUBFOLDERS)
def test_subfolders(tmp_path, files, names, want):
    images(tmp_path, *files)
    _check(tmp_path, names, want)


@pytest.mark.parametrize(("text", "names", "want"), TABLES)
def test_tables(tmp_path, text, names, want):
    table(tmp_path, text)
    _check(tmp_path, names, want)


def test_a_table_in_another_encoding_is_refused(tmp_path):
    table(tmp_path, "file,label\na.png,Käfer\n", "latin-1")
    _check(tmp_path, None, r"is not UTF-8 \(byte 0xe4 at 18\); save it as UTF-8")


def test_links_are_followed_and_end_where_they_lead_back(tmp_path):
    linked(tmp_path / "here")
    source = data.Folder(tmp_path / "here")
    assert [source[i].name for i in range(len(source))] == ["cat/1.png", "dog/1.png", "dog/2.png"] and source.labels().tolist() == [0, 1, 1]


def test_an_empty_subfolder_might_be_a_class(tmp_path):
    images(tmp_path, "b/1.png", "c/1.png")
    (tmp_path / "a").mkdir()
    _check(tmp_path, None, "the subfolder 'a' is empty")
    _check(tmp_path, "abc", [1, 2])


def test_a_name_that_is_no_utf_8_is_shown_by_escapes(tmp_path):
    images(tmp_path, "a/1.png")
    os.rename(os.fsencode(tmp_path) + b"/a/1.png", os.fsencode(tmp_path) + b"/a/caf\xe9\n.png")
    source = data.Folder(tmp_path)
    assert source[0].name == r"a/caf\xe9\n.png" and source.digest([0]) and source.name.encode()


def test_a_name_of_two_classes_is_refused():
    assert classes.named("crane", ["crane", "Crane"]) == 0
    with pytest.raises(ValueError, match="'crane' names the classes 0, 2"):
        classes.named("crane", ["crane, bird", "dog", "crane, machine"])


def _check(root, names, want):
    if isinstance(want, str):
        with pytest.raises(ValueError, match=want):
            data.Folder(root, class_names=names)
        return
    source = data.Folder(root, class_names=names)
    assert [source[i].label for i in range(len(source))] == want == source.labels().tolist()


@pytest.mark.parametrize(
    ("text", "want"), [("2", [1]), ("2,3", [1, 2]), (" 4 ,1", [3, 0]), ("0", "is a name, not an index"), ("5", "classes are named 1, 2, 3, 4")]
)
def test_a_target_is_a_name_though_it_be_a_number(text, want):
    subject = inputs.Subject("m", lambda x: x, class_names=GRADES)
    if isinstance(want, list):
        assert inputs.targets(text, subject, 4) == want
    else:
        with pytest.raises(UserError, match=want):
            inputs.targets(text, subject, 4)


def test_the_classes_of_a_source_are_those_of_the_model():
    source = data.Arrays(np.zeros((4, 3), np.float32), [0, 1, 0, 1], class_names=("1", "2"))
    Examples(lambda x: x[:2], source)
    with pytest.raises(ValueError, match=r"the model has 3 logits, .* 2 classes: 1, 2"):
        Examples(lambda x: x, source)
