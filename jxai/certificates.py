"""Certificates: what a claim rests on, checked anew by whoever doubts it, and kept in files.

A certificate is a frozen dataclass: arrays (and what holds arrays, as a region) are leaves, names and thresholds metadata, among them the
`Digests` of the example and the weights that the claim is about. Its `check(f, x) -> Verdict` computes again whatever the claim follows from
and trusts nothing that is stored but what the claim says. A family adds a class by defining it, and by its line in `CLASSES`.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jxai.callables import fresh, is_array, plainly
from jxai.files import save_arrays
from jxai.identity.programs import constants
from jxai.identity.values import digest
from jxai.typing import Array, Model

__all__ = ["CLASSES", "Certificate", "Digests", "Verdict", "digests", "judged", "load", "save", "verify", "weights_digest"]

CLASSES = {
    "RobustnessCertificate": "jxai.bounds.certify",
    "EvaCertificate": "jxai.attribution.verified",
    "MinimalExplanation": "jxai.sufficiency.minimal",
    "DisjointPair": "jxai.sufficiency.pairs",
    "OverlappingPair": "jxai.sufficiency.pairs",
    "SufficientSubset": "jxai.sufficiency.subset",
    "Ball": "jxai.bounds.region",
    "Box": "jxai.bounds.region",
    "Interval": "jxai.bounds.region",
    "Digests": "jxai.certificates",
}
"""By name, the module of every certificate, and of every dataclass or NamedTuple within one; imported when a file asks for it."""

_ENTRY = "certificate"


class Verdict(NamedTuple):
    """What a check found."""

    holds: bool
    """Whether every value is greater than its threshold."""
    values: Mapping[str, float]
    """What was computed, by name; `same_x` and `same_weights` are 1 or 0."""
    thresholds: Mapping[str, float]
    """What each value must exceed."""

    def _repr_html_(self) -> str:
        from jxai.views import html

        rows = {name: f"{html.value(value)}, must exceed {html.value(self.thresholds[name])}" for name, value in self.values.items()}
        return html.table("holds" if self.holds else "does not hold", rows)


DIGITS = 16
"""Of a digest that are kept."""


class Digests(NamedTuple):
    """What a claim is about: digests of the example and of the model's weights."""

    x: str
    weights: str


class Certificate(Protocol):
    """A claim with what it rests on."""

    digests: Digests | None
    """None where it was made under a trace: `dataclasses.replace(certificate, digests=digests(f, x))` then says what it is about."""

    def check(self, f: Model, x: Array) -> Verdict: ...


@plainly
def verify(f: Model, x: Array, certificate: Certificate) -> Verdict:
    """Checks a certificate's claim about this model at this example, by computing it again.

    Args:
      f: the model. x: the example. Others than those that the certificate is about fail, as does a claim that is false.

    Returns:
      A `Verdict`. A claim that is weaker than what was certified, and true, may hold.

    Raises:
      ValueError: no certificate, or one that f and x do not fit (another shape or number of classes).
    """
    if not callable(getattr(certificate, "check", None)):
        swapped = ": it comes last, verify(f, x, certificate)" if any(callable(getattr(v, "check", None)) for v in (f, x)) else ""
        raise ValueError(f"certificate must have check(f, x), got {type(certificate).__name__}{swapped}")
    return certificate.check(f, x)


def digests(f: Model, x: Array) -> Digests | None:
    """The digests of this example and these weights; None under a trace, where neither is known."""
    if any(isinstance(v, jax.core.Tracer) for v in (x, *jax.tree.leaves(f))):
        return None
    array = np.asarray(x)
    weights = weights_digest(f, array.shape)
    return None if weights is None else Digests(digest(array)[:DIGITS], weights)


def judged(f: Model, x: Array, about: Digests | None, values: Mapping[str, float], thresholds: Mapping[str, float]) -> Verdict:
    """The verdict of a check that has computed these values, with `same_x` and `same_weights` added: for use in `check`."""
    here = digests(f, x)
    same = {f"same_{name}": float(about is not None and here is not None and getattr(about, name) == getattr(here, name)) for name in Digests._fields}
    values, thresholds = {**same, **values}, {**dict.fromkeys(same, 0.0), **thresholds}
    return Verdict(all(values[name] > threshold for name, threshold in thresholds.items()), values, thresholds)


def weights_digest(f: Model, shape: Sequence[int]) -> str | None:
    """A digest of all arrays that `f` computes with at an x of that shape: its leaves, and what functions in it have closed over.

    None where one of them is traced.
    """
    closed = jax.make_jaxpr(fresh(f))(jax.ShapeDtypeStruct(tuple(shape), jnp.float32))
    arrays = [*(leaf for leaf in jax.tree.leaves(f) if is_array(leaf)), *constants(closed)]
    return None if any(isinstance(leaf, jax.core.Tracer) for leaf in arrays) else digest(*arrays)[:DIGITS]


