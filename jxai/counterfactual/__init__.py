"""What would have to change: counterfactual examples, one at a time as pure functions, or thousands in one compiled search.

A method is `method(f, x, target, key=None, *, options) -> Counterfactual`, pure, for `jit` and `vmap`; `method.search(**options)` is its search, and
`run(search, f, x, target, key)` runs it for whole arrays of examples, targets and restarts, at the cost of the steps that were needed.
"""

from jxai.counterfactual.constraints import Frozen, Monotone, Near, OneHot, Ordinal, Range
from jxai.counterfactual.generator import Identity, latent_path
from jxai.counterfactual.lanes import Progress, run
from jxai.counterfactual.latent import diffeomorphic, revise
from jxai.counterfactual.pixel import wachter
from jxai.counterfactual.search import Candidate, Counterfactual, Search

METHODS = ("diffeomorphic", "revise", "wachter")
"""The methods, by name."""

__all__ = [
    *METHODS,
    *("Frozen", "Monotone", "Near", "OneHot", "Ordinal", "Range"),
    *("Candidate", "Counterfactual", "Identity", "Progress", "Search", "latent_path", "run"),
]
