"""Shared set-up of the tests: four simulated devices, helper modules in this folder that import by their name, and the packages `experiments` and `benchmarks`."""

import gc
import os
import pathlib
import sys

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
# A program in one part costs a fifth less of the processor than one in 32, which are compiled side by side.
os.environ["XLA_FLAGS"] += " --xla_cpu_parallel_codegen_split_count=1"
sys.path[:0] = [str(pathlib.Path(__file__).parent), str(pathlib.Path(__file__).parents[1])]

from jxai.cli import compiler  # noqa: E402  which loads no JAX

os.environ["XLA_FLAGS"] = " ".join([os.environ["XLA_FLAGS"], *compiler.known()])

import jax  # noqa: E402
import pytest  # noqa: E402

_MAPS, _LIMIT = pathlib.Path("/proc/self/maps"), pathlib.Path("/proc/sys/vm/max_map_count")


def pytest_addoption(parser):
    parser.addoption("--shard", metavar="K/N", help="run the K-th of N parts of the tests that were chosen")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """Keeps one shard. What a file tests of one thing (`test_contract.py`'s cases of sobol) stays together, since it shares programs."""
    if (shard := config.getoption("--shard")) is None:
        return
    part, _, parts = shard.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise pytest.UsageError(f"--shard {shard} must be K/N with 1 <= K <= N")
    things: dict[tuple[pathlib.Path, str], int] = {}
    number = [things.setdefault((item.path, item.name.partition("[")[2].partition("-")[0]), len(things)) for item in items]
    chosen = [n % int(parts) == int(part) - 1 for n in number]
    config.hook.pytest_deselected(items=[item for item, keep in zip(items, chosen) if not keep])
    items[:] = [item for item, keep in zip(items, chosen) if keep]


def pytest_collection_finish(session):
    """Python's collector looks at what a test left behind, not again and again at JAX itself and all the tests."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


@pytest.fixture(scope="module", autouse=True)
def room_for_programs():
    """Lets go of compiled programs before they take all the memory maps that Linux allows a process: each takes several, and XLA
    ends the process when it gets no more."""
    yield
    if _MAPS.exists() and _LIMIT.exists() and 3 * len(_MAPS.read_bytes().splitlines()) > int(_LIMIT.read_text()):
        jax.clear_caches()


@pytest.fixture(autouse=True)
def traces_counted_anew():
    """`chex.assert_max_traces` knows a function by where it stands, so that the cases of a parametrized test would add up."""
    if "chex" in sys.modules:
        sys.modules["chex"].clear_trace_counter()


@pytest.fixture(scope="module")
def quick_compilation():
    """Compiles without most optimisations: for tests that compile much and run little. Results are equal to rounding."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)  # what `make test` asks for stays
