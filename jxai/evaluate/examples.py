"""The examples of a run: read, classified, and mapped over by this process's devices."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from jxai import batching
from jxai.callables import fresh
from jxai.certificates import weights_digest
from jxai.data import Batch, Source, load
from jxai.evaluate.store import Run
from jxai.identity import checks
from jxai.identity.programs import program
from jxai.identity.values import summed
from jxai.scores import check_values, confidences, logits_shape, positive
from jxai.typing import Model, PyTree


class Examples:
    """A model and the data set that a run takes it over.

    Args:
      f: the model. source: the data set. preprocess: uint8 pixels to x; None divides by 255.
      block, batch_size: as in `run`. devices: all of this process by default. scalar: whether f(x) is a number, not logits.

    Raises:
      ValueError: none of the first examples can be read, the model does not take them, the source's classes are not as many as the model's, or `block` or `batch_size` is below 1.
    """

    def __init__(
        self,
        f: Model,
        source: Source,
        preprocess: Callable | None = None,
        block: int | None = None,
        batch_size: int | None = None,
        devices: Sequence[jax.Device] | None = None,
        scalar: bool = False,
    ):
        self.f, self.source, self.preprocess, self.batch_size, self.scalar = f, source, preprocess, batch_size, scalar
        self.probe = first_readable(source, preprocess)
        try:
            out = check_values(f, self.probe.x[0], "logit" if scalar else "probability")
        except TypeError as error:  # of a product of other sizes, for one
            raise ValueError(f"the model fails on the examples of {source.name}, of shape {self.shape}: {str(error).strip().splitlines()[0]}") from error
        if scalar and getattr(out, "shape", None) != ():
            raise ValueError(f"target=None explains a number f(x), but f(x) has shape {getattr(out, 'shape', type(out).__name__)}")
        names = getattr(source, "class_names", None)
        k = self.classes
        if names is not None and k > 1 and len(names) != k:  # one logit is explained as it is, whatever it tells apart
            shown = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
            raise ValueError(
                f"the model has {k} logits, {getattr(source, 'name', 'the data set')} {len(names)} classes: {shown}; give class_names of the model's classes"
            )
        self.block = max(8, 4 * batching.default_batch_size(self.probe.x[0])) if block is None else block
        positive(block=self.block, batch_size=1 if batch_size is None else batch_size)
        devices = jax.local_devices() if devices is None else list(devices)
        self.devices, self.mesh = len(devices), batching.device_mesh(devices) if len(devices) > 1 else None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of x."""
        return self.probe.x.shape[1:]

    @property
    def classes(self) -> int:
        """K; 1 for a model of a number."""
        return 1 if self.scalar else logits_shape(jax.eval_shape(fresh(self.f), jax.ShapeDtypeStruct(self.shape, jnp.float32)))[0]

    def describe(self, places: Mapping[str, Any], model_name: str) -> dict[str, Any]:
        """What of a run's configuration is about the data and the model: content and computation, not names alone.

        Args:
          places: which examples (`growth.Places.first`). model_name: for the record.
        """
        data = {"name": self.source.name, "size": len(self.source), "x": list(self.shape), **places}
        if (names := getattr(self.source, "class_names", None)) is not None:
            data["class_names"] = list(map(str, names))
        x = jax.ShapeDtypeStruct(self.shape, jnp.float32)
        model = {**summed(self.f), "weights": weights_digest(self.f, self.shape), "program": program(fresh(self.f), x)[0]}
        return {"data": data, "preprocess": None if self.preprocess is None else summed(self.preprocess, 3), "model": {"name": model_name, **model}}

    def answers(self, chosen: np.ndarray, places: Sequence[int] | None = None) -> dict[str, Any]:
        """What comes out of the first, the middle and the last of the chosen examples, or of those at these places: entries of x, and of the probabilities."""
        places = sorted({int(chosen[n]) for n in (0, len(chosen) // 2, -1)}) if not places else places
        batch = load(self.source, places, None, self.preprocess, self.probe)
        p = self._outputs(batch)
        valid = batch.valid
        return {"index": batch.index[valid].tolist(), **checks.taken(x=batch.x[valid], f=p[valid])}

    def go_on(self, record: Run) -> None:
        """Takes the record's size of blocks, whatever was asked for, for its files are by that."""
        self.block = record.config["block"]

    def load(self, indices: np.ndarray) -> Batch:
        """These examples."""
        return load(self.source, indices, None, self.preprocess, self.probe)

    def predict(self, indices: np.ndarray) -> tuple[Batch, np.ndarray, np.ndarray]:
        """These examples, the classes that the model gives them, and their probabilities; of a model of a number 0, and the number."""
        batch = self.load(indices)
        probabilities = self._outputs(batch)
        return batch, probabilities.argmax(1).astype(np.int32), probabilities.max(1)

    def _outputs(self, batch: Batch) -> np.ndarray:
        """`[n, K]`: the probabilities; the number."""
        fn = _number if self.scalar else _probabilities
        return self.each(fn, fn, batch, {}, None, batch.x)

    def columns(self, batch: Batch, target: np.ndarray, predicted: np.ndarray, confidence: np.ndarray) -> dict[str, np.ndarray]:
        """The columns `PER_EXAMPLE` of a run's table."""
        errors = [batch.errors.get(int(i), "") for i in batch.index]
        for row in range(len(errors)):
            if not errors[row] and not np.isfinite(confidence[row]):
                errors[row] = "the model's logits are not finite"
            if not errors[row] and not 0 <= target[row] < self.classes:
                errors[row] = f"its label {target[row]} is no class in [0, {self.classes})"
        columns = dict(index=batch.index, label=batch.label, target=target, predicted=predicted, confidence=confidence)
        return columns | {"valid": np.asarray([not e for e in errors]), "name": np.asarray(batch.names), "error": np.asarray(errors)}

    def shown(self, target: np.ndarray) -> np.ndarray | None:
        """The classes, 0 in place of what is none; None for a model of a number."""
        return None if self.scalar else np.where((target >= 0) & (target < self.classes), target, 0).astype(np.int32)

    def each(
        self, fn: Callable, source: Callable, batch: Batch, own: Mapping[str, Any], key: jax.Array | None, *rows: np.ndarray | None, **options: Any
    ) -> PyTree:
        """`jxai.each`, always over as many examples: one program, whatever the block, so that results are equal to the bit.

        Args:
          fn: maps one example. source: the public function behind it. batch: which examples. own: options that differ by example.
          key, rows, options: as in `jxai.each`.
        """
        size = self.batch_size or batching.default_batch_size(batch.x[0], source, options.get("chunk"))
        width, count = size * self.devices, len(batch.index)
        *rows, index, own = jax.tree.map(functools.partial(batching.pad, multiple=width), (*rows, batch.index, dict(own)))
        parts = []
        for start in range(0, len(index), width):
            cut = functools.partial(jax.tree.map, lambda v, at=slice(start, start + width): v[at])
            options_ = {"index": cut(index), "per_example": cut(own), "batch_size": size}
            parts.append(batching.each(fn, self.f, *cut(rows), key=key, mesh=self.mesh, **options_, **options))
        return jax.tree.map(lambda *leaves: np.concatenate([np.asarray(leaf) for leaf in leaves])[:count], *parts)


def shown_as(x: np.ndarray) -> np.ndarray:
    """Examples as they are kept to be looked at: images and videos as uint8, 0 to 1 as 0 to 255 and other ranges from their least to their largest; else as they are.

    Args:
      x: `[n, H, W, C]`, `[n, T, H, W, C]`, or `[n, …]` of another rank.
    """
    if x.ndim < 4:
        return x
    x = np.nan_to_num(x)
    axes = tuple(range(1, x.ndim))
    low, high = x.min(axes, keepdims=True), x.max(axes, keepdims=True)
    within = (low >= 0) & (high <= 1)
    low, span = np.where(within, 0, low), np.where(within, 1, np.maximum(high - low, 1e-12))
    return np.rint(255 * (x - low) / span).astype(np.uint8)


def traced(fn: Callable, *args: Any, label: str = "") -> Any:
    """What `jax.eval_shape` says of `fn(*args)`, so that whatever is wrong is said before any work: a ValueError of one line, after the label."""
    return program_of(fn, *args, label=label)[1]


def program_of(fn: Callable, *args: Any, label: str = "") -> tuple[ClosedJaxpr, Any]:
    """The jaxpr of `fn(*args)`, and what it returns in shapes; errors as those of `traced`."""
    try:
        return jax.make_jaxpr(fn, return_shape=True)(*args)  # type: ignore[return-value]
    except (ValueError, TypeError, NotImplementedError) as error:
        raise ValueError(f"{label}{': ' if label else ''}{str(error).strip().splitlines()[0]}") from error


def _number(f, x):
    return f(x).astype(jnp.float32)[None]


def _probabilities(f, x):
    return confidences(f(x).astype(jnp.float32))


def first_readable(source: Source, preprocess: Callable | None, places: Sequence[int] | None = None) -> Batch:
    """The first of these places (of the first 100) whose example can be read; ValueError, of the first that cannot, where none can."""
    error: ValueError | None = None
    for index in range(min(len(source), 100)) if places is None else places:
        try:
            return load(source, [index], 1, preprocess)
        except ValueError as failure:
            error = error or failure
    raise error or ValueError(f"{source.name} has no examples")
