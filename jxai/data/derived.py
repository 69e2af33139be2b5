"""A data set made of another, example by example, when it is read."""

from __future__ import annotations

import abc

from jxai.data.sources import Example, Source


class Derived(abc.ABC):
    """What data sets that are made of another share with it: length, labels, and the names of classes and examples.

    A kind of them says what becomes of an example (`changed`), and what its content is besides the other's (`digest`, where the other has one).
    """

    def __init__(self, source: Source, name: str):
        self._source, self.name, self.class_names = source, name, source.class_names
        for known in ("labels", "named", "digest"):
            if hasattr(source, known) and not hasattr(self, known):
                setattr(self, known, getattr(source, known))

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Example:
        return self.changed(self._source[index], int(index))

    @abc.abstractmethod
    def changed(self, example: Example, index: int) -> Example:
        """What becomes of the example at this place."""
