"""Sentences with labels: the Stanford Sentiment Treebank."""

from __future__ import annotations

import json
import os

import numpy as np

from jxai import files

__all__ = ["sst2"]


def sst2(split: str, path: str | os.PathLike | None = None) -> tuple[list[str], np.ndarray]:
    """Sentences of film reviews, and whether each speaks well of its film (1) or not (0).

    R. Socher et al. 2013, "Recursive Deep Models for Semantic Compositionality Over a Sentiment Treebank", EMNLP; its two-class form, whole sentences only.

    Args:
      split: `"train"` (6920), `"dev"` (872) or `"test"` (1821). path: the file `sst2.json`, or its folder; None looks into `$JXAI_DATA/extra`.

    Raises:
      ValueError: another split. FileNotFoundError: no such file.
    """
    with open(files.find("sst2.json", "extra", path), encoding="utf-8") as file:
        told = json.load(file)
    if split not in told:
        raise ValueError(f"{split=} must be one of {', '.join(map(repr, told))}")
    return list(told[split]["sentence"]), np.asarray(told[split]["label"], np.int32)
