"""Every experiment and every benchmark starts, runs its smallest configuration to the end, and an experiment that goes on computes nothing anew.

They are found by walking their folders; one that has no smallest configuration here fails.
"""

import ast
import importlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.attribution import eva_benchmark
from jxai.evaluate.blocks import Block
from jxai.evaluate.record import Record, folder

ROOT = Path(__file__).parents[2]
DIGITS = {"dataset": "digits", "model": "digits_cnn"}
SMALLEST = {
    "attribution/attribution_benchmark": {**DIGITS, "limit": 2, "passes": 130, "steps": 2, "methods": "gradient,sobol,rise"},
    "attribution/eva_benchmark": {"worlds": "digits", "limit": 1, "passes": 40, "steps": 2},
    "attribution/pointing_game": {**DIGITS, "limit": 2, "passes": 130, "steps": 2, "tolerance": 0.0},
    "bounds/certified_points": {"kinds": ("softmax, rolled",), "models": 1, "points": 10, "rounds": 2},
    "bounds/vnncomp_mnistfc": {"networks": (2,), "limit": 1, "rounding": "nearest", "steps": 1, "splits": 1, "attack_steps": 2, "restarts": 1},
    "concepts/crp_ablation": {
        **{**DIGITS, "limit": 2, "layers": ("layers[1].bias", "layers[2].bias"), "composites": ("epsilon",), "shares": (0.1, 0.5)},
        **{"atlas": "layers[2].bias", "references": 20},
    },
    "concepts/visualised": {**DIGITS, "judge": "digits_cnn", "layer": None, "images": 60, "channels": 1, "classes": 1, "passes": 4},
    "counterfactual/clue": {
        **{"images": 2, "seeds": 1, "members": 1, "train": 512, "tests": 300, "k": 2},
        **{"radii": (1.0,), "weights": (0.0,), "steps": 2, "uncertain": 2},
    },
    "counterfactual/constrained_optimum": {"kinds": ("mixed",), "methods": ("wachter",), "problems": 2, "steps": 5},
    "counterfactual/deduce": {
        **{"methods": ("deduce", "jsma"), "certainties": (), "seeds": 1, "images": 1, "judged": 1, "train": 512, "steps": 30, "widths": (4, 8)},
        **{"blocks": 1, "threshold": 0.105, "search_steps": 5, "judge_steps": 2, "judge_starts": 1},
    },
    "counterfactual/diffeomorphic": {"images": 1, "seeds": 1, "train": 512, "threshold": 0.6, "steps": 3},
    "counterfactual/dive": {
        **{"per_gap": 1, "seeds": 1, "agreements": (0.9,), "train": 1500, "tests": 600, "training_steps": 60, "k": 2},
        **{"settings": ((0.4, 0.4),), "steps": 2, "examples": 16},
    },
    "counterfactual/generative_regularizers": {"images": 1, "tuning": 1, "seeds": 1, "problems": ("deblurring",), "scales": (10.0,), "steps": 2},
    "counterfactual/human_edits": {"images": 1, "seeds": 1, "train": 1024, "pool": 200, "tests": 60, "members": 1, "steps": 2, "coder_steps": 1},
    "counterfactual/sharpshooter": {"images": 1, "seeds": 1, "train": 1024, "pool": 600, "points": (4,), "steps": 2, "repeats": 1},
    "counterfactual/sparse_vce": {"images": 1, "seeds": 1, "train": 512, "neighbours": 64, "norms": (2.0,), "budgets": (20,), "steps": 2},
    "counterfactual/steex": {"images": 1, "seeds": 1, "parts": 3, "train": 96, "steps": 60, "search_steps": 2, "targeted": 1},
    "counterfactual/vcnet": {"tables": ("compas",), "examples": 10, "seeds": 1, "limit": 200, "steps": 20, "search_steps": 3},
    "dataset/clever_hans": {
        **{
            "worlds": ("fashion_mnist/anywhere",),
            "rates": (0.0, 0.5),
            "methods": ("gradient × input", "LRP"),
            "seeds": 1,
            "train": 200,
            "tests": 40,
            "epochs": 1,
        },
        "permutations": 1,
    },
    "metrics/metric_validity": {"digits": "digits", "images": 8, "train": 200, "steps": 20, "names": "deletion,sparseness"},
    "metrics/sanity_checks": {**DIGITS, "limit": 1},
    "relevance/words": {"limit": 3, "fitted": 40, "methods": ("input_x_gradient",), "shares": (0.3,), "orders": 1, "pictures": 1},
    "sufficiency/disambiguation": {
        **{**DIGITS, "images": 60, "pairs": 1, "exact": 1, "least": 1e-6, "coarse": 3, "segments": 4},
        **{"steps": 1, "masks": 4, "designs": 2, "pictures": 1},
    },
    "sufficiency/overinterpretation": {
        **{"parts": ("cifar10", "training"), "images": 2, "per_step": 128, "passes": 130, "steps": 1, "taught": 64, "judged": 8},
        **{"subset_per_step": 256, "epochs": 1, "seeds": 1, "members": 1, "sized": 2},
    },
    "uncertainty/calibration_under_shift": {
        **{"worlds": ("mnist",), "seeds": 1, "members": 2, "samples": 2, "train": 128, "held": 200, "epochs": 1, "tests": 20},
    },
    "uncertainty/conformal": {
        **{"worlds": ("lenet5",), "limit": 2200, "shifted": 50, "corruptions": ("contrast",), "severities": (3,), "angles": (45,)},
        **{"alphas": (0.1,), "splits": 2},
    },
    "uncertainty/deterministic_uncertainty": {
        **{"seeds": 1, "train": 256, "epochs": 1, "tests": 100, "widths": (4, 4), "members": 2, "samples": 2},
    },
    "uncertainty/duq": {"seeds": 1, "train": 256, "epochs": 1, "tests": 100, "channels": (4, 4, 4), "width": 8, "members": 2, "penalties": (0.05,)},
    "uncertainty/ood_scores": {"networks": ("cifar10_resnet20",), "seeds": 1, "examples": 20, "fitted": 300, "draws": 5},
    "uncertainty/supervisors": {
        **{"worlds": ("mnist",), "seeds": 1, "train": 1000, "tests": 20, "fitted": 500, "updates": 100, "members": 1, "samples": 2},
        **{"pair_images": 300, "pair_steps": 400, "tries": 1},
    },
    "uncertainty/uncertainty_attribution": {
        **{"datasets": ("mnist",), "images": 2, "seeds": 1, "train": 128, "tests": 40, "path_steps": 2, "search_steps": 2},
        **{"samples": 98, "steps": 3},
    },
    "uncertainty/uqgan": {"seeds": 1, "train": 1100, "tests": 20, "others": 10, "updates": 4, "members": 2, "samples": 2, "latent": 2},
    "training/train": {"model": "vae", "dataset": "digits", "steps": 2, "limit": 64, "batch_size": 16},
}
COMMANDS = {
    "attribution/attribution": ["--quick", "--peers=", "--methods=gradient"],
    "attribution/cold_start": ["--repeats=1", "--peer=", "--no-stages"],
    "bounds/bounds": ["--quick", "--peers=", "--settings=random", "--methods=interval", "--rounds=1"],
    "bounds/bound_tightness": ["--layers=relu", "--points=50"],
    "counterfactual/counterfactual": ["--images=1", "--singles=1", "--lanes=9", "--peer=0"],
    "metrics/metrics": ["--quick", "--peers=", "--settings=lenet5", "--metrics=deletion", "--rounds=1"],
    "uncertainty/uncertainty": ["--quick", "--parts=together,state", "--images=50", "--fitted=300", "--scores=react,knn"],
    "sufficiency/sufficiency": ["--quick", "--models=digits_cnn", "--parts=exact", "--rounds=1", "--images=1"],
    "uncertainty/neighbours": ["--images=20", "--bank=200", "--rounds=1"],
}
PEERS = {"counterfactual/alibi_wachter": "alibi"}
"""Programs that are nothing without a peer."""

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_compilation")]


