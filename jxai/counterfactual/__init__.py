"""What would have to change: counterfactual examples, one at a time as pure functions, or thousands in one compiled search.

A method is `method(f, x, target, key=None, *, options) -> Counterfactual`, pure, for `jit` and `vmap`; `method.search(**options)` is its search, and
`run(search, f, x, target, key)` runs it for whole arrays of examples, targets and restarts, at the cost of the steps that were needed.

Methods stand here, a paper or a family in each file: among examples (`pixel`, `saliency`, `spheres`, `unlike`, `frank_wolfe`), in a generator's codes
(`latent`, `clue`, `glam`, `dive`, `prototype`, `sharpshooter`, `piece`, `steex`), by a trained network (`vcnet`); `inverse` solves inverse problems with
the same searches. What they share is in `search`. What may be touched: a new method is a file with `search(**options) -> Search`, and a name below.
"""

from jxai.counterfactual import operators as operators
from jxai.counterfactual.clue import clue, delta_clue, nabla_clue
from jxai.counterfactual.dive import dive, fisher_masks
from jxai.counterfactual.frank_wolfe import sparse_vce
from jxai.counterfactual.glam import fit_glam, glam_clue
from jxai.counterfactual.inverse import Reconstruction, generative_regularizer, regularized
from jxai.counterfactual.latent import diffeomorphic, revise
from jxai.counterfactual.piece import class_features, constrained_min_edit, min_edit, piece
from jxai.counterfactual.pixel import wachter
from jxai.counterfactual.prototype import class_prototypes, prototype
from jxai.counterfactual.saliency import deduce, jsma
from jxai.counterfactual.search import Candidate, Counterfactual, Search
from jxai.counterfactual.search.constraints import Frozen, Monotone, Near, OneHot, Ordinal, Range
from jxai.counterfactual.search.generator import Identity, latent_path
from jxai.counterfactual.search.lanes import Progress, run
from jxai.counterfactual.sharpshooter import sharpshooter
from jxai.counterfactual.spheres import growing_spheres
from jxai.counterfactual.steex import steex
from jxai.counterfactual.unlike import native_guide, nearest_unlike
from jxai.counterfactual.vcnet import vcnet

METHODS = (
    *("clue", "constrained_min_edit", "deduce", "delta_clue", "diffeomorphic", "dive", "glam_clue", "growing_spheres", "jsma", "min_edit"),
    *("nabla_clue", "native_guide", "piece", "prototype", "revise", "sharpshooter", "sparse_vce", "steex", "vcnet", "wachter"),
)
"""The methods, by name."""

__all__ = [
    *METHODS,
    *("Frozen", "Monotone", "Near", "OneHot", "Ordinal", "Range"),
    *("Candidate", "Counterfactual", "Identity", "Progress", "Reconstruction", "Search"),
    *(
        "class_features",
        "class_prototypes",
        "fisher_masks",
        "fit_glam",
        "generative_regularizer",
        "latent_path",
        "nearest_unlike",
        "operators",
        "regularized",
        "run",
    ),
]
