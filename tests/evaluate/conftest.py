"""Helper modules in this folder import by their name, and one undisturbed run serves all tests."""

import pathlib
import sys

import jax
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """An undisturbed run, compiled as in the modules that use `quick_compilation`."""
    import runs

    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    run = runs.run(tmp_path_factory.mktemp("runs") / "whole")
    jax.config.update("jax_disable_most_optimizations", before)
    return run
