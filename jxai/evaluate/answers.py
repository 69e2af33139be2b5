"""What a classifier says of many examples, as arrays on the host."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np

from jxai.batching import each
from jxai.scores import confidences


def logits(f: Callable, x: np.ndarray, batch_size: int = 64) -> np.ndarray:
    """`[n, K]`: the logits of examples `[n, *shape]`."""
    return np.asarray(each(_logits, f, x, batch_size=min(batch_size, len(x))))


def predicted(f: Callable, x: np.ndarray, batch_size: int = 64) -> np.ndarray:
    """`[n]`: the likeliest classes."""
    return logits(f, x, batch_size).argmax(1)


def probabilities(f: Callable, x: np.ndarray, batch_size: int = 64) -> np.ndarray:
    """`[n, K]`: the probabilities (of one logit the sigmoid), float32."""
    return np.asarray(each(_confidences, f, x, batch_size=min(batch_size, len(x))))


def _logits(f: Callable, x: jax.Array) -> jax.Array:
    return f(x)


def _confidences(f: Callable, x: jax.Array) -> jax.Array:
    return confidences(f(x))
