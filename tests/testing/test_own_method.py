"""The worked example of CONTRIBUTING.md: a method in a file of its own, held to the contract by one call."""

import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jxai.testing import check_method

pytestmark = pytest.mark.usefixtures("quick_compilation")

ROOT = pathlib.Path(__file__).parents[2]
FILE = ROOT / "docs" / "examples" / "own_method.py"


@pytest.fixture(scope="module")
def exposure_gradient():
    spec = importlib.util.spec_from_file_location("own_method", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.exposure_gradient


def test_it_keeps_the_contract(exposure_gradient):
    check_method(exposure_gradient, options={"num_samples": 3}, shapes=("vector",), passes=3)


@pytest.mark.slow
def test_it_keeps_the_contract_for_every_kind_of_input(exposure_gradient):
    check_method(exposure_gradient, options={"num_samples": 3}, shapes=("image", "video"), passes=3)


def test_it_is_the_gradient_of_a_linear_score_times_the_mean_exposure(exposure_gradient):
    """`∂s(2^e x)/∂x = 2^e w`, so that all entries of the map have the same ratio to w, between 2^−stops and 2^stops."""
    w, x = jnp.asarray([1.0, -2.0, 3.0]), jnp.asarray([0.2, 0.5, 0.9])
    a = jax.jit(lambda key: exposure_gradient(lambda v: w @ v, x, None, key, num_samples=9, stops=2.0))(jax.random.key(0))
    ratio = np.asarray(a / w)
    assert np.allclose(ratio, ratio[0]) and 0.25 < ratio[0] < 4 and abs(ratio[0] - 1) > 1e-3


def test_contributing_quotes_the_file():
    guide, file = ((ROOT / name).read_text("utf-8") for name in ("CONTRIBUTING.md", "docs/examples/own_method.py"))
    body = guide.split("```python")[1].split("```")[0].split('"""')[2]
    quoted = [line.strip() for line in body.splitlines() if line.strip()]
    plain = file.replace(" -> Array:", ":").replace("i: Array", "i")
    assert len(quoted) > 6 and all(line in plain for line in quoted)
