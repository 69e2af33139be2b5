"""The programs of an explanation: each is traced once for all images of a shape, compiled once where it is first called, and timed."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jxai.attribution import xrai
from jxai.callables import partition
from jxai.certificates import weights_digest
from jxai.cli import cache, inputs, options, programs
from jxai.cli.errors import UserError, first_line, told
from jxai.removal.masks import dense
from jxai.removal.segments import XRAI, Segmentation
from jxai.typing import Array, Model

_BLIND = (xrai,)
"""Methods whose maps do not change, to the bit, with labels that no position has: a power of two of them lets images of one shape share programs."""


class Prepared(NamedTuple):
    """A program traced on an image's shapes, what tells it from others, and the arrays that it is called with."""

    traced: Any
    signature: Any
    arguments: tuple

    def of(self, targets: list[int]) -> Prepared:
        """The same method's program for other classes, as many."""
        arrays, x, _, seed = self.arguments
        return self._replace(arguments=(arrays, x, np.asarray(targets, np.int32), seed))


class Made(NamedTuple):
    """What a program computed, the seconds that it ran, and those that it was compiled; None where an earlier one served."""

    value: Any
    ran: float
    compiled: float | None


class Calls:
    """The programs of one command.

    Args:
      subject: the model. values: by method, the options that were given. seed: of the random numbers. runs: how many images there are, for which a
        program is worth to be optimised.
    """

    def __init__(self, subject: inputs.Subject, values: Mapping[str, dict[str, Any]], seed: int, runs: int):
        self.subject, self.values, self.seed, self.runs = subject, values, seed, runs
        self._traced: dict[Any, Any] = {}
        self._compiled: dict[Any, Callable] = {}
        self._weights: dict[tuple[int, ...], str | None] = {}

    def prediction(self, x: np.ndarray) -> Prepared:
        """The model's logits of x."""
        program, arguments = inputs.prediction(self.subject, x)
        signature = ("", x.shape)
        return Prepared(self._traced.setdefault(signature, program), signature, arguments)

    def method(self, name: str, x: np.ndarray, targets: list[int] | None) -> Prepared:
        """The method's maps of x, so that whatever is wrong with its options is said before any work.

        Where no targets are given, the program returns the logits, too, and the map of the top-1: the network is in it once.
        """
        method, seed = options.methods()[name], np.uint32(self.seed)
        arrays, static = partition((self.subject.model, _complete(method, x, self.values.get(name, {}))))

        def run(arrays, x, targets, seed):
            f, values = static.combine(arrays)
            return for_targets(method, f, x, targets, jax.random.key(seed), **values)

        def predict_and_run(arrays, x, seed):
            logits = static.combine(arrays)[0](x)
            return logits, run(arrays, x, logits.argmax()[None], seed)

        function, arguments = (predict_and_run, (arrays, x, seed)) if targets is None else (run, (arrays, x, np.asarray(targets, np.int32), seed))
        signature = (name, static, tuple((a.shape, str(a.dtype)) for a in jax.tree.leaves(arguments)))
        with told(f"{name}: ", TypeError):
            if signature not in self._traced:
                self._traced[signature] = jax.jit(function).trace(*arguments)
        return Prepared(self._traced[signature], signature, arguments)

    def weights(self, shape: tuple[int, ...]) -> str | None:
        """A digest of the model's weights, those that it has closed over included, at an x of this shape."""
        if shape not in self._weights:
            self._weights[shape] = weights_digest(self.subject.model, shape)
        return self._weights[shape]

    def is_new(self, prepared: Prepared) -> bool:
        """Whether no equal program has been compiled by this command."""
        return prepared.signature not in self._compiled

    def noted(self, prepared: Prepared) -> float | None:
        """The seconds that a program took to compile in an earlier command that kept it; None where none did."""
        return cache.noted(self._identity(prepared.traced))

    def call(self, prepared: Prepared) -> Made:
        """Compiles a program where no equal one was, for as many runs as there are images, and runs it."""
        traced, signature, arguments = prepared
        start, fresh = time.perf_counter(), self.is_new(prepared)
        if fresh:
            self._compiled[signature] = programs.compiled(traced, self.runs)
        middle = time.perf_counter()
        if fresh:
            cache.note(self._identity(traced), middle - start)
        value = jax.tree.map(np.asarray, self._compiled[signature](*arguments))
        return Made(value, time.perf_counter() - middle, middle - start if fresh else None)

    def _identity(self, traced: Any) -> str:
        return cache.identity(traced, "whole" if programs.is_worth(traced, self.runs) else "quick")


def for_targets(method: Callable, f: Model, x: Array, targets: Array, key: Array, **options: Any) -> Array:
    """The attributions of all targets `[T, …]`; black-box methods share their forward passes."""
    return jax.vmap(lambda target: method(f, x, target, key, **options))(targets)


def _complete(method: Callable, x: np.ndarray, values: dict[str, Any]) -> dict[str, Any]:
    """The given options, with what depends on the image: segments, and the arrays that a method cannot do without."""
    values = dict(values)
    for option, parameter in options.schema(method).items():
        if parameter.default is inspect.Parameter.empty and option not in values:
            values[option] = _required(method.__name__, option, x)
    if isinstance(values.get("segments"), Segmentation):
        try:
            values["segments"] = values["segments"](x)
        except ValueError as error:
            raise UserError(f"{method.__name__}: {first_line(error)}") from error
    if values.get("segments") is not None and values.get("num_segments") is None:
        labels = np.asarray(values["segments"])
        if np.issubdtype(labels.dtype, np.integer) and labels.min() >= 0:
            labels, count = dense(labels, x.ndim - 1 if x.ndim > 1 else 1)
            values["num_segments"] = 1 << (count - 1).bit_length() if method in _BLIND else count
        values["segments"] = labels
    return values


def _required(method: str, option: str, x: np.ndarray) -> Any:
    if option == "segments":
        return Segmentation("felzenszwalb", XRAI)
    if option == "baselines":
        return np.stack([np.full_like(x, level) for level in (0.0, 0.25, 0.5, 0.75, 1.0)])
    raise UserError(f"{method} needs --{method}.{option}")
