"""What kind of model an object is, told by its classes' modules, so that no framework is imported to find out."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

from jxai.typing import PyTree

EVALUATION = {
    "deterministic": True,
    "inference": True,
    "is_training": False,
    "train": False,
    "training": False,
    "use_running_average": True,
}
"""How a model is told by an argument of its call that it is evaluated."""

KINDS = {
    ("flax.nnx", "Module"): "nnx",
    ("flax.linen", "Module"): "linen",
    ("equinox", "Module"): "equinox",
    ("haiku", "Transformed"): "haiku",
    ("haiku", "TransformedWithState"): "haiku",
    ("keras", "Layer"): "keras",
    ("torch.nn", "Module"): "torch",
}
"""The module of `jxai.adapters` that makes a native model of an object, by where a class of it lies and its name."""

NAMES = "an nnx or linen module, an Equinox or PyTorch module, a Haiku function, a Keras model, or any function"


class Native(NamedTuple):
    """A model as its framework has it, as a pytree callable."""

    call: Any
    """`x -> out`; of several inputs `(*inputs)` or `(**inputs)`."""
    batched: bool | None = None
    """Whether it wants a batch; None where either may be."""
    channels: str | None = "last"
    """Where an image's channels are; None where either may be."""
    hint: str = ""
    """What to say to `adapt` where a call fails."""
    reference: Any = None
    """The same as its framework computes it, of concrete arrays, where `call` is a translation: an example shows whether the two agree."""


@dataclasses.dataclass(frozen=True)
class Call:
    """What goes to a model beside its inputs: `arguments` by name, random keys, collections that change."""

    arguments: Mapping[str, Any] | None = None
    rngs: PyTree = None
    mutable: tuple[str, ...] | None = None

    def options(self, signature: inspect.Signature | None) -> dict[str, Any]:
        """The arguments, with those that say "evaluation" where the signature has them and nobody said otherwise."""
        told = {name: EVALUATION[name] for name in (signature.parameters if signature else ()) if name in EVALUATION}
        return {**told, **(self.arguments or {})}

    def refuse(self, kind: str, *names: str) -> None:
        """Raises ValueError where an argument is given that this kind of model has no use for."""
        for name in names:
            if getattr(self, name) is not None:
                raise ValueError(f"{name}={' '.join(repr(getattr(self, name)).split())} is nothing that {kind} takes")


def framework(model: Any) -> str | None:
    """The kind of a framework's object, None of any other: a value of `KINDS`."""
    for cls in type(model).__mro__:
        for (package, name), kind in KINDS.items():
            if cls.__name__ == name and (cls.__module__ + ".").startswith(package + "."):
                return kind
    return None


def recognised(model: Any, weights: tuple[PyTree, ...], call: Call) -> Native:
    """The native model of an object and its weights.

    Raises:
      ValueError: the object is of no kind that is known, or lacks what its kind needs.
    """
    kind = framework(model)
    if kind is not None:
        return importlib.import_module(f"jxai.adapters.{kind}").native(model, weights, call)
    if isinstance(model, type):
        raise ValueError(f"model={model.__name__} is a class, no model: make one, {model.__name__}(…)")
    if callable(model):
        return importlib.import_module("jxai.adapters.functions").native(model, weights, call)
    place = f"{type(model).__module__}.{type(model).__qualname__}"
    hint = "; of a train state hand on the module and the variables: adapt(module, {'params': state.params})" if hasattr(model, "apply_fn") else ""
    if place.startswith("onnx."):
        hint = "; no importer of ONNX is reliable: adapt the model that was exported, or take its answers by jax.pure_callback for black-box methods"
    raise ValueError(f"model={model!r:.80} is a {place}, which no adapter knows: it must be {NAMES}{hint}")


def signature(fn: Any) -> inspect.Signature | None:
    """A callable's signature, or None where it has none that can be read."""
    try:
        return inspect.signature(fn)
    except (TypeError, ValueError):
        return None


def exactly(weights: tuple[PyTree, ...], what: str, *counts: int) -> None:
    """Raises ValueError unless as many weights are given."""
    if len(weights) not in counts:
        raise ValueError(f"{what}, got {len(weights)} beside the model")
