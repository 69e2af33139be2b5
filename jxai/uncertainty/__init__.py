"""How sure a model is, and whether it knows when it does not know: scores, what they are fitted on, networks that say it, and what judges them.

- `scores`: `score(f, x, key=None, *, fitted=None, options)` of a model, each `formulas.NAME` of its answer; `heads`: the last linear map and the features before it.
- `formulas`: the same on one example's arrays, beside the `fit_NAME` of what must be fitted. `density`: Gaussian densities of features.
- `checks`: what arrays must be. `scoring`: how a formula becomes a score. `storing`: what was fitted, in files.
- `decomposition`: what of an entropy is the data's and what the model's; `predictive`: the same of a model or an ensemble at a point.
- `ensembles`, `dropout`: models that give samples `[S, K]`; `samples`: scores of how much these disagree.

What may be touched: a score is higher where the model is less certain, everywhere; what must be fitted is a registered dataclass from a function of arrays
(features, logits, labels), one idea in a file. `jxai.testing.check_score` holds scores to that.
"""

from jxai.uncertainty import formulas as formulas
from jxai.uncertainty.decomposition import Decomposition, decompose
from jxai.uncertainty.density import GaussianDensity, gaussian_density
from jxai.uncertainty.dropout import MonteCarlo, monte_carlo
from jxai.uncertainty.ensembles import Ensemble, ensemble, train_ensemble
from jxai.uncertainty.heads import Answers, Head, answers, features, linear_head
from jxai.uncertainty.samples import Averaged, expected_entropy, mean_entropy, mean_max_softmax, mutual_information, sampled, variation_ratio
from jxai.uncertainty.scores import entropy, gini, max_softmax, probability_margin
from jxai.uncertainty.storing import load, save

__all__ = [
    "Answers",
    "Averaged",
    "Decomposition",
    "Ensemble",
    "GaussianDensity",
    "Head",
    "MonteCarlo",
    "answers",
    "decompose",
    "ensemble",
    "entropy",
    "expected_entropy",
    "features",
    "gaussian_density",
    "gini",
    "linear_head",
    "load",
    "max_softmax",
    "mean_entropy",
    "mean_max_softmax",
    "monte_carlo",
    "mutual_information",
    "probability_margin",
    "sampled",
    "save",
    "train_ensemble",
    "variation_ratio",
]
