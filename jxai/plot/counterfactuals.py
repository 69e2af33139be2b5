"""What was and what would have to be: counterfactuals beside their examples, with signed differences, and the way between them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from jxai.files import atomic
from jxai.plot.blending import colors, rgb
from jxai.plot.page import Page, bar_names

_BARS = 12


def counterfactuals(
    x: ArrayLike,
    found: Any,
    *,
    titles: Sequence[Sequence[str]] | None = None,
    originals: Sequence[str] | None = None,
    valid: ArrayLike | None = None,
    names: Sequence[str] | None = None,
) -> Figure:
    """Examples with their counterfactuals, a column for each target: the counterfactual, and below it its signed difference to the example.

    Args:
      x: examples, images `[n, H, W, C]` in [0, 1] or vectors `[n, D]`; or one of them, `[H, W, C]` or `[D]`.
      found: their counterfactuals `[n, m, *shape]`, of one example `[m, *shape]` or `[*shape]`; or a `Counterfactual` that holds these, and says which are valid.
      titles: n × m texts above them. originals: n texts above the examples.
      valid: `[n, m]` booleans; what did not reach its target is framed in red.
      names: of a vector's features.

    Raises:
      ValueError: shapes that do not belong together, or examples of another rank.
    """
    if hasattr(found, "valid") and valid is None:
        valid = found.valid
    x, found = np.asarray(x, np.float32), np.asarray(getattr(found, "x", found), np.float32)
    if x.ndim in (1, 3):
        x, found = x[None], found.reshape(1, -1, *x.shape) if found.shape[found.ndim - x.ndim :] == x.shape else found
    if found.ndim != x.ndim + 1 or found.shape[0] != x.shape[0] or found.shape[2:] != x.shape[1:]:
        raise ValueError(f"found must be [n, m, *shape] for x [n, *shape], got {found.shape} for {x.shape}")
    if x.ndim not in (2, 4):
        raise ValueError(f"x must be images [n, H, W, C] or vectors [n, D], got shape {x.shape}")
    reached = np.ones(found.shape[:2], bool) if valid is None else np.asarray(valid, bool).reshape(found.shape[:2])
    n, m = found.shape[:2]
    vectors = x.ndim == 2
    rows = n if vectors else 2 * n
    figure = Page(figsize=(1.6 * (m + 1) if not vectors else 2.6 * (m + 1), 1.75 * rows if not vectors else 2.6 * n), layout="constrained")
    axes = figure.subplots(rows, m + 1, squeeze=False)
    for i in range(n):
        change = (found[i] - x[i]).sum(-1)
        largest = np.abs(change).max() or 1.0  # one scale for all targets of an example
        for j in range(m + 1):
            title = (originals[i] if originals else "") if j == 0 else (titles[i][j - 1] if titles else "")
            if vectors:
                _vector(axes[i, j], x[i], None if j == 0 else found[i, j - 1], names, title)
                continue
            top, below = axes[2 * i, j], axes[2 * i + 1, j]
            top.imshow(rgb(x[i] if j == 0 else found[i, j - 1]), interpolation="nearest")
            top.set_title(title, fontsize=8)
            if j:
                _frame(top, reached[i, j - 1])
                below.imshow(colors(change[j - 1] / largest, True), interpolation="nearest")
            for axis in (top, below):
                axis.set_xticks([])
                axis.set_yticks([])
            below.set_frame_on(bool(j))
    return figure


def path(frames: ArrayLike, *, title: str = "", labels: Sequence[str] | None = None) -> Figure:
    """The way from an example to its counterfactual as a strip: images `[t, H, W, C]`, t >= 1, with a label below each."""
    frames = np.asarray(frames, np.float32)
    if frames.ndim != 4:
        raise ValueError(f"frames must be images [t, H, W, C], got shape {frames.shape}")
    figure = Page(figsize=(1.3 * len(frames), 1.7), layout="constrained")
    figure.suptitle(title, fontsize=9)
    for n, axis in enumerate(figure.subplots(1, len(frames), squeeze=False)[0]):
        axis.imshow(rgb(frames[n]), interpolation="nearest")
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_xlabel(labels[n] if labels else "", fontsize=7)
    return figure


def save_animation(frames: ArrayLike, target: str | Path, *, seconds: float = 2.0, scale: int = 6) -> None:
    """Writes images `[t, H, W, C]` as a GIF that goes there and back, atomically; a pixel becomes `scale` × `scale`. Needs pillow."""
    from PIL import Image

    pictures = [np.kron(np.uint8(np.rint(255 * rgb(frame)[..., :3])), np.ones((scale, scale, 1), np.uint8)) for frame in np.asarray(frames, np.float32)]
    images = [Image.fromarray(p) for p in (*pictures, *pictures[-2:0:-1])]
    pause = max(20, round(1000 * seconds / len(images)))
    with atomic(target) as part:
        images[0].save(part, format="GIF", save_all=True, append_images=images[1:], duration=pause, loop=0)


def _frame(axis, reached: bool) -> None:
    for spine in axis.spines.values():
        spine.set_color("0.3" if reached else "red")
        spine.set_linewidth(0.8 if reached else 2.5)


def _vector(axis, x: np.ndarray, found: np.ndarray | None, names: Sequence[str] | None, title: str) -> None:
    """An example's entries as bars, or of a counterfactual the entries that change most, from what they were."""
    values = x if found is None else found - x
    shown = np.sort(np.argsort(-np.abs(values), kind="stable")[:_BARS])
    axis.barh(np.arange(len(shown)), values[shown], color=["0.5" if found is None else ("tab:red" if v > 0 else "tab:blue") for v in values[shown]])
    bar_names(axis, shown, len(values), names)
    axis.set_title(title, fontsize=8)
