"""What is called how in the folder of an uncertainty run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from jxai.evaluate.store import Run
from jxai.files import atomic

SCORE = "uncertainty/"
"""Before a score's label, in a table."""
KIND = "uncertainty"
"""In a record: what an uncertainty run is of."""
RIGHT = ("log_likelihood", "brier")
"""Of each labelled example: the log-probability of its label, and the squared distance of the probabilities from the sure answer."""
LEFT_OUT = "left_out.json"
FIT, FITS = "fit", "fits"
"""The folders of the answers that scores are fitted to, and of what was fitted."""


def left_out(run: Run) -> dict[str, str]:
    """The scores that `"all"` left out, and why."""
    try:
        return dict(json.loads((run.path / LEFT_OUT).read_text("utf-8")))
    except FileNotFoundError:
        return {}


def note_left_out(path: Path, told: Mapping[str, str]) -> None:
    """Writes what `left_out` reads, into a run's folder."""
    with atomic(path / LEFT_OUT) as part:
        part.write_text(json.dumps(dict(told), indent=1, ensure_ascii=False) + "\n", "utf-8")
