"""Words to classes: what a label's word, a subfolder's name or `--target` stands for, in one place for all of them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from jxai.data.sources import NO_LABEL

_SPLITS = frozenset("train training trainset test testing testset val valid validation dev eval".split())
_NONE = ("", "-1", "-1.0", "nan")
"""Words for no label: an empty cell, −1, and what pandas writes of either."""


def named(word: str, names: Sequence[str] | None) -> int | None:
    """The class of that name: the name itself, whatever its case, among its comma-separated synonyms, or as a number (`02` is `2`).

    Raises:
      ValueError: two classes have it.
    """
    word, names = word.strip(), [str(name) for name in (() if names is None else names)]
    lower, synonyms = word.lower(), ([part.strip().lower() for part in name.split(",")] for name in names)
    levels = (
        [i for i, name in enumerate(names) if name == word],
        [i for i, name in enumerate(names) if name.lower() == lower],
        [i for i, parts in enumerate(synonyms) if lower in parts],
        [i for i, name in enumerate(names) if word.isdecimal() and name.strip().isdecimal() and int(name) == int(word)],
    )
    found = next((level for level in levels if level), [])
    if len(found) > 1:
        raise ValueError(f"{word!r} names the classes {_listed(found)}")
    return found[0] if found else None


def place(word: str, names: Sequence[str] | None, count: int | None = None, what: str = "label") -> int:
    """The class that a word names, or else its index: a name is a name, though it be a number, and where names are numbers no number is an index.

    Args:
      word: as a person writes it. names: of the classes. count: how many there are; None for the number of names, or any where there are none.
      what: before the word in an error.

    Raises:
      ValueError: it is neither, or two classes have the name.
    """
    index = named(word, names)
    if index is not None:
        return index
    count = len(names) if count is None and names is not None else count
    number = re.fullmatch(r"([-+]?\d+)(\.0+)?", word.strip())
    numeric = names is not None and any(str(name).strip().isdecimal() and str(name).strip() != str(i) for i, name in enumerate(names))
    if number is None or numeric:
        known = "there are no class names" if names is None else f"classes are named {_listed(names)}"
        raise ValueError(f"{what} {word!r} is no class of the model: {known}{', so that a number is a name, not an index' if number and numeric else ''}")
    index = int(number[1])
    if index < 0 or (count is not None and index >= count):
        raise ValueError(f"{what} {index} must be in [0, {'K' if count is None else count})")
    return index


def of_table(words: Sequence[str], names: Sequence[str] | None) -> tuple[tuple[str, ...] | None, list[int]]:
    """The classes' names and the labels that the words of a table stand for; without `names`, integers are indices and other words are sorted names."""
    used = _used(words)
    if names is None and not all(_is_number(word) for word in used):
        if mixed := [word for word in used if _is_number(word)]:
            raise ValueError(f"labels are numbers ({_listed(mixed)}) and words ({_listed([w for w in used if w not in mixed])}); give class_names")
        names = _sorted(used)
    return _matched(words, used, names)


def of_subfolders(words: Sequence[str], deeper: Sequence[str], empty: Sequence[str], names: Sequence[str] | None, path: str | os.PathLike):
    """As `of_table`, of the subfolder that each image lies in.

    Without `names`, subfolders that are all numbers, 0 among them, are indices (a few classes of a larger model's, too); any others are names, in their order.

    Args:
      words: of each image, `""` where it lies flat. deeper: of each image, the folder below that, `""` where there is none.
      empty: subfolders that hold nothing. path: the folder, for errors.

    Raises:
      ValueError: as `place`; splits of a data set instead of classes; an order that cannot be told.
    """
    used = _used(words)
    splits = [word for word in used if word.lower() in _SPLITS and named(word, names) is None]
    if splits and (len(splits) > 1 or splits == used):
        raise ValueError(f"{path} holds splits of a data set, not classes; give one of them: {_listed([os.path.join(path, s) for s in splits])}")
    below = sorted({d for w, d in zip(words, deeper) if w and d})
    if len(used) == 1 and len(below) > 1 and all(d for w, d in zip(words, deeper) if w) and named(used[0], names) is None:
        raise ValueError(f"{path} holds one subfolder, {used[0]!r}, with the folders {_listed(below)} in it; give {os.path.join(path, used[0])}")
    if names is None and used:
        if empty:
            raise ValueError(f"{path}: the subfolder {empty[0]!r} is empty; remove it, or give class_names if it is a class")
        numbers = [int(word) for word in used if word.isdecimal()]
        if len(set(numbers)) < len(numbers):
            raise ValueError(f"{path}: two of the subfolders {_listed(used)} are one number")
        if len(numbers) < len(used) or 0 not in numbers:
            names = _sorted(used)
    return _matched(words, used, names)


def _matched(words: Sequence[str], used: Sequence[str], names: Sequence[str] | None) -> tuple[tuple[str, ...] | None, list[int]]:
    names = None if names is None else tuple(map(str, names))
    by_name = [word for word in used if named(word, names) is not None]
    if by_name and len(by_name) < len(used) and all(_is_number(w) for w in used if w not in by_name):
        rest = [word for word in used if word not in by_name]
        raise ValueError(f"labels are names of classes ({_listed(by_name)}) and numbers that are none ({_listed(rest)})")
    index = {word: place(word, names) for word in used}
    return names, [index.get(word.strip(), NO_LABEL) for word in words]


def _used(words: Sequence[str]) -> list[str]:
    return sorted({word.strip() for word in words if word.strip().lower() not in _NONE})


def _is_number(word: str) -> bool:
    return re.fullmatch(r"[-+]?\d+(\.0+)?", word) is not None


def _sorted(words: Sequence[str]) -> tuple[str, ...]:
    """The words in their order, if there is one: 2 before 10 for a person, and after it for most programs."""
    plain = sorted(words)
    natural = sorted(words, key=lambda word: [(int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", word)])
    if plain != natural:
        raise ValueError(f"the classes' order is {_listed(natural)} or {_listed(plain)}; give class_names, in the order of the model's logits")
    return tuple(plain)


def _listed(values: Sequence[object], most: int = 12) -> str:
    shown = ", ".join(map(str, values[:most]))
    return shown if len(values) <= most else f"{shown}, … ({len(values)})"
