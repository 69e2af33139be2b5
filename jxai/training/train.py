"""One small training loop: any pytree of weights, any loss, one or several seeds or alternating parts, resumed bit for bit after it was killed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jxai.data import Source
from jxai.scores import need_key, positive
from jxai.training.loop import Loop, Progress, Trained
from jxai.training.updates import Loss, Part, batches, formed
from jxai.typing import Array

__all__ = ["Part", "Progress", "Trained", "train", "train_seeds"]

Data = Array | tuple[Array, Array | None] | Source
"""Examples `[n, …]` (floating point, or uint8 pixels, which become x / 255), those with labels `[n]`, or a source, which is read as a whole."""
_ADAM = optax.adam(1e-3)
"""The same object in every call, so that another training of the same loss compiles nothing anew."""


def train(
    model: Any,
    loss: Loss | Sequence[Part],
    data: Data,
    *,
    key: Array,
    steps: int | None = None,
    epochs: int | None = None,
    optimizer: optax.GradientTransformation | None = None,
    batch_size: int = 128,
    validation: Data | None = None,
    patience: int | None = None,
    checkpoint: str | os.PathLike | None = None,
    every: int | None = None,
    block: int = 10,
    on_progress: Callable[[Progress], None] | None = None,
) -> Trained:
    """Minimises a loss over batches of the data, each epoch in another random order.

    Args:
      model: a pytree with floating-point weights. Of an `nnx.Module` the `Param`s are trained; of others all floating-point arrays. What else a call
        changes in it (batch statistics, random states) is not kept: with batch normalisation take `models.batch_norm.in_batches(model)` in the loss and
        `settled` afterwards.
      loss: `(model, x, y, key) -> (scalar, {name: scalar})` of a batch; or `Part`s, which alternate.
      data: what is trained on. key: for orders and noise.
      steps, epochs: how long, one of the two; the last incomplete batch of an epoch is left out.
      optimizer: an optax transformation, `optax.adam(1e-3)` by default; parts have their own. The same object (and the same function as loss) in
        another call compiles nothing anew.
      batch_size: at most n. validation: data on which the (first part's) loss is taken every so often, with the same noise each time.
      patience: ends the training after so many of these without a new least one.
      checkpoint: a folder, from which a killed training goes on as if nothing had happened. every: steps from one checkpoint and validation to the next;
        by default a tenth of all.
      block: steps between two looks at what came out. on_progress: called after each.

    Raises:
      ValueError: bad data or options; a loss that returns something else; a checkpoint of another model, key, batch size or data.

    Cost: beside the loss and its gradient, about half a millisecond for each update of a small model on a CPU.
    """
    parts, (x, y), total, every = _checked(loss, data, need_key(key, "train"), steps, epochs, optimizer, batch_size, validation, patience, every, block)
    form, weights, fixed = formed(model, parts)
    for part in parts:
        if callable(check := getattr(getattr(part.loss, "func", part.loss), "check", None)):
            check(model, x, y)
    validation = None if validation is None else _arrays(validation, "validation")
    loop = Loop(parts, form, fixed, x, y, key, total, every, batch_size, block, False, patience, validation)
    return loop.run(weights, checkpoint, on_progress)[0]


def train_seeds(make: Callable[[Array], Any], loss: Loss | Sequence[Part], data: Data, *, keys: Array, **options: Any) -> list[Trained]:
    """Trains several models at once, as `[train(make(k), loss, data, key=k, **options) for k in keys]` does one after the other, up to rounding.

    Args:
      make: `key -> model`. keys: `[S]` PRNG keys. loss, data, options: of `train`.
    """
    named = {"steps": None, "epochs": None, "optimizer": None, "batch_size": 128, "validation": None, "patience": None, "every": None, "block": 10}
    checkpoint, on_progress = options.pop("checkpoint", None), options.pop("on_progress", None)
    if unknown := options.keys() - named:
        raise ValueError(f"unknown options {', '.join(sorted(unknown))}; train takes {', '.join(named)}, checkpoint, on_progress")
    if getattr(keys, "ndim", None) != 1 or not len(keys):
        raise ValueError(f"keys must be [S] PRNG keys, as jax.random.split(key, S) gives them, got {keys!r}")
    named |= options
    parts, (x, y), total, every = _checked(loss, data, keys, *named.values())
    models = [formed(make(key), parts) for key in keys]
    form = models[0][0]
    if any(other != form for other, _, _ in models):
        raise ValueError("make(key) must give models of one structure for all keys")
    weights, fixed = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[(weights, fixed) for _, weights, fixed in models])
    validation = None if named["validation"] is None else _arrays(named["validation"], "validation")
    loop = Loop(parts, form, fixed, x, y, keys, total, every, named["batch_size"], named["block"], True, named["patience"], validation)
    return loop.run(weights, checkpoint, on_progress)


def _checked(loss, data, key, steps, epochs, optimizer, batch_size, validation, patience, every, block):
    """The parts, the data, the number of steps and those between checkpoints."""
    several = isinstance(loss, Sequence)
    parts = tuple(loss) if several else (Part(loss, _ADAM if optimizer is None else optimizer),)
    if not parts or not all(isinstance(part, Part) for part in parts):
        raise ValueError(f"loss must be a function (model, x, y, key) -> (scalar, dict) or Parts, got {loss!r}")
    if several and optimizer is not None:
        raise ValueError("optimizer says nothing about parts, which have their own")
    if len({part.name for part in parts}) < len(parts):
        raise ValueError(f"parts must have different names, got {[part.name for part in parts]}")
    for n, part in enumerate(parts):
        positive(**{f"parts[{n}].steps": part.steps})
        if part.again and part.steps > batches(parts[:n]):
            raise ValueError(f"parts[{n}] sees {part.steps} batches again, but the parts before it take {batches(parts[:n])}")
        if not callable(part.loss):
            raise ValueError(f"loss={part.loss!r} must be a function (model, x, y, key) -> (scalar, dict)")
        if not isinstance(part.optimizer, optax.GradientTransformation):
            raise ValueError(f"optimizer={part.optimizer!r} must be an optax transformation such as optax.adam(1e-3)")
    x, y = _arrays(data, "data")
    positive(batch_size=batch_size, block=block)
    need = batch_size * batches(parts)
    if need > len(x):
        raise ValueError(f"{batch_size=} times {need // batch_size} batches in a step is more than the {len(x)} examples of data")
    if (steps is None) == (epochs is None):
        raise ValueError(f"{steps=} or {epochs=}: give one of the two")
    positive(**({"epochs": epochs} if steps is None else {"steps": steps}))
    if patience is not None:
        positive(patience=patience)
        if validation is None:
            raise ValueError(f"{patience=} needs validation data")
    total = epochs * (len(x) // need) if steps is None else steps
    every = max(1, total // 10) if every is None else every
    positive(every=every)
    return parts, (x, y), total, every


def _arrays(data: Data, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """The data as arrays."""
    if hasattr(data, "__getitem__") and not isinstance(data, (tuple, list)) and not hasattr(data, "dtype"):
        examples = [data[i] for i in range(len(data))]
        data = np.stack([example.pixels for example in examples]), np.asarray([example.label for example in examples], np.int32)
    pair = data if isinstance(data, (tuple, list)) else (data, None)
    if len(pair) != 2:
        raise ValueError(f"{name} must be examples, (examples, labels) or a source, got {len(pair)} arrays")
    x, y = np.asarray(pair[0]), None if pair[1] is None else np.asarray(pair[1])
    if x.ndim < 1 or not len(x) or not (x.dtype == np.uint8 or np.issubdtype(x.dtype, np.floating)):
        raise ValueError(f"{name} must be floating-point or uint8 examples [n, …] with n >= 1, got {x.dtype} of shape {x.shape}")
    if x.dtype != np.uint8 and not np.isfinite(x).all():
        raise ValueError(f"{name} must be finite")
    if y is not None and y.shape[:1] != x.shape[:1]:
        raise ValueError(f"{name} has {len(x)} examples and labels of shape {y.shape}")
    return x, y
