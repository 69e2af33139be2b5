"""The package as others get it: an sdist, and the wheel that is built from it, installed elsewhere and used."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

USE = """
import importlib.resources, jax, jax.numpy as jnp, jxai, jxai.pages
from jxai.attribution import sobol
from jxai.taps import layers
from jxai.models import imagenet_class_names
assert jxai.__file__.startswith({elsewhere!r}), jxai.__file__
assert importlib.resources.files("jxai").joinpath("py.typed").is_file() and len(imagenet_class_names()) == 1000
assert "<h1>mine</h1>" in jxai.pages.render("mine", [])
f = lambda x: jnp.stack([x[:4].sum(), x[4:].sum()])
a = sobol(f, jnp.ones((8, 8, 1)), 0, grid=2, num_designs=32, score='logit')
assert a[0].min() > 0.5 and abs(a[-1]).max() < 0.1, a[..., 0]
print(jxai.__version__)
"""


@pytest.mark.slow
def test_the_wheel_works_where_the_checkout_is_not(tmp_path):
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT, checkout, ignore=shutil.ignore_patterns(".git", ".venv*", "build", "dist", "out", ".*_cache", "__pycache__"))
    done = subprocess.run([sys.executable, "-m", "build", "--outdir", tmp_path / "dist", checkout], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (sdist,), (wheel,) = (list((tmp_path / "dist").glob(pattern)) for pattern in ("*.tar.gz", "*.whl"))
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"Makefile", "README.md", "tests/conftest.py", "experiments/training/train.py", "benchmarks/measuring/measure.py", "jxai/py.typed"} <= names

    elsewhere = tmp_path / "elsewhere"
    subprocess.run([sys.executable, "-m", "venv", elsewhere], check=True)
    python = elsewhere / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel], check=True)
    # What jxai needs comes from here; a plain line in a .pth file leaves the checkout, which is installed here as well, out.
    (own,) = elsewhere.glob("lib/python*/site-packages")
    (own / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "XLA_FLAGS")}
    used = subprocess.run([python, "-c", USE.format(elsewhere=str(elsewhere))], cwd=tmp_path, env=clean, capture_output=True, text=True, check=False)
    assert used.returncode == 0, used.stderr[-2000:]
    listed = subprocess.run([elsewhere / "bin" / "jxai", "methods", "sobol"], cwd=tmp_path, env=clean, capture_output=True, text=True, check=False)
    assert listed.returncode == 0 and "num_designs" in listed.stdout, listed.stderr[-2000:]
