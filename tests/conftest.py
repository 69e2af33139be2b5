"""Shared set-up of the tests: four simulated devices, and helper modules in this folder that import by their name."""

import os
import pathlib
import sys

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
sys.path.insert(0, str(pathlib.Path(__file__).parent))

import jax  # noqa: E402
import pytest  # noqa: E402


@pytest.fixture(scope="module")
def quick_compilation():
    """Compiles without most optimisations: for tests that compile much and run little. Results are equal to rounding."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