def scripts(top):
    """The scripts of a folder, by their paths in it without the suffix."""
    found = (ROOT / top).rglob("*.py")
    return sorted(str(path.relative_to(ROOT / top).with_suffix("")) for path in found if re.search(r"^def main\b", path.read_text("utf-8"), re.MULTILINE))


def ran(path, *arguments, cwd):
    """A script as a user runs it: without the flags that make tests compile fast and programs slow."""
    flags = ("XLA_FLAGS", "JAX_DISABLE_MOST_OPTIMIZATIONS")
    environment = {name: value for name, value in os.environ.items() if name not in flags} | {"PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, ROOT / f"{path}.py", *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_no_experiment_imports_anothers_script():
    own = {f"experiments.{name.replace('/', '.')}" for name in scripts("experiments")}
    for path in (ROOT / "experiments").rglob("*.py"):
        nodes = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.ImportFrom)]
        assert not own & {name for node in nodes for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))}, path


@pytest.fixture
def made(monkeypatch):
    """What is computed rather than found: the pieces of a record, and blocks of evaluations."""
    names, write = [], Block.write

    def counted(kept):
        return lambda self, name, make: kept(self, name, lambda: names.append(name) or make())

    for method in ("kept", "kept_rows"):
        monkeypatch.setattr(Record, method, counted(getattr(Record, method)))
    monkeypatch.setattr(Block, "write", lambda self, *given: names.append(self.number) or write(self, *given))
    return names


