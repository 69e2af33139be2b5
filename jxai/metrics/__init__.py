"""Metrics: is an attribution right? Every metric is `metric(f, x, target, attribution, key=None, *, options) -> scalar or Curve`.

`jxai.metrics.compare` compares two maps, `compare(a, b) -> scalar`, and is no metric by itself; `jxai.metrics.counterfactual` judges
counterfactuals, `metric(f, x, counterfactual, target, *, options) -> scalar`.

A question in each file: `curves`, `subsets`, `infidelity`, `rationales`, `information`, `axioms`, `intrinsic` (faithfulness); `uncertain`
(of attributions of uncertainty); `robustness`, `stability`, `adversarial`; `localization`, `detection`; `complexity`; `randomization`. They share `common`, `removal`, `additive`, `draws`, `statistics`, `explaining`.

What may be touched: a new metric states `Range:`, `Direction:`, `Cost:` and `Reference:` in its docstring, a line each (`documented` reads them: the
report, the command line and the contract go by these), and takes attributions as they are, signed.
"""

from jxai.metrics import compare as compare
from jxai.metrics import counterfactual as counterfactual
from jxai.metrics.adversarial import robustness_sr
from jxai.metrics.axioms import completeness_error, monotonicity, monotonicity_correlation, non_sensitivity
from jxai.metrics.complexity import effective_complexity, entropy, sparseness
from jxai.metrics.curves import aopc, deletion, insertion, irof, selectivity
from jxai.metrics.detection import localization_auc, relevance_rank, top_k_intersection
from jxai.metrics.infidelity import infidelity
from jxai.metrics.information import performance_information_curve
from jxai.metrics.intrinsic import completeness_score, soundness_score
from jxai.metrics.localization import energy_pointing, focus, pointing_game, relevance_mass
from jxai.metrics.randomization import (
    efficient_parameter_randomization,
    parameter_randomization,
    random_logit,
    smooth_parameter_randomization,
)
from jxai.metrics.rationales import average_drop, average_gain, average_increase, comprehensiveness, sufficiency
from jxai.metrics.road import road
from jxai.metrics.robustness import avg_sensitivity, local_lipschitz, max_sensitivity
from jxai.metrics.stability import relative_input_stability, relative_output_stability, relative_representation_stability
from jxai.metrics.subsets import faithfulness_correlation, faithfulness_estimate, mu_fidelity, sensitivity_n
from jxai.metrics.uncertain import aic, eic, urc

__all__ = [
    "aic",
    "aopc",
    "average_drop",
    "average_gain",
    "average_increase",
    "avg_sensitivity",
    "completeness_error",
    "completeness_score",
    "comprehensiveness",
    "deletion",
    "effective_complexity",
    "efficient_parameter_randomization",
    "eic",
    "energy_pointing",
    "entropy",
    "faithfulness_correlation",
    "faithfulness_estimate",
    "focus",
    "infidelity",
    "insertion",
    "irof",
    "local_lipschitz",
    "localization_auc",
    "max_sensitivity",
    "monotonicity",
    "monotonicity_correlation",
    "mu_fidelity",
    "non_sensitivity",
    "parameter_randomization",
    "performance_information_curve",
    "pointing_game",
    "random_logit",
    "relative_input_stability",
    "relative_output_stability",
    "relative_representation_stability",
    "relevance_mass",
    "relevance_rank",
    "road",
    "robustness_sr",
    "selectivity",
    "sensitivity_n",
    "smooth_parameter_randomization",
    "soundness_score",
    "sparseness",
    "sufficiency",
    "top_k_intersection",
    "urc",
]
