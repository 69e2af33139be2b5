"""Series `[T, C]`: a row for each channel, its curve, and behind it the map."""

from __future__ import annotations

from typing import Any

import numpy as np

from jxai.files import printable
from jxai.plot.blending import blend

CHANNELS = 8
"""Rows that are drawn at most."""


def largest(maps: list[np.ndarray], length: int, channels: int) -> np.ndarray:
    """The channels that are drawn, in order: those whose largest entry is largest in any of the maps, each map on its own scale."""
    weight = np.zeros(channels)
    for a in maps:
        peaks = np.abs(np.broadcast_to(np.asarray(a, np.float32), (length, channels))).max(0)
        weight = np.maximum(weight, np.nan_to_num(peaks / (np.nanmax(peaks, initial=0) or 1), nan=np.inf))
    return np.sort(np.argsort(-weight, kind="stable")[:CHANNELS])


def draw(axes, x: np.ndarray | None, attribution: np.ndarray | None, shown: np.ndarray, names, options: dict[str, Any]) -> None:
    """The curves of the shown channels, each on its own scale, over the colours of the map; without x the map alone."""
    length, channels = np.shape(attribution if x is None else x)
    if attribution is not None:
        rows = np.broadcast_to(np.asarray(attribution, np.float32), (length, channels))[:, shown].T[..., None]
        axes.imshow(blend(None, rows, **options), extent=(-0.5, length - 0.5, len(shown), 0), aspect="auto", interpolation="nearest")
    for row, channel in enumerate(shown if x is not None else []):
        values = np.asarray(x[:, channel], np.float32)
        known = values[np.isfinite(values)]
        low, span = (known.min(), np.ptp(known) or 1) if len(known) else (0, 1)
        axes.plot(np.arange(length), row + 0.9 - 0.8 * (values - low) / span, color="0.15", linewidth=0.8, marker="." if length == 1 else None)
    axes.set(xlim=(-0.5, length - 0.5), ylim=(len(shown), 0))
    labels = [] if channels == 1 and names is None else [printable(str(names[i])) if names is not None else f"x[:, {i}]" for i in shown]
    axes.set_yticks(np.arange(len(labels)) + 0.5, labels, fontsize=7)
    axes.tick_params(axis="x", labelsize=7)
    if len(shown) < channels:
        axes.set_xlabel(f"{len(shown)} of {channels} channels shown", fontsize=7)
