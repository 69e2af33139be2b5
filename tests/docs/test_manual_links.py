"""Every page is reached, every link between pages leads somewhere, every public name and every experiment has its place. Nothing is built."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import pkgutil
import re
import shlex
import sys

import manual
import pytest

import jxai

sys.path.insert(0, str(manual.DOCS / "_extensions"))
import docstrings
import listings
import reference
import results
import unexecuted


@pytest.mark.parametrize("page", manual.PAGES, ids=manual.name)
def test_links_lead_somewhere(page):
    """Files, pages, names of the reference; code is no link."""
    prose = re.sub(r"^(`{3,}).*?^\1\s*$", "", manual.text(page), flags=re.MULTILINE | re.DOTALL)
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", prose)) if not re.match(r"\w+:|#", link)]
    assert not [link for link in links if not (page.parent / link.partition("#")[0]).exists()]
    for said in re.findall(r"\{doc\}`([^`]+)`", prose):
        target = re.sub(r".*<(.*)>$", r"\1", said)
        at = manual.DOCS / target[1:] if target.startswith("/") else page.parent / target
        assert at.with_name(at.name + ".md").exists(), said
    documented = reference.names()
    for said in re.findall(r"\{py:obj\}`([^`]+)`", prose):
        assert re.sub(r".*<(.*)>$|^~", r"\1", said) in documented, said


def test_every_page_is_in_a_table_of_contents():
    reached, todo = set(), [manual.DOCS / "index.md"]
    while todo:
        page = todo.pop()
        if page in reached:
            continue
        reached.add(page)
        for tree in re.findall(r"^```\{toctree\}\n(.*?)^```", manual.text(page), re.MULTILINE | re.DOTALL):
            for entry in (line.strip() for line in tree.splitlines() if line.strip() and not line.startswith(":")):
                todo += sorted(page.parent.glob(f"{entry}.md")) if "*" in entry else [page.parent / f"{entry}.md"]
    assert reached == set(manual.PAGES)


def _public():
    """Modules whose `__all__` are what a user imports: jxai's own, each room's, and short names."""
    rooms = [f"jxai.{module.name}" for module in pkgutil.iter_modules(jxai.__path__) if not module.name.startswith("_")]
    nested = ["jxai.metrics.compare", "jxai.metrics.counterfactual"]
    return ["jxai", *(name for name in [*rooms, *nested, *(f"jxai.{short}" for short in jxai._SHORT)] if name not in INSIDE)]


INSIDE = {"jxai.cli", "jxai.files", "jxai.identity", "jxai.kernels", "jxai.outputs", "jxai.batching", "jxai.callables", "jxai.views"}
"""Rooms that users reach by the command line or by jxai's own names; `core.md` has what of them is public."""


@pytest.mark.parametrize("name", _public())
def test_every_public_name_is_in_the_reference(name):
    module = importlib.import_module(name)
    if hasattr(module, "__all__"):
        named = {f"{module.__name__}.{each}" for each in reference.public(module)}
        assert named <= set(reference.names()), named - set(reference.names())
    if name in reference.families():
        shown = reference.markup(name)
        assert all(f"{name}.{each}\n" in shown or f"`{name}.{each}` is" in shown for each in reference.public(module))


def test_commands_can_be_typed():
    """What stands after a prompt is taken by the command line's parser; `…` and words in capitals stand for something."""
    from jxai.cli import _CLAIMS, _WITH_OPTIONS, arguments, parser

    lines = [
        line
        for page in manual.PAGES
        for block in re.findall(r"^```console\n(.*?)^```", manual.text(page), re.MULTILINE | re.DOTALL)
        for line in block.replace("\\\n", " ").splitlines()
    ]
    commands = [line.partition("$ jxai ")[2] for line in lines if "$ jxai " in line]
    assert len(commands) > 20
    for command in commands:
        words = [word for word in shlex.split(command, comments=True) if word not in ("[NAME]", "…")]
        if ">" in words or "|" in words or words[0] == "--help":
            continue
        try:
            typed = arguments.joined(words)
            parser.parser().parse_args(arguments.split(typed)[0] if typed[0] in (*_CLAIMS, *_WITH_OPTIONS) else typed)
        except (SystemExit, Exception) as error:
            pytest.fail(f"jxai {command}: {error}")


@pytest.mark.parametrize("page", sorted((manual.DOCS / "howto" / "models").glob("*.md")), ids=manual.name)
def test_a_model_is_brought_in_ten_lines(page):
    """From `jxai.adapt` to maps, beside the model itself."""
    brought = [code for code in manual.cells(page) if "adapt(" in code]
    assert all(sum(bool(line.strip()) for line in code.splitlines()) <= 10 for code in brought)


def test_the_design_names_every_room():
    rows = [line.split("|")[1] for line in manual.text(manual.DOCS / "design.md").splitlines() if line.startswith("| `jxai/")]
    named = {room.removeprefix("jxai/").strip("/") for row in rows for room in re.findall(r"`([\w/]+/)`", row)}
    assert named == {room.name for room in pkgutil.iter_modules(jxai.__path__) if room.ispkg}


def test_every_experiment_has_a_page():
    pages = "\n".join(manual.text(page) for page in (manual.DOCS / "results").glob("*.md"))
    experiments = [
        file.relative_to(manual.ROOT / "experiments").with_suffix("").as_posix()
        for file in (manual.ROOT / "experiments").rglob("*.py")
        if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in ast.parse(file.read_text("utf-8")).body) and "training" not in file.parts
    ]
    assert len(experiments) > 15 and set(experiments) <= set(results.FENCE.findall(pages))
    assert "```console\n$ python experiments/counterfactual/clue.py" in results.said("counterfactual/clue")


def test_the_tables_of_methods_and_metrics_are_whole():
    from jxai import attribution, metrics

    assert all(f"<jxai.attribution.{name}>" in listings.methods() for name in attribution.__all__)
    assert all(f"<jxai.metrics.{name}>" in listings.judges() for name in metrics.__all__)


def test_what_a_page_needs_is_looked_for():
    page = "---\nfile_format: mystnb\nneeds: [numpy, no_such_package]\n---\n\n# Page\n"
    assert unexecuted.missing(page) == ["no_such_package"] and not unexecuted.missing(page.replace("needs", "wants"))


def test_a_docstring_becomes_fields_and_links():
    rst = docstrings.to_rst(
        inspect.cleandoc("""The mean of `x`s, *not* a_sum_ of |x|.

        Args:
          f: a model `x -> y`. x, key: an example: of any rank. steps: at most; 3 or
            more. size: in `[0, 1]`.

        Returns:
          `[H, W]`: what `other` gives.

        Raises:
          ValueError: a bad x.

        Cost: one pass.
        Reference: Someone 2020."""),
        ("f", "x", "key", "steps", "size"),
        {"other": "jxai.other"}.get,
    )
    lines = [line for line in rst.splitlines() if line]
    assert lines == [
        r"The mean of ``x``\ s, *not* a_sum\_ of \|x\|.",
        ":param f: a model ``x -> y``.",
        ":param x: an example: of any rank.",
        ":param key: an example: of any rank.",
        ":param steps: at most; 3 or more.",
        ":param size: in ``[0, 1]``.",
        ":returns: ``[H, W]``: what :py:obj:`other <jxai.other>` gives.",
        ":raises ValueError: a bad x.",
        "**Cost:** one pass.",
        "**Reference:** Someone 2020.",
    ]