@pytest.mark.parametrize("name", [f"experiments/{name}" for name in scripts("experiments")] + [f"benchmarks/{name}" for name in scripts("benchmarks")])
def test_help(name, tmp_path):
    if (peer := PEERS.get(name.removeprefix("benchmarks/"))) and importlib.util.find_spec(peer) is None:
        pytest.skip(f"is nothing without {peer}")
    done = ran(name, "--help", cwd=tmp_path)
    assert done.returncode == 0 and "usage" in done.stdout.lower() and not list(tmp_path.iterdir()), done.stderr


BARE = """
import contextlib, io, runpy, sys
sys.modules |= dict.fromkeys(("matplotlib", "tyro"))  # as where they are not installed
for path in sys.argv[1:]:
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            runpy.run_path(path, run_name="__main__")
    except SystemExit as end:
        print(end.code, told.getvalue(), end="")
"""


def test_without_the_extra_a_line_says_what_to_install(tmp_path):
    paths = [str(ROOT / "experiments" / f"{name}.py") for name in scripts("experiments")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", BARE, *paths], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == len(paths) > 15 and not list(tmp_path.iterdir())
    assert all(line.startswith("2 ") and "error: experiments need matplotlib, tyro: pip install 'jxai[experiments]'" in line for line in lines)


@pytest.fixture
def small_world(monkeypatch):
    """A world for EVA whose bounds take seconds; in its own they take minutes for an image."""
    monkeypatch.setitem(eva_benchmark.WORLDS, "digits", eva_benchmark.World("digits", "digits_cnn", 0.05, 4, bounds=("eva_interval", "eva_crown_ibp")))


@pytest.mark.parametrize("name", scripts("experiments"))
def test_smallest_experiment_and_going_on(name, tmp_path, made, small_world, capsys):
    module = importlib.import_module(f"experiments.{name.replace('/', '.')}")
    config = module.Config(out=str(tmp_path), **SMALLEST[name])
    try:
        rows = module.run(config)
    except (FileNotFoundError, ImportError, ValueError) as error:
        if isinstance(error, ValueError) and "not prepared" not in str(error):
            raise
        pytest.skip(f"needs what is not here: {error}")
    module.show(config, rows)
    assert rows and made and capsys.readouterr().out.strip()
    made.clear()
    (folder(config) / "results.json").unlink()
    np.testing.assert_equal(module.run(config), rows)
    assert made == [], f"computed anew: {made}"


@pytest.mark.parametrize("name", scripts("benchmarks"))
def test_smallest_benchmark(name, tmp_path):
    if peer := PEERS.get(name):
        pytest.skip(f"is nothing without {peer}; what runs it is tested")
    done = ran(f"benchmarks/{name}", *COMMANDS[name], cwd=tmp_path)
    if done.returncode and re.search(r"not prepared|FileNotFoundError|No module named", done.stderr):
        pytest.skip(f"needs what is not here: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0 and "left out" not in done.stdout + done.stderr and "| " in done.stdout, done.stderr
