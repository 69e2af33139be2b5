"""What all checks share: one compiled program for many clauses, sentences for what is broken, and what a docstring must state."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from jxai.metrics import documented
from jxai.typing import PyTree

Options = dict[str, Any] | Callable[[tuple[int, ...]], dict[str, Any]] | None
"""The options that a routine is tried with; a function of the shape of x where they depend on it."""


_COMPILED = [0]


def compilations() -> int:
    """How many programs this process has compiled, since the first call of this."""
    _listening()
    return _COMPILED[0]


@functools.cache
def _listening() -> None:
    def heard(event: str, seconds: float, **_: Any) -> None:
        _COMPILED[0] += event == "/jax/core/compile/backend_compile_duration"

    jax.monitoring.register_event_duration_secs_listener(heard)


class Program:
    """A function that is compiled once for each shapes, and that counts how often it was; it returns NumPy arrays, which compile nothing."""

    def __init__(self, name: str, fn: Callable) -> None:
        self.name, self.traces = name, 0

        def counted(*arguments: Any) -> PyTree:
            self.traces += 1
            return fn(*arguments)

        self._jitted = jax.jit(counted)

    def __call__(self, *arguments: Any) -> PyTree:
        try:
            return jax.tree.map(np.asarray, self._jitted(*arguments))
        except Exception as error:
            shapes = ", ".join(str(np.shape(a)) for a in arguments if isinstance(a, (jax.Array, np.ndarray)) and np.ndim(a))
            raise AssertionError(f"{self.name} fails under jit for arrays of shape {shapes}: {type(error).__name__}: {error}") from error


class Counter:
    """A model that counts its forward passes, those of every lane of a `vmap` as well."""

    def __init__(self) -> None:
        self.passes = 0

    def around(self, f: Callable) -> jax.tree_util.Partial:
        return jax.tree_util.Partial(self._call, f)

    def _call(self, f: Callable, x: jax.Array) -> jax.Array:
        jax.debug.callback(self._one, x.ravel()[0])
        return f(x)

    def _one(self, _: Any) -> None:
        self.passes += 1

    def of(self, program: Callable, *arguments: Any) -> int:
        """The passes of one call."""
        before = self.passes
        jax.block_until_ready(program(*arguments))
        jax.effects_barrier()
        return self.passes - before


class Trial:
    """A routine with the options that it is tried with, and its main program, which most clauses call."""

    def __init__(self, fn: Callable, options: Options, shape: tuple[int, ...]) -> None:
        self.fn, self.name, self.shape = fn, fn.__name__, shape
        self.options = dict(options(shape) if callable(options) else options or {})
        self.parameters = inspect.signature(fn).parameters

    def bound(self, **changes: Any) -> Callable:
        """The routine with its options, `changes` among them, as a function of its positional arguments."""
        given = {**self.options, **changes}
        return lambda *arguments: self.fn(*arguments, **given)

    @functools.cached_property
    def main(self) -> Program:
        return self.program(self.bound())

    def program(self, fn: Callable) -> Program:
        """Another program, for what the main one cannot show."""
        return Program(self.name, fn)

    def require(self, truth: Any, sentence: str) -> None:
        """Raises AssertionError with the sentence, the routine's name before it, unless it is true."""
        if not truth:
            raise AssertionError(f"{self.name} {sentence}")

    def plainly(self, *arguments: Any) -> PyTree:
        """What it returns when it is called eagerly, for the second time, which compiles nothing.

        Raises:
          AssertionError: it does.
        """
        call = self.bound()
        call(*arguments)
        before = compilations()
        result = call(*arguments)
        self.require(compilations() == before, f"compiles {compilations() - before} programs when it is called eagerly again with arrays of equal shapes")
        return result

    def refusal(self, *arguments: Any, **changes: Any) -> Exception | None:
        """What the routine raises with these arguments, arrays traced; only traced, so that nothing is compiled."""
        leaves, treedef = jax.tree.flatten(arguments)
        traced = [n for n, leaf in enumerate(leaves) if isinstance(leaf, (jax.Array, np.ndarray))]

        def call(values: list[jax.Array]) -> PyTree:
            filled = list(leaves)
            for n, value in zip(traced, values):
                filled[n] = value
            return self.bound(**changes)(*treedef.unflatten(filled))

        try:
            jax.eval_shape(call, [leaves[n] for n in traced])
        except Exception as error:
            return error
        return None

    def refuses(self, what: str, pattern: str, *arguments: Any, **changes: Any) -> str:
        """Requires a ValueError of one line that matches the pattern; returns the line. `what` completes "takes …"."""
        error = self.refusal(*arguments, **changes)
        self.require(error is not None, f"takes {what} without a word: it must raise a ValueError that names it")
        said = f"{type(error).__name__}: {error}"
        self.require(isinstance(error, ValueError), f"must raise a ValueError for {what}, not {said.splitlines()[0]}")
        self.require("\n" not in said, f"must say in one line what is wrong with {what}, not in {len(said.splitlines())}")
        self.require(re.search(pattern, str(error)), f"must name what is wrong with {what} (as {pattern!r} finds it), but says {str(error)!r}")
        return str(error)

    def refuses_unknown_names(self, *arguments: Any) -> dict[str, list[str]]:
        """Requires of every option that is a choice by name an error that lists the values known; returns them."""
        known = {}
        for option, p in self.parameters.items():
            if isinstance(p.default, str):
                said = self.refuses(f"{option}='no such value'", rf"\b{option}='no such value'", *arguments, **{option: "no such value"})
                known[option] = re.findall(r"'([^']+)'", said.split("must be one of")[-1]) if "must be one of" in said else []
                self.require(p.default in known[option], f"must list the values of {option} that it knows ('must be one of …'), its default too, in {said!r}")
        return known

    def traces_every_name(self, known: dict[str, list[str]], *arguments: Any) -> None:
        """Requires of every value by name that it can be traced; or, where it does not fit x, an error that names the option."""
        for option, values in known.items():
            for value in values:
                error = self.refusal(*arguments, **{option: value})
                fits = error is None or (isinstance(error, ValueError) and option in str(error) and "\n" not in str(error))
                self.require(fits, f"lists {option}={value!r}, but raises {type(error).__name__} with it: {error}")

    def stays_compiled(self, before: int, what: str) -> None:
        """Requires that the main program was traced no more often than before."""
        self.require(self.main.traces == before, f"is compiled anew for {what}: what differs there must be traced, not static")


