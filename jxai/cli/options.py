"""Options of methods and metrics on the command line: `--sobol.grid 11`, read from the signatures."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jxai import attribution
from jxai.cli import segments
from jxai.cli.errors import UserError, first_line, known
from jxai.removal import fills
from jxai.typing import Array, Fill, Generator, Method


def methods() -> dict[str, Callable]:
    """Every attribution method by its name."""
    return {name: getattr(attribution, name) for name in attribution.__all__}


def judges() -> dict[str, Callable]:
    """Every metric by its name."""
    from jxai import metrics

    return {name: getattr(metrics, name) for name in metrics.__all__}


def schema(routine: Callable) -> dict[str, inspect.Parameter]:
    """The options of a method or metric: its keyword-only parameters."""
    return {name: p for name, p in inspect.signature(routine).parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}


def fill_names() -> dict[str, type]:
    """Fills by their names on the command line: `blur:10`, `mean`, `uniform:0,1`."""
    return {c.__name__.lower(): c for c in fills.names().values()}


def parse(given: list[tuple[str, str, str]], chosen: Mapping[str, Callable]) -> dict[str, dict[str, Any]]:
    """Values of options by routine, checked against the signatures of the chosen methods (and metrics)."""
    values: dict[str, dict[str, Any]] = {name: {} for name in chosen}
    for name, option, text in given:
        refuse_unasked("method", name, option, chosen, {**methods(), **judges()})
        known(f"option of {name}", option, schema(chosen[name]))
        flag, taken = f"--{name}.{option}", kinds(chosen[name], option)
        named = option == "segments" and not text.endswith(".npy") and text.lower() != "none"
        values[name][option] = segments.named(flag, text) if named else value(flag, text, taken)
    return values


def refuse_unasked(kind: str, name: str, option: str, chosen: Mapping[str, Callable], every: Mapping[str, Callable]) -> None:
    """`UserError` for an option of what is not among the chosen: unknown, or known and not asked for."""
    if name not in chosen:
        known(kind, name, {**every, **chosen})
        raise UserError(f"--{name}.{option}: {name} is not asked for, only {', '.join(chosen)}")


def share_score(score: str | None, values: dict[str, dict[str, Any]], chosen: Mapping[str, Callable] | None = None) -> None:
    """Gives the score that `--score` names to the options of every method that has one and was given none of its own."""
    for name, own in values.items():
        if score is not None and "score" in schema((chosen or methods())[name]):
            own.setdefault("score", score)


def kinds(method: Callable, option: str) -> tuple[Any, ...]:
    """The types that an option takes, unions and aliases laid flat; from its default where it has no annotation."""
    hints = _hints(method)
    default = schema(method)[option].default
    found = list(_flat(hints[option])) if option in hints else []
    if default is not inspect.Parameter.empty:
        found += list(_flat(type(default)))
    return tuple(dict.fromkeys(found))


def value(flag: str, text: str, kinds: tuple[Any, ...]) -> Any:
    """The value that a text stands for: None, a literal number or tuple, a fill, an array file, a method, or a name."""
    if type(None) in kinds and text.lower() == "none":
        return None
    if bool in kinds and text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        literal = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        literal = math.inf if text.lower() == "inf" else None
    accepted = {int: (int, float), float: (float,), tuple: (tuple,), dict: (dict,)}.get(type(literal), ())
    if any(kind in kinds for kind in accepted):
        return literal
    if Array in kinds and text.endswith(".npy"):
        return _array(flag, text)
    name, _, numbers = text.partition(":")
    if Fill in kinds and name.lower() in fill_names():
        return _fill(flag, fill_names()[name.lower()], numbers)
    if Generator in kinds:
        from jxai.cli import inputs

        return inputs.generator(text)
    if Callable in kinds and text in methods():
        return methods()[text]
    if str in kinds:
        return text
    raise UserError(f"{flag} {text!r} must be {describe(kinds)}")


def describe(kinds: tuple[Any, ...]) -> str:
    """What an option takes, in words."""
    words = {bool: "true or false", int: "an integer", float: "a number", tuple: "numbers as 3,4", dict: "a dict", str: "a name", Array: "an .npy file"}
    shown = [text for kind, text in words.items() if kind in kinds and not (kind is int and float in kinds)]
    if Fill in kinds:
        shown.append(f"a fill ({', '.join(fill_names())}; arguments as in blur:10)")
    if Callable in kinds:
        shown.append("a method's name")
    if Generator in kinds:
        shown.append("a generator's name, or package.module:factory")
    if type(None) in kinds:
        shown.append("none")
    return " or ".join(shown) or "given in Python"


def show(value: Any) -> str:
    """A default as it would be typed."""
    if value is inspect.Parameter.empty:
        return "required"
    if inspect.isfunction(value):
        return value.__name__
    if dataclasses.is_dataclass(value):
        arguments = ",".join(str(v) for field in dataclasses.fields(value) if (v := getattr(value, field.name)) is not None)
        return type(value).__name__.lower() + (f":{arguments}" if arguments else "")
    if isinstance(value, tuple):
        return ",".join(map(str, value)) + ("," if len(value) == 1 else "")
    return "none" if value is None else str(value)


@functools.cache
def _hints(method: Callable) -> Mapping[str, Any]:
    return typing.get_type_hints(method)


def _flat(hint: Any):
    """The members of unions; a generic alias counts as its origin (`tuple[int, …]` as `tuple`)."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        for member in typing.get_args(hint):
            yield from _flat(member)
    elif typing.get_origin(hint) is typing.Literal:
        yield from map(type, typing.get_args(hint))
    else:
        origin = typing.get_origin(hint) or hint
        yield Callable if origin in (typing.get_origin(Callable[..., Any]), Method, types.FunctionType) else origin


def _array(flag: str, path: str) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{flag}: cannot read {path}: {first_line(error)}") from error


def _fill(flag: str, fill: type, numbers: str) -> Fill:
    try:
        arguments = [ast.literal_eval(part) for part in numbers.split(",")] if numbers else []
        return fill(*arguments)
    except (TypeError, ValueError, SyntaxError) as error:
        names = ", ".join(field.name for field in dataclasses.fields(fill)) or "no arguments"
        raise UserError(f"{flag}: {fill.__name__.lower()}:{numbers} must give numbers for {names}") from error
