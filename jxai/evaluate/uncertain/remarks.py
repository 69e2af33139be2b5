"""What a reader of an uncertainty run has to know beside its numbers."""

from __future__ import annotations

import numpy as np

from jxai.evaluate.store import Run
from jxai.evaluate.uncertain.names import KIND, SCORE, left_out
from jxai.evaluate.uncertain.summary import scores


def remarks(run: Run, table: dict[str, np.ndarray]) -> list[str]:
    """Sentences: which examples there are, what failed, what was fitted on what, and which scores are not there."""
    told = [
        f"{one['label']}: {one['examples']} of {one['size']} examples" + ("" if one["labelled"] else ", of other classes") for one in run.config[KIND]["sets"]
    ]
    said = [f"Data sets: {'; '.join(told)}."]
    if failed := int((~table["valid"]).sum()):
        first = next(message for message in table["error"] if message)
        said.append(f"{failed} examples failed, the first: {first}")
    if (whole := sum(one["examples"] for one in run.config[KIND]["sets"])) > len(table["valid"]):
        said.append(f"{len(table['valid'])} of {whole} examples are done: the same command goes on.")
    if fit := run.config[KIND]["fit_on"]:
        said.append(f"Fitted on {fit['data']['examples']} of {fit['data']['size']} examples of {fit['data']['name'].split(':')[0]}.")
    said += [f"{name} is left out: {why}" for name, why in left_out(run).items()]
    lost = [name for name in scores(run, table) if np.isnan(table[SCORE + name][table["valid"]]).any()]
    return [*said, f"Of some examples no number, which are left out of its rows: {', '.join(lost)}."] if lost else said
