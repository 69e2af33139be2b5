"""Several data sets as one: those within the distribution first, then the others, each cut to the examples that are asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jxai.data import Example, Source, sampled
from jxai.data.batches import Preprocess
from jxai.data.sources import NO_LABEL
from jxai.evaluate.examples import first_readable
from jxai.identity.values import digest


class Sets:
    """A source of the examples of several.

    Labels of a set whose classes are not those of the first are left out: they say nothing about the model.

    Args:
      sources: by label, the first within the distribution. limit, sample, seed: as in `jxai.data.sampled`, of each.

    Raises:
      ValueError: an empty data set, a bad limit or sample.
    """

    def __init__(self, sources: Mapping[str, Source], limit: int | None, sample: str, seed: int):
        self.sources = dict(sources)
        self.chosen = {label: sampled(source, limit, sample, seed) for label, source in self.sources.items()}
        self.sizes = {label: len(places) for label, places in self.chosen.items()}
        self._ends = np.cumsum(list(self.sizes.values()))
        first = next(iter(self.sources.values()))
        self.class_names = getattr(first, "class_names", None)
        self.labelled = {label: label == next(iter(self.sources)) or self._same_classes(source) for label, source in self.sources.items()}
        self.name = " | ".join(f"{label}: {source.name}" for label, source in self.sources.items())

    def __len__(self) -> int:
        return int(self._ends[-1])

    def at(self, index: int) -> tuple[str, int]:
        """The label of an example's data set, and its place there."""
        n = int(self.number(np.asarray(index)))
        label = list(self.sources)[n]
        return label, int(self.chosen[label][index - (self._ends[n] - self.sizes[label])])

    def __getitem__(self, index: int) -> Example:
        label, place = self.at(index)
        example = self.sources[label][place]
        kept = example.label if self.labelled[label] else NO_LABEL
        return Example(example.pixels, kept, None, example.name)

    def named(self, index: int) -> tuple[str, int | None]:
        """The name and the label of an example that cannot be read, where its source can tell them."""
        label, place = self.at(index)
        source = self.sources[label]
        name, kept = source.named(place) if hasattr(source, "named") else ("", None)
        return name, kept if self.labelled[label] else NO_LABEL

    def digest(self, places: Sequence[int]) -> str:
        """Of what is at these places, by the sources that can tell it."""
        told = hashlib.sha256()
        at = np.asarray(places)
        for n, (label, source) in enumerate(self.sources.items()):
            start = self._ends[n] - self.sizes[label]
            own = self.chosen[label][at[(at >= start) & (at < self._ends[n])] - start]
            content = source.digest(own) if len(own) and hasattr(source, "digest") else ""
            told.update(f"{label} {digest(own.astype(np.int64))} {content}\n".encode())
        return told.hexdigest()[:16]

    def describe(self) -> list[dict[str, Any]]:
        """For a record: each set's label, name, size and how many of it are taken."""
        return [
            {"label": label, "name": source.name, "size": len(source), "examples": self.sizes[label], "labelled": self.labelled[label]}
            for label, source in self.sources.items()
        ]

    def check(self, preprocess: Preprocess | None) -> None:
        """Raises ValueError where an example of another set has another shape than those of the first."""
        (own, first), *others = self.sources.items()
        shape = shape_of(first, preprocess, self.chosen[own])
        for label, source in others:
            refuse_other_shape(label, shape_of(source, preprocess, self.chosen[label]), own, shape)

    def number(self, indices: np.ndarray) -> np.ndarray:
        """Which of the data sets these examples are of, 0 the first."""
        return np.searchsorted(self._ends, indices, "right").astype(np.int32)

    def _same_classes(self, source: Source) -> bool:
        names = getattr(source, "class_names", None)
        return names is not None and self.class_names is not None and tuple(map(str, names)) == tuple(map(str, self.class_names))


def shape_of(source: Source, preprocess: Preprocess | None, places: np.ndarray | None = None) -> tuple[int, ...]:
    """Of x of the first of these examples that can be read."""
    return first_readable(source, preprocess, None if places is None else places[:100].tolist()).x.shape[1:]


def refuse_other_shape(label: str, shape: tuple[int, ...], own: str, taken: tuple[int, ...]) -> None:
    """Raises ValueError where examples have another shape than those of the data set that the model is made for."""
    if shape != taken:
        raise ValueError(
            f"the examples of {label} have shape {shape}, those of {own}, and what the model takes, {taken}: "
            "bring its pictures to that size and number of channels (jxai.data.resized, --resize), or take another data set"
        )
