"""Whether 0 is the middle of a map, by the label of its method."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping

from jxai import attribution
from jxai.naming import ABSOLUTE, APART


def signs_of(labels: Iterable[str], signed: bool | Mapping[str, bool | None] | None) -> dict[str, bool | None]:
    """By label whether its maps are signed.

    Raises:
      ValueError: `signed` is of a label that is not there.
    """
    labels = list(labels)
    if isinstance(signed, Mapping) and (other := [label for label in signed if label not in labels]):
        raise ValueError(f"signed tells of {', '.join(map(repr, other))}, but maps has {', '.join(map(repr, labels))}")
    return {label: sign_of(label, signed) for label in labels}


def sign_of(label: str, signed: bool | Mapping[str, bool | None] | None) -> bool | None:
    """Whether a label's maps are signed: as it is given, or as jxai knows of its own methods; None where it has to be seen."""
    given = signed.get(label) if isinstance(signed, Mapping) else signed
    if given is not None or label.startswith(ABSOLUTE):
        return given if given is not None else False
    name, *apart = label.split(APART)
    if name not in attribution.__all__:
        return None
    relu = dict(part.split("=", 1) for part in apart if "=" in part).get("relu")
    return attribution.is_signed(getattr(attribution, name), {} if relu is None else {"relu": ast.literal_eval(relu)})
