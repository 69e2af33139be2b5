"""What all counterfactual methods search with; no method lives here.

- `loop`: a search as two pure functions, its frozen loop, and what comes out. `lanes`: many at once, with room made for what is left.
- `exchange`: what was found for a vector brought nearer to x, one change after another.
- `descent`: the step of a gradient search, any optax optimiser. `direct`: methods that look once.
- `domain` and `constraints`: what an example must keep to, and whether it does. `generator`: what is asked of `decode` and `encode`. `norms` and `labels`: sizes and classes.

What may be touched: a method writes `search(**options) -> Search` with `descent`, `direct` or functions of its own, and is `method(search)`; then
`jit`, `vmap`, `run` and the contract tests take it. A constraint is a frozen registered dataclass with `relaxed` and `exact`.
"""

from jxai.counterfactual.search.domain import Domain, clipped
from jxai.counterfactual.search.loop import Candidate, Counterfactual, Search, State, advance, begin, check_search, further, method, result, solve, wanted

__all__ = [
    "Candidate",
    "Counterfactual",
    "Domain",
    "Search",
    "State",
    "advance",
    "begin",
    "check_search",
    "clipped",
    "further",
    "method",
    "result",
    "solve",
    "wanted",
]
