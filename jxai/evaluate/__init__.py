"""Runs over a data set, in blocks that survive being killed: explanations judged by metrics, with a report; certification; counterfactuals."""

from jxai.evaluate.certification import Counts, certify, counts
from jxai.evaluate.counterfactual_runs import Found, counterfactuals, found
from jxai.evaluate.loop import Progress
from jxai.evaluate.report import report
from jxai.evaluate.run import run
from jxai.evaluate.store import Run

__all__ = ["Counts", "Found", "Progress", "Run", "certify", "counterfactuals", "counts", "found", "report", "run"]