def hold(trials: Iterable[Any], table: Mapping[str, Callable], clauses: Collection[str] | None, again: Collection[str] = ()) -> None:
    """Holds the first trial to the clauses of a table, all of them by default, in their order; further ones to those that are asked `again`.

    Raises:
      ValueError: a clause is unknown. AssertionError: the sentence of the first that is broken.
    """
    if unknown := sorted(set(clauses or ()) - set(table)):
        raise ValueError(f"clauses={unknown[0]!r} must be among {', '.join(map(repr, table))}")
    for n, trial in enumerate(trials):
        for name, clause in table.items():
            if (clauses is None or name in clauses) and (n == 0 or name in again):
                clause(trial)


def close(a: Any, b: Any, tolerance: float) -> bool:
    """Whether two arrays agree, relative to the largest entry of the second."""
    a, b = (np.asarray(v, np.float64) for v in (a, b))
    return a.shape == b.shape and bool(np.abs(a - b).max(initial=0) <= tolerance * (np.abs(b).max(initial=0) + 1e-12))


def finite(value: Any) -> bool:
    """Whether all entries are; also of half precision, which NumPy does not know."""
    return bool(np.isfinite(np.asarray(value, np.float64)).all())


def check_signature(fn: Callable, positional: tuple[str, ...], optional: tuple[str, ...] = ("key",), given: Collection[str] = ()) -> None:
    """Requires these positional parameters in this order, None the default of the optional ones, and options that are keyword-only with defaults.

    `given`: options that need no default.
    """
    parameters = list(inspect.signature(fn).parameters.values())
    names = [p.name for p in parameters[: len(positional)]]
    if names != list(positional):
        raise AssertionError(f"{fn.__name__} takes ({', '.join(names)}, …) where the contract has ({', '.join(positional)}, *, options)")
    for p in parameters[: len(positional)]:
        if p.name in optional and p.default is not None:
            raise AssertionError(f"{fn.__name__} must have the default {p.name}=None")
    for p in parameters[len(positional) :]:
        if p.kind is not p.KEYWORD_ONLY:
            raise AssertionError(f"{fn.__name__} takes {p.name} by position: options are keyword-only, after a *")
        if p.default is p.empty and p.name not in given:
            raise AssertionError(f"{fn.__name__} has no default for {p.name}, and the check was given no {p.name} in options=")


def check_documentation(fn: Callable, lines: tuple[str, ...], family: bool = False) -> None:
    """Requires the sections Args, Returns and Raises, every parameter named under Args, and these lines (`Cost: …`).

    `family`: a docstring that refers to another routine's (as in `wachter`) may leave to it what they share.
    """
    doc = inspect.getdoc(fn) or ""
    refers = family and re.search(r"`\w+`", doc)
    for section in () if refers else ("Args", "Returns", "Raises"):
        if not re.search(rf"^\s*{section}:", doc, re.M):
            raise AssertionError(f"{fn.__name__} has no section {section}: in its docstring")
    arguments = "" if refers else doc.split("Args:")[1].split("Returns:")[0]
    for name in () if refers else inspect.signature(fn).parameters:
        if not re.search(rf"\b{name}\b", arguments):
            raise AssertionError(f"{fn.__name__} does not document {name} under Args:")
    for word in lines:
        try:
            documented.line(fn, word)
        except ValueError:
            raise AssertionError(f"{fn.__name__} has no line {word}: … in its docstring") from None
    if "Direction" in lines:
        try:
            documented.direction(fn)
        except ValueError as error:
            raise AssertionError(str(error)) from None


def stated_range(fn: Callable) -> tuple[float, float]:
    """The two numbers with which the line `Range:` begins, ±∞ where there are none or where it says more."""
    found = re.match(r"[\[({](−?[\d.]+|−∞), (−?[\d.]+|∞)[\])}](?! for)", documented.line(fn, "Range"))
    if found is None:
        return -np.inf, np.inf
    low, high = (float(end.replace("−", "-").replace("∞", "inf")) for end in found.groups())
    return low, high
