"""Runs over a data set, in blocks that survive being killed: explanations judged by metrics, with a report, and certification."""

from jxai.evaluate.certification import Counts, certify, counts
from jxai.evaluate.loop import Progress
from jxai.evaluate.report import report
from jxai.evaluate.run import run
from jxai.evaluate.store import Run

__all__ = ["Counts", "Progress", "Run", "certify", "counts", "report", "run"]
