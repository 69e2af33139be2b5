"""Evaluation runs: methods × metrics × the examples of a data set, in blocks that survive being killed, and their report."""

from jxai.evaluate.report import report
from jxai.evaluate.run import Progress, run
from jxai.evaluate.store import Run

__all__ = ["Progress", "Run", "report", "run"]
