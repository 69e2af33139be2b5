"""The house: arrows between rooms point one way, the root is small, no file is long, and every room says what it is for."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import typing
from pathlib import Path

import pytest

from jxai import _SHORT

ROOT = Path(__file__).parents[1]
FLOORS = (
    ("typing", "files", "naming"),
    ("callables", "views"),
    ("kernels", "identity"),
    ("outputs",),
    ("scores",),
    ("loops",),
    ("adapters", "certificates", "latent", "removal", "tracing", "data"),
    ("bounds", "batching", "training", "relevance"),
    ("models",),
    ("uncertainty",),
    ("attribution", "counterfactual"),
    ("metrics", "plot"),
    ("sufficiency", "pages", "dataset"),
    ("evaluate", "testing"),
    ("concepts",),
    ("cli",),
)
"""From the ground up: a room may use those below it, never one on its own floor or above."""
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def imports(file: Path) -> set[Path]:
    """The files of jxai that a file imports, in functions too, but for those that only a type checker reads."""
    tree = ast.parse(file.read_text("utf-8"))
    unread = {id(n) for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" for n in ast.walk(node)}
    found = set()
    for node in ast.walk(tree):
        if id(node) in unread:
            continue
        if isinstance(node, ast.Import):
            found |= {place(name.name) for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {place(f"{node.module}.{name.name}") or place(node.module) for name in node.names}
    return {at for at in found if at is not None} - {file}


def place(module: str) -> Path | None:
    """The file of a module of jxai; None for another's, and for jxai's own face, which imports nothing by itself."""
    if not module.startswith("jxai."):
        return None
    at = ROOT / Path(*module.split("."))
    return next((file for file in (at.with_suffix(".py"), at / "__init__.py") if file.exists()), None)


def room(file: Path) -> str:
    return file.relative_to(ROOT / "jxai").parts[0].removesuffix(".py")


ARROWS = {file: imports(file) for file in (ROOT / "jxai").rglob("*.py") if file.parent.name != "jxai" or not file.name.startswith("__")}


def test_arrows_between_rooms_point_down():
    upward = [
        f"{file.relative_to(ROOT)} -> {to.relative_to(ROOT)}"
        for file, used in ARROWS.items()
        for to in used
        if room(file) != room(to) and FLOOR[room(file)] <= FLOOR[room(to)]
    ]
    assert not upward


def test_routines_take_their_loops_from_the_room_of_loops():
    """An eager loop of `jax.lax` is compiled at every call, and refuses to vary inside `shard_map`."""
    own = {"loops", "kernels", "batching", "training", "models", "testing"}  # these are within a program of their own
    names = {"scan", "while_loop", "fori_loop", "map", "cond", "switch"}
    direct = [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for file in ARROWS
        if room(file) not in own
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in names and ast.unparse(node.value) in ("lax", "jax.lax")
    ]
    assert not direct


def test_every_room_has_a_floor():
    assert {room(file) for file in ARROWS} <= set(FLOOR)


def test_no_file_needs_one_that_needs_it():
    done: set[Path] = set()

    def visit(file: Path, way: list[Path]) -> None:
        assert file not in way, " -> ".join(str(f.relative_to(ROOT)) for f in [*way[way.index(file) :], file])
        if file not in done:
            for used in sorted(ARROWS.get(file, ())):
                visit(used, [*way, file])
            done.add(file)

    for file in ARROWS:
        visit(file, [])


def test_the_library_names_true_places():
    """Short names are for users: `jxai.fills` in the library would be an arrow that no one sees."""
    for file in ARROWS:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "jxai":
                assert not {name.name for name in node.names} & set(_SHORT), file
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jxai."):
                assert node.module.removeprefix("jxai.") not in _SHORT, file


def test_the_root_is_small():
    modules = [file.name for file in (ROOT / "jxai").glob("*.py") if file.name not in ("__init__.py", "__main__.py")]
    assert len(modules) <= 8, modules


def test_no_file_is_longer_than_300_lines():
    files = [file for folder in ("jxai", "experiments", "benchmarks", "tests", "docs") for file in (ROOT / folder).rglob("*.py")]
    assert len(files) > 300
    assert not {str(file.relative_to(ROOT)): n for file in files if (n := len(file.read_text("utf-8").splitlines())) > 300}


@pytest.mark.parametrize("name", sorted({room(file) for file in ARROWS if file.parent.name != "jxai"}))
def test_a_room_says_what_it_is_for_and_what_may_be_touched(name):
    said = ast.get_docstring(ast.parse((ROOT / "jxai" / name / "__init__.py").read_text("utf-8")))
    assert said and 5 <= len(said.splitlines()) <= 15 and "What may be touched" in said


def test_what_is_committed_is_small():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a checkout of git")
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    assert not [file for file in files if file.exists() and file.stat().st_size > 2**20]


FAMILIES = (
    "attribution",
    "bounds",
    "counterfactual",
    "data",
    "dataset",
    "evaluate",
    "kernels",
    "metrics",
    "metrics.compare",
    "metrics.counterfactual",
    "models",
)
MORE = (
    "concepts",
    "pages",
    "plot",
    "removal.fills",
    "removal.masks",
    "removal.segments",
    "sufficiency",
    "testing",
    "tracing.taps",
    "training.checkpoint",
    "training.train",
    "uncertainty",
    "uncertainty.conformal",
    "uncertainty.detection",
    "uncertainty.duq",
    "uncertainty.formulas",
    "uncertainty.networks",
    "uncertainty.sngp",
    "uncertainty.selective",
)


@pytest.mark.parametrize("family", FAMILIES + MORE)
def test_what_is_public_says_its_types(family):
    module = importlib.import_module(f"jxai.{family}")
    public = [getattr(module, name) for name in getattr(module, "__all__", [name for name in vars(module) if not name.startswith("_")])]
    functions = [fn for fn in public if inspect.isfunction(fn) and fn.__module__.startswith("jxai.")]
    assert functions
    for fn in functions:
        typing.get_type_hints(fn)
        signature = inspect.signature(fn)
        assert signature.return_annotation is not signature.empty, fn.__name__
        assert not [p.name for p in signature.parameters.values() if p.annotation is p.empty], fn.__name__
