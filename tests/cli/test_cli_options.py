"""Options read from signatures, the lists of methods and models, and the errors of the command line itself."""

import importlib.util
import inspect
import runpy
import sys

import pytest

from jxai import attribution, cli, fills
from jxai.cli import listing, options


def test_every_option_of_every_method_can_be_read_back_from_how_its_default_is_shown():
    read = 0
    for name, method in options.methods().items():
        for option, parameter in options.schema(method).items():
            assert parameter.kind is inspect.Parameter.KEYWORD_ONLY, (name, option)
            assert options.describe(options.kinds(method, option)) != "given in Python", (name, option)
            if parameter.default is not inspect.Parameter.empty:
                text = options.show(parameter.default)
                assert options.value(f"--{name}.{option}", text, options.kinds(method, option)) == parameter.default, (name, option)
                read += 1
    assert read > 30


def test_values_have_the_types_that_the_signature_says():
    def method(f, x, target, key=None, *, rule: str = "a", n: int = 1, sigma: float = 0.5, sizes: int | tuple[int, ...] = 2): ...

    def value(option, text):
        return options.value(option, text, options.kinds(method, option))

    assert value("rule", "3") == "3" and value("n", "7") == 7 and value("sigma", "2") == 2.0
    assert value("sizes", "3,4") == (3, 4) and value("sizes", "3") == 3 and value("sigma", "1e-3") == 0.001
    for option, text in (("n", "1.5"), ("n", "none"), ("sigma", "low"), ("sizes", "1.5")):
        with pytest.raises(cli.UserError, match=f"{option} '{text}' must be"):
            value(option, text)


def test_fills_are_named():
    kinds = options.kinds(attribution.rise, "fill")
    assert options.value("f", "mean", kinds) == fills.Mean()
    assert options.value("f", "blur:3", kinds) == fills.Blur(3)
    assert options.value("f", "uniform:0,0.5", kinds) == fills.Uniform(0, 0.5)
    assert options.value("f", "-0.5", kinds) == -0.5


def test_every_method_is_listed_with_its_cost_and_reference(capsys):
    assert cli.main(["methods"]) == 0
    out = capsys.readouterr().out
    for name in attribution.__all__:
        cost, reference = (listing.line(getattr(attribution, name), word) for word in ("Cost", "Reference"))
        assert "pass" in cost and any(year in reference for year in map(str, range(1990, 2027))), name
        assert f"  {name} " in out and cost in out and reference in out
    assert cli.main(["methods", "sobol"]) == 0
    assert "--sobol.grid " in capsys.readouterr().out
    assert cli.main(["methods", "sobl"]) == 2
    assert capsys.readouterr().err == "jxai: error: unknown method 'sobl'; did you mean sobol?\n"


def test_every_model_is_listed(capsys):
    from jxai import models

    assert cli.main(["models"]) == 0
    out = capsys.readouterr().out
    for name, info in models.available().items():
        assert name in out and info.reference in out and info.licence in out and info.requires in out


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["explain", "--seed"]])
def test_argparse_errors_are_one_line(arguments, capsys):
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("jxai: error: ") and error.count("\n") == 1


def test_the_module_runs_as_a_program(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["jxai", "methods", "nothing"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("jxai", run_name="__main__")
    assert ended.value.code == 2 and capsys.readouterr().err.startswith("jxai: error: unknown method 'nothing'")


@pytest.mark.parametrize("command", ["explain", "suffice", "disambiguate", "counterfactual digits", "report run", "certify a.png --radius 1 --html"])
def test_what_is_not_installed_is_said_before_any_work(command, capsys, monkeypatch):
    here = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *given: None if name == "matplotlib" else here(name, *given))
    assert cli.main(command.split()) == 2
    what = "--html" if "--html" in command else f"jxai {command.split()[0]}"
    assert capsys.readouterr().err == f"jxai: error: {what} needs matplotlib: pip install 'jxai[demo]'\n"
