"""Runs over a data set, in blocks that survive being killed: explanations judged by metrics, with a report; certification; counterfactuals.

- runs: `run` (methods × metrics), `certification`, `counterfactual_runs`; each hands a block's work to `loop`, which takes a block that no other process has (`locks`; `processes` joins a JAX cluster).
- what a run is: `tasks` and `examples`, `evaluation` (what is asked for, and a block of it), `columns` (their names), `variants`, `possible` (which methods a model can have); `growth` and `selection` say which examples, and
  what may be added to a run that is there. What is kept: `store`, its files `blocks` (whole or absent). What it says: `statistics`, `table`, `told`, `pictures`, `page`, `page_differences`, `report`;
  of several: `comparison` (tests), `joined`, and as text `verdicts`, `latex`. `clusters`: of the explanations that a run keeps.
- `uncertain`: runs that ask how unsure a model is, and their reports.
- of experiments: `record` keeps their configuration, pieces, code and results, `experiment` makes commands of them, `findings` are their rows and tables,
  `answers` what a classifier says of many examples, `controls` attributions that know no model.

What may be touched: a new kind of run is one file that gives `loop` a function of a block. Whatever a result depends on belongs into its configuration, as `jxai.identity` tells it.
"""

from jxai.evaluate.certification import Counts, certify, counts
from jxai.evaluate.clusters import Clustered, clusters
from jxai.evaluate.counterfactual_runs import Found, counterfactuals, found
from jxai.evaluate.joined import Joined, joined
from jxai.evaluate.possible import Possible, possible
from jxai.evaluate.processes import join
from jxai.evaluate.report import report
from jxai.evaluate.run import run
from jxai.evaluate.store import Run
from jxai.evaluate.uncertain.result import UncertaintyRun
from jxai.evaluate.uncertain.run import uncertainty
from jxai.evaluate.variants import variants
from jxai.views.progress import Progress

__all__ = [
    "Clustered",
    "Counts",
    "Found",
    "Joined",
    "Possible",
    "Progress",
    "Run",
    "UncertaintyRun",
    "certify",
    "clusters",
    "counterfactuals",
    "counts",
    "found",
    "join",
    "joined",
    "possible",
    "report",
    "run",
    "uncertainty",
    "variants",
]