def save(path: str | Path, certificate: Certificate) -> None:
    """Writes a certificate of any class as one `.npz` file, atomically.

    Raises:
      ValueError: no dataclass, a traced or a strange value within it, or a path that does not end in `.npz`.
    """
    write(path, certificate, "certificate")


def load(path: str | Path, *classes: type) -> Certificate:
    """Reads a certificate.

    Args:
      path: what `save` wrote. classes: dataclasses and NamedTuples of one's own that it may hold, beside those of `CLASSES`.

    Raises:
      ValueError: a file that is damaged, no certificate, or of an unknown class. OSError: it cannot be opened.
    """
    certificate = read(path, "certificate", CLASSES, *classes)
    if not callable(getattr(certificate, "check", None)):
        raise ValueError(f"{path} holds no certificate, but {type(certificate).__name__}")
    return certificate


def write(path: str | Path, value: Any, what: str) -> None:
    """Writes a dataclass of arrays, numbers, names and others like itself as one `.npz` file, atomically.

    Args:
      what: what it is called in messages.

    Raises:
      ValueError: as `save`.
    """
    if not isinstance(path, (str, os.PathLike)):
        swapped = f": the path comes first, save(path, {what})" if isinstance(value, (str, os.PathLike)) else ""
        raise ValueError(f"path must be a path, got {type(path).__name__}{swapped}")
    if not str(path).endswith(".npz"):
        raise ValueError(f"{path=} must end in .npz")
    arrays: dict[str, np.ndarray] = {}
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        raise ValueError(f"{what} must be a dataclass, got {type(value).__name__}")
    text = json.dumps(_encoded(value, "", arrays, what))
    save_arrays(path, **{_ENTRY: np.asarray(text)}, **arrays)


def read(path: str | Path, what: str, known: Mapping[str, str], *classes: type) -> Any:
    """What `write` wrote.

    Args:
      known: by name, the module of every class that it may be of. classes: others.

    Raises:
      ValueError: a file that is damaged, of something else, or of an unknown class. OSError: it cannot be opened.
    """
    own = {c.__name__: c for c in classes}
    with open(path, "rb") as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                arrays = dict(archive)
            described = json.loads(str(arrays.pop(_ENTRY)))
        except Exception as error:  # a damaged archive may raise anything
            raise ValueError(f"{path} is no {what}, or damaged ({type(error).__name__}: {error})") from None
    try:
        return _decoded(described, arrays, known, own)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({type(error).__name__}: {error})") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _encoded(value: Any, name: str, arrays: dict[str, np.ndarray], what: str) -> Any:
    """The value as JSON; its arrays go to `arrays`, by their place in it."""
    if isinstance(value, jax.core.Tracer):
        raise ValueError(f"{name or what} must be concrete, but is traced")
    if is_array(value):
        arrays[name] = np.asarray(value)
        return {"array": name}
    named = [f.name for f in dataclasses.fields(value)] if dataclasses.is_dataclass(value) else getattr(value, "_fields", None)
    if named is not None and not isinstance(value, type):
        fields = {field: _encoded(getattr(value, field), f"{name}.{field}".lstrip("."), arrays, what) for field in named}
        return {"class": type(value).__name__, "fields": fields}
    if isinstance(value, tuple):
        return {"tuple": [_encoded(v, f"{name}.{n}", arrays, what) for n, v in enumerate(value)]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"{name or what} must be an array, a number, a string, None, a tuple or a dataclass, got {type(value).__name__}")


def _decoded(value: Any, arrays: Mapping[str, np.ndarray], known: Mapping[str, str], own: Mapping[str, type]) -> Any:
    if not isinstance(value, dict):
        return value
    if "array" in value:
        stored = arrays[value["array"]]
        array = jnp.asarray(stored)
        if array.dtype != stored.dtype:
            raise ValueError(f"its {value['array']} is {stored.dtype}, which needs jax_enable_x64")
        return array
    if "tuple" in value:
        return tuple(_decoded(v, arrays, known, own) for v in value["tuple"])
    name = value["class"]
    if name not in own and name not in known:
        raise ValueError(f"class {name!r} must be one of {', '.join([*own, *known])}")
    kind = own[name] if name in own else getattr(importlib.import_module(known[name]), name)
    return kind(**{field: _decoded(v, arrays, known, own) for field, v in value["fields"].items()})
