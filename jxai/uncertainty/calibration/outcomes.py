"""What a calibration error is computed from: how confident a prediction was, `[n]`, and whether it came true, `[n]`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai.callables import is_array
from jxai.scores import check_labels, one_of, wide
from jxai.typing import Array
from jxai.uncertainty.checks import check_probabilities, same_length

KINDS = ("top_label", "classwise", "binary")


def events(probabilities: Array, labels: Array, kind: str) -> tuple[Array, Array]:
    """Confidences and outcomes `[m, n]`: of the predicted class (m = 1), of every class against the rest (m = K), or of class 1 of two (m = 1).

    Under a trace a label out of range has the outcome NaN.

    Raises:
      ValueError: an unknown kind, bad probabilities or labels, of one class, or `kind="binary"` of more than two.
    """
    one_of("kind", kind, KINDS)
    k = check_predictions(probabilities, labels)
    if kind == "binary" and k != 2:
        raise ValueError(f"kind='binary' needs probabilities [n, 2], class 1 the event, got {k} classes")
    p, outcome = wide(jnp.asarray(probabilities)), onehot(labels, k)
    if kind == "top_label":
        top = p.argmax(1)[:, None]
        return jnp.take_along_axis(p, top, 1).T, jnp.take_along_axis(outcome, top, 1).T
    return (p.T, outcome.T) if kind == "classwise" else (p[:, 1][None], outcome[:, 1][None])


def check_predictions(probabilities: Any, labels: Any) -> int:
    """K of probabilities `[n, K]`, K >= 2, that have labels `[n]`.

    Raises:
      ValueError: they are none, of one class, or of another length; labels that are no classes.
    """
    k = check_probabilities(probabilities)
    check_labels(labels, same_length(probabilities=probabilities, labels=labels), k)
    return k


def onehot(labels: Array, num_classes: int) -> Array:
    """`[n, K]`: 1 at the label; NaN for one that is no class."""
    labels = jnp.asarray(labels)
    inside = (labels >= 0) & (labels < num_classes)
    return jnp.where(inside[:, None], jax.nn.one_hot(labels, num_classes), jnp.nan)


def outcomes(confidence: Array, correct: Array) -> tuple[Array, Array]:
    """Confidences and outcomes `[n]` as given, checked.

    Raises:
      ValueError: other shapes or lengths; where they are concrete, NaN or numbers outside of [0, 1].
    """
    same_length(confidence=confidence, correct=correct)
    for name, value, kinds in (("confidence", confidence, (jnp.floating,)), ("correct", correct, (jnp.floating, jnp.integer, jnp.bool_))):
        dtype = value.dtype if is_array(value) else np.asarray(value).dtype
        if np.ndim(value) != 1 or not any(jnp.issubdtype(dtype, kind) for kind in kinds):
            what = "floating-point" if name == "confidence" else "boolean or numbers"
            raise ValueError(f"{name} must be {what} [n] in [0, 1], got {dtype} of shape {np.shape(value)}")
        if isinstance(value, jax.core.Tracer):
            continue
        seen = np.asarray(value, np.float64)
        if not ((seen >= 0) & (seen <= 1 + 1e-3)).all():
            raise ValueError(f"{name} must lie in [0, 1], but goes from {seen.min():.4g} to {seen.max():.4g}")
    confidence = wide(jnp.asarray(confidence))
    return confidence, jnp.asarray(correct).astype(confidence.dtype)
