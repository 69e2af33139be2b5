"""What was fitted is written and read to the bit; damaged and strange files are refused."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil

import jax
import numpy as np
import pytest
from uncertainty import score_cases

from jxai import uncertainty
from jxai.uncertainty import scores, storing


@dataclasses.dataclass(frozen=True)
class Head:
    """Of the name of one of the room's, and none of them."""

    weights: np.ndarray


FITS = [name for name in scores.__all__ if score_cases.CASES.get(name, score_cases.Case()).fit is not None]


@pytest.mark.parametrize("name", ["head", *FITS])
def test_what_was_fitted_comes_back_to_the_bit(name, tmp_path):
    fitted = score_cases.answered()[3] if name == "head" else score_cases.said(name)["fitted"]
    uncertainty.save(tmp_path / "fit.npz", fitted)
    back = uncertainty.load(tmp_path / "fit.npz")
    assert type(back) is type(fitted) and jax.tree.structure(back) == jax.tree.structure(fitted)
    for a, b in zip(jax.tree.leaves(fitted), jax.tree.leaves(back)):
        assert np.asarray(a).dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_everything_that_a_fit_returns_can_be_kept():
    for module in pkgutil.walk_packages(uncertainty.__path__, "jxai.uncertainty."):
        for name, fit in vars(importlib.import_module(module.name)).items():
            if name.startswith("fit_") and inspect.isfunction(fit):
                returned = str(inspect.signature(fit).return_annotation)
                assert returned in storing.FITTED, f"{module.name}.{name} returns {returned}: storing.FITTED needs a line"
    for name, module in storing.FITTED.items():
        assert inspect.isclass(getattr(importlib.import_module(module), name))


def test_what_is_no_fit_is_refused(tmp_path):
    with pytest.raises(ValueError, match="fitted must be one of .*Head.*, got a dict of builtins"):
        uncertainty.save(tmp_path / "a.npz", {"weights": 1})
    with pytest.raises(ValueError, match="fitted must be one of .*, got a Head of"):
        uncertainty.save(tmp_path / "a.npz", Head(np.ones(3)))
    with pytest.raises(ValueError, match="must end in .npz"):
        uncertainty.save(tmp_path / "a", score_cases.answered()[3])
    (tmp_path / "b.npz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="is no fit, or damaged"):
        uncertainty.load(tmp_path / "b.npz")
