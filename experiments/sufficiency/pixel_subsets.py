"""Pixel subsets of many images: in what order pixels were removed, how sure the network was meanwhile, and what of it is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jxai import attribution, each
from jxai.evaluate.record import Record
from jxai.fills import remove
from jxai.sufficiency import batched_gradient_sis, random_subset, ranked_subset
from jxai.sufficiency.subset import last_crossing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


NETWORKS = ("cifar10_resnet20", "cifar10_resnet56")
THRESHOLDS = (0.9, 0.99)
SCORE = {"score": "probability"}
"""What is explained and searched, as the papers have it."""
SETTING = {**SCORE, "threshold": THRESHOLDS[0]}
Ranking = tuple[Callable, Mapping[str, Any]]
"""A method of attribution and its options."""


class Order(NamedTuple):
    """How the pixels of n images were removed, `per_step` at a step."""

    removed_at: np.ndarray
    """`[n, pixels]`: the step."""
    curve: np.ndarray
    """`[n, steps + 1]`: the probability before each step, and after the last."""
    per_step: int

    @property
    def pixels(self) -> int:
        return self.removed_at.shape[1]

    def left(self, step: np.ndarray) -> np.ndarray:
        """The share of the pixels that is left before a step."""
        return np.maximum(self.pixels - self.per_step * step, 0) / self.pixels

    def step_of(self, share: float) -> int:
        """The step before which the share that is left is nearest to this one."""
        return round((1 - share) * self.pixels / self.per_step)

    def sizes(self, threshold: float) -> np.ndarray:
        """`[n]`: the share of the pixels that suffices for a probability, by the last crossing; NaN where all of them do not."""
        last = np.asarray(jax.vmap(last_crossing, (0, None))(jnp.asarray(self.curve), threshold))
        return np.where(self.curve[:, 0] >= threshold, self.left(last), np.nan)

    def masks(self, step: int | np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """`[n, H, W, 1]`: 1 where a pixel is left before a step (the same for all images, or each its own)."""
        return (self.removed_at >= np.reshape(step, (-1, 1))).astype(np.float32).reshape(-1, *shape, 1)


def saliency(f: Callable, x: jax.Array, target: jax.Array, key: jax.Array | None = None) -> jax.Array:
    """The greatest magnitude of the gradient over the channels."""
    return jnp.abs(attribution.gradient(f, x, target)).max(-1, keepdims=True)


def rankings(passes: int, steps: int, side: int) -> dict[str, Ranking]:
    """Methods of attribution by name: black-box ones with about `passes` forward passes, averages of gradients with `steps` forward and backward ones."""
    grid = 8
    return {
        "gradient": (attribution.gradient, {}),
        "|gradient|": (saliency, {}),
        "input × gradient": (attribution.input_x_gradient, {}),
        "integrated gradients": (attribution.integrated_gradients, {"steps": steps, **SCORE}),
        "smoothgrad": (attribution.smoothgrad, {"num_samples": steps}),
        "guided backprop": (attribution.guided_backprop, {}),
        "grad-cam": (attribution.grad_cam, {}),
        "occlusion": (attribution.occlusion, {"window": max(1, side // 8), "stride": max(1, side // 16), **SCORE}),
        "rise": (attribution.rise, {"num_masks": passes, **SCORE}),
        "sobol": (attribution.sobol, {"grid": grid, "num_designs": max(2, passes // (grid**2 + 1))}),
        "kernel shap": (attribution.kernel_shap, {"num_samples": passes, "grid": grid}),
    }


def by_gradients(f: Callable, x: np.ndarray, label: np.ndarray, key: jax.Array, per_step: int, fill: jax.Array, batch_size: int = 32) -> Order:
    """By batched gradient backward selection."""
    return _order(each(batched_gradient_sis, f, x, label, key=key, per_step=per_step, fill=fill, batch_size=min(batch_size, len(x)), **SETTING), per_step)


def at_random(f: Callable, x: np.ndarray, label: np.ndarray, key: jax.Array, per_step: int, fill: jax.Array) -> Order:
    """The control: in random order."""
    return _order(each(random_subset, f, x, label, key=key, per_step=per_step, fill=fill, **SETTING), per_step)


def by_attribution(f: Callable, x: np.ndarray, label: np.ndarray, key: jax.Array, per_step: int, fill: jax.Array, ranking: Ranking) -> Order:
    """The pixels of least attribution first."""
    method, options = ranking
    maps = each(method, f, x, label, key=key, **options)
    return _order(each(ranked_subset, f, x, label, maps, key=key, per_step=per_step, fill=fill, **SETTING), per_step)


def _order(found: Any, per_step: int) -> Order:
    return Order(np.asarray(found.removed_at), np.asarray(found.curve), per_step)


def ordered(here: Record, name: str, make: Callable[[], Order]) -> Order:
    """An order, kept in the record."""
    found = here.kept(name, lambda: make()._asdict())
    here.tell(name)
    return Order(found["removed_at"], found["curve"], int(found["per_step"]))


def shown(x: np.ndarray, mask: np.ndarray, fill: jax.Array) -> np.ndarray:
    """Images with all but the mask replaced."""
    return np.asarray(remove(x, mask, np.asarray(fill, np.float32)))


def on_border(mask: np.ndarray, width: int) -> np.ndarray:
    """`[n]`: the share of the mask that lies within `width` pixels of the image's edge."""
    inner = np.zeros(mask.shape[1:3], bool)
    inner[width:-width, width:-width] = True
    return mask[:, ~inner].sum((1, 2)) / mask.sum((1, 2, 3))


def sheet(images: np.ndarray, names: list[str], columns: list[tuple[str, np.ndarray, np.ndarray]]) -> Figure:
    """A contact sheet: each image `[n, H, W, C]` above what is left of it; under each the probability of the predicted class, red below .5.

    Args:
      names: of the predicted classes. columns: what is shown, `(text, [n, H, W, C], probability [n])`.
    """
    rows = [("", images, None), *columns]
    n = len(images)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.15 * n, 1.35 * len(rows)), layout="constrained")
    for axis, (at, (text, pictures, p)) in zip(figure.subplots(len(rows), n, squeeze=False), enumerate(rows), strict=True):
        for i in range(n):
            axis[i].imshow(np.clip(pictures[i], 0, 1), interpolation="nearest")
            axis[i].set_xticks([])
            axis[i].set_yticks([])
            if at == 0:
                axis[i].set_title(names[i], fontsize=7)
            else:
                axis[i].set_xlabel(f"{p[i]:.2f}", fontsize=7, color="tab:red" if p[i] < 0.5 else "black", labelpad=1)
        axis[0].set_ylabel(text, fontsize=7)
    return figure
