"""Real data for the tests of models: skipped, with the reason, where it is not there."""

import os
import pathlib

import pytest


@pytest.fixture(scope="session")
def shared():
    """The folder with data sets and weights: $JXAI_DATA, or ../shared beside the repository."""
    folder = pathlib.Path(os.environ.get("JXAI_DATA", pathlib.Path(__file__).parents[3] / "shared"))
    if not folder.is_dir():
        pytest.skip("no shared data: set JXAI_DATA or put it into ../shared")
    return folder


@pytest.fixture
def dataset(shared):
    """`dataset(name, n)`: the first n examples (all: None) of the test split as (list of images, list of labels)."""
    tfds = pytest.importorskip("tensorflow_datasets", reason="needs tensorflow-datasets")

    def read(name, n=None):
        if not (shared / "tfds" / name).is_dir():
            pytest.skip(f"no data set {name} in {shared / 'tfds'}")
        source = tfds.data_source(name, split="test", data_dir=str(shared / "tfds"), download=False)
        examples = [source[i] for i in range(len(source) if n is None else n)]
        return [example["image"] for example in examples], [int(example["label"]) for example in examples]

    return read
