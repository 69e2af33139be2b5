"""The columns of a run that the command line asks for: names with options of their own, and options with several values."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Callable, Mapping
from typing import Any

from jxai.cli import options
from jxai.cli.errors import UserError, known
from jxai.naming import ABSOLUTE, APART

ALL = "all"
"""Every method that can explain the model (`jxai.evaluate.possible`)."""
Given = list[tuple[str, str, str]]
Made = dict[str, tuple[Callable, dict[str, Any]]]


def chosen(methods: str, metrics: str, given: Given, score: str | None) -> tuple[Made, Made]:
    """Methods and metrics by label, each with its function and the options that were given for it.

    `sobol@num_designs=16` among the names is Sobol with an option of its own. `--sobol.num_designs 8,16`, or the option twice, makes a column of each value.

    Args:
      methods, metrics: names separated by commas; methods may be all. given: `(name, option, text)` of `--name.option text`. score: of all methods that name none.
    """
    every, judges = options.methods(), options.judges()
    asked = _asked("--methods", "method", ",".join(every) if methods.strip() == ALL else methods, every, ABSOLUTE)
    judging = _asked("--metrics", "metric", metrics, judges)
    functions = {name: fn for name, fn, _ in (*asked.values(), *judging.values())}
    texts = _texts("method", given, functions, {**every, **judges})
    made = _columns("--methods", asked, texts, functions), _columns("--metrics", judging, texts, functions)
    for fn, own in made[0].values():
        options.share_score(score, {"": own}, {"": fn})
    return made


def scores(text: str, given: Given) -> tuple[Made, bool]:
    """Scores of uncertainty by label, each with its function and the options that were given for it or for its fit; and whether all were asked for.

    Args:
      text: names separated by commas, or all. given: as for `chosen`.
    """
    from jxai.evaluate.uncertain.plan import OF_NETWORKS, every, with_fit

    known_, whole = every(), text.strip() == ALL
    asked = _asked("--scores", "score", ",".join(name for name in known_ if name not in OF_NETWORKS) if whole else text, known_)
    functions = {name: with_fit(fn) for name, fn, _ in asked.values()}
    texts = _texts("score", given, functions, known_)
    made = _columns("--scores", {label: (name, functions[name], own) for label, (name, _, own) in asked.items()}, texts, functions)
    real = {name: fn for name, fn, _ in asked.values()}
    by = {functions[name]: fn for name, fn in real.items()}
    return {label: (by[fn], own) for label, (fn, own) in made.items()}, whole


def _texts(kind: str, given: Given, functions: Mapping[str, Callable], every: Mapping[str, Callable]) -> dict[str, dict[str, list[str]]]:
    """By name and option the values that were given to the functions that are asked for, of every one there is."""
    texts: dict[str, dict[str, list[str]]] = {name: {} for name in functions}
    for name, option, text in given:
        options.refuse_unasked(kind, name, option, functions, every)
        texts[name].setdefault(option, []).extend(_values(functions[name], option, text))
    return texts


def _asked(flag: str, kind: str, text: str, every: Mapping[str, Callable], prefix: str = "") -> dict[str, tuple[str, Callable, dict[str, str]]]:
    """By label as it was typed: the name by which options are given, the function, and the options in the label."""
    found = {}
    for typed in _names(flag, text):
        head, *apart = typed.split(APART)
        label, fn = _named(flag, kind, head, every, prefix)
        own = {}
        for part in apart:
            option, said, value = part.partition("=")
            if not (said and option and value):
                raise UserError(f"{flag} {typed}: {part!r} must be OPTION=VALUE")
            own[option.strip().replace("-", "_")] = value
        found[label + "".join(f"{APART}{option}={value}" for option, value in own.items())] = label.removeprefix(prefix), fn, own
    return found


def _columns(flag: str, asked: dict[str, tuple[str, Callable, dict[str, str]]], texts: dict[str, dict[str, list[str]]], functions: dict[str, Callable]) -> Made:
    made: Made = {}
    for label, (name, fn, fixed) in asked.items():
        swept = {option: values for option, values in texts[name].items() if option not in fixed}
        for values in itertools.product(*swept.values()):
            own = {**dict(zip(swept, values)), **fixed}
            column = label + "".join(f"{APART}{option}={value}" for option, value in zip(swept, values) if len(swept[option]) > 1)
            if column in made:
                raise UserError(f"{flag} names {column!r} twice")
            made[column] = fn, options.parse([(name, option, value) for option, value in own.items()], functions)[name]
    return made


def _values(fn: Callable, option: str, text: str) -> list[str]:
    """`8,16` as two values of an option that takes a number and no tuple; any other text as one."""
    known(f"option of {getattr(fn, '__name__', 'it')}", option, options.schema(fn))
    taken = options.kinds(fn, option)
    try:
        several = isinstance(ast.literal_eval(text), tuple)
    except (ValueError, SyntaxError):
        return [text]
    numbers = {int, float} & set(taken)
    return [part.strip() for part in text.split(",") if part.strip()] if several and numbers and tuple not in taken else [text]


def _named(flag: str, kind: str, name: str, every: Mapping[str, Callable], prefix: str = "") -> tuple[str, Callable]:
    """A label and its function: a name of jxai's, or `package.module:function` of one's own, which is labelled by the function."""
    from jxai.cli import inputs

    bare = name.removeprefix(prefix)
    if ":" not in bare:
        return name, every[known(kind, bare, every)]
    label = bare.partition(":")[2]
    if label in every:
        raise UserError(f"{flag} {name}: {label} is a {kind} of jxai's, too; give it another name")
    if not callable(made := inputs.imported(bare, flag)):
        raise UserError(f"{flag} {name} is a {type(made).__name__}, which cannot be called")
    return name[: len(name) - len(bare)] + label, made


def _names(flag: str, text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UserError(f"{flag} names none")
    if len(set(names)) < len(names):
        raise UserError(f"{flag} names {next(n for n in names if names.count(n) > 1)!r} twice")
    return names


def seeds(text: str | None) -> tuple[int, ...] | None:
    """The seeds that a text names; None where it names none."""
    if text is None:
        return None
    parts = _names("--seeds", text)
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise UserError(f"--seeds {text!r} must be integers from 0")
    return tuple(map(int, parts))
