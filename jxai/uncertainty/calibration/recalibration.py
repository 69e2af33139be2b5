"""What recalibrates: a function of logits that were fitted, and of a model the model with better ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai.callables import Adapter, is_array, plainly
from jxai.scores import check_labels, wide
from jxai.typing import Array, Model
from jxai.uncertainty.checks import check_host, check_logits, same_length

__all__ = ["Recalibrated", "Recalibration"]


class Recalibration:
    """What is fitted by a `fit_…` of this room: logits in, logits out, whose softmax is the recalibrated probability. A subclass says in `_of` what happens to a row."""

    @property
    def num_classes(self) -> int | None:
        """K; None of what fits any number of classes."""
        return None

    def _of(self, logits: Array) -> Array:
        """Recalibrated logits `[…, K]`, float32 or wider."""
        raise NotImplementedError

    def __call__(self, logits: Array | Model) -> Any:
        """Recalibrated logits.

        Args:
          logits: `[K]` or `[n, K]`; or a model, of which it makes one with recalibrated logits, as `model(f)` does.

        Raises:
          ValueError: no logits, or of another number of classes than were fitted; where they are concrete, probabilities or NaN.
        """
        if callable(logits) and not is_array(logits):
            return self.model(logits)
        k = check_logits(logits, rank=min(2, max(1, jnp.ndim(logits))))
        if self.num_classes not in (None, k):
            raise ValueError(f"logits must be of {self.num_classes} classes, as those that were fitted, got {k}")
        return _plain(self._of, wide(jnp.asarray(logits)))

    def model(self, f: Model) -> Recalibrated:
        """The model `x -> self(f(x))`: a pytree callable, whose leaves are f's and what was fitted."""
        return Recalibrated(f, self)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Recalibrated(Adapter):
    """A model with recalibrated logits; made by the `model` of what was fitted.

    Attributes:
      f: the model. recalibration: what was fitted.
    """

    f: Any
    recalibration: Recalibration

    def __call__(self, x: Array) -> Array:
        return self.recalibration(self.f(x))


@plainly
def _plain(of: Callable[[Array], Array], logits: Array) -> Array:
    return of(logits)


def fitting(what: str, logits: Array, labels: Array, *, every_class: bool) -> tuple[np.ndarray, np.ndarray]:
    """Logits `[n, K]` and labels `[n]` to fit to, on the host in float64.

    Args:
      what: which fit it is, in the message. every_class: whether each class must have an example.

    Raises:
      ValueError: traced; no logits, probabilities, infinite; labels that are no classes; unequal lengths; a class without examples.
    """
    check_host(what, logits=logits, labels=labels)
    k = check_logits(logits, rank=2)
    check_labels(labels, same_length(logits=logits, labels=labels), k)
    z, y = np.asarray(logits, np.float64), np.asarray(labels)
    if not np.isfinite(z).all():
        raise ValueError("logits must be finite to be fitted to, but have −∞ among them: leave out the classes that are impossible")
    missing = np.flatnonzero(np.bincount(y, minlength=k) == 0)
    if every_class and missing.size:
        raise ValueError(
            f"every class must have an example to be recalibrated by {what}, but class {missing[0]} has none in labels: fit_temperature needs none"
        )
    return z, y


def log_probabilities(p: Array) -> Array:
    """`log p / Σp` of what is in [0, 1], `[…, K]`: of a row of zeros uniform, and of a zero among others the logarithm of the least normal number."""
    total = p.sum(-1, keepdims=True)
    p = jnp.where(total > 0, p / jnp.where(total > 0, total, 1), 1 / p.shape[-1])
    return jnp.log(jnp.maximum(p, jnp.finfo(p.dtype).tiny))
