"""What the manual says of fills for X-rays, measured again."""

import importlib.util

import manual
import numpy as np
import pytest

from jxai import data

XRAYS = manual.DOCS / "examples" / "xray_fills.py"


@pytest.mark.slow
def test_a_fill_loses_one_of_two_classes():
    pytest.importorskip("tensorflow_datasets")
    try:
        data.source("pneumonia_mnist", split="test")
    except (ValueError, OSError, FileNotFoundError) as error:
        pytest.skip(f"pneumonia_mnist is not here: {error}")
    spec = importlib.util.spec_from_file_location("xray_fills", XRAYS)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    x, y = example.images("test")
    f = example.trained(*example.images("train"))
    said = manual.text(manual.DOCS / "howto" / "choose_a_fill.md")
    for name, shares in example.kept(f, x).items():
        row = [float(cell) for cell in said.split(f"\n| {name} |")[1].split("\n")[0].strip("| ").split("|")]
        np.testing.assert_allclose(shares, row, atol=0.05)
