"""Proper names: what a paper calls the methods, metrics and scores that this library calls by identifiers. The one place for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

METHODS = {
    "ablation_cam": "Ablation-CAM",
    "attention_rollout": "Attention Rollout",
    "blur_integrated_gradients": "Blur IG",
    "chefer": "Generic Attention",
    "deconvnet": "Deconvnet",
    "deep_lift": "DeepLIFT",
    "deep_shap": "DeepSHAP",
    "eigen_cam": "Eigen-CAM",
    "eva": "EVA",
    "expected_gradients": "Expected Gradients",
    "extremal_perturbation": "Extremal Perturbation",
    "feature_ablation": "Feature Ablation",
    "grad_cam": "Grad-CAM",
    "grad_cam_plus_plus": "Grad-CAM++",
    "gradient": "Gradient",
    "gradient_shap": "GradientSHAP",
    "guided_backprop": "Guided Backpropagation",
    "guided_grad_cam": "Guided Grad-CAM",
    "guided_integrated_gradients": "Guided IG",
    "hires_cam": "HiResCAM",
    "hsic": "HSIC",
    "input_x_gradient": "Input × Gradient",
    "integrated_gradients": "Integrated Gradients",
    "kernel_shap": "KernelSHAP",
    "layer_cam": "LayerCAM",
    "lime": "LIME",
    "lrp": "LRP",
    "meaningful_perturbation": "Meaningful Perturbation",
    "occlusion": "Occlusion",
    "rise": "RISE",
    "score_cam": "Score-CAM",
    "shapley_sampling": "Shapley Sampling",
    "sidu": "SIDU",
    "smoothgrad": "SmoothGrad",
    "sobol": "Sobol",
    "squaregrad": "SquareGrad",
    "uncertainty_path": "Uncertainty Path",
    "vargrad": "VarGrad",
    "xgrad_cam": "XGrad-CAM",
    "xrai": "XRAI",
}
METRICS = {
    "aic": "AIC",
    "aopc": "AOPC",
    "average_drop": "Average Drop",
    "average_gain": "Average Gain",
    "average_increase": "Average Increase",
    "avg_sensitivity": "Avg-Sensitivity",
    "completeness_error": "Completeness Error",
    "completeness_score": "Completeness",
    "comprehensiveness": "Comprehensiveness",
    "deletion": "Deletion",
    "effective_complexity": "Effective Complexity",
    "efficient_parameter_randomization": "Efficient MPRT",
    "eic": "EIC",
    "energy_pointing": "Energy Pointing Game",
    "entropy": "Entropy",
    "faithfulness_correlation": "Faithfulness Correlation",
    "faithfulness_estimate": "Faithfulness Estimate",
    "focus": "Focus",
    "infidelity": "Infidelity",
    "insertion": "Insertion",
    "irof": "IROF",
    "local_lipschitz": "Local Lipschitz",
    "localization_auc": "Localization AUC",
    "max_sensitivity": "Max-Sensitivity",
    "monotonicity": "Monotonicity",
    "monotonicity_correlation": "Monotonicity Correlation",
    "mu_fidelity": "μFidelity",
    "non_sensitivity": "Non-Sensitivity",
    "parameter_randomization": "MPRT",
    "performance_information_curve": "PIC",
    "pointing_game": "Pointing Game",
    "random_logit": "Random Logit",
    "relative_input_stability": "RIS",
    "relative_output_stability": "ROS",
    "relative_representation_stability": "RRS",
    "relevance_mass": "Relevance Mass",
    "relevance_rank": "Relevance Rank",
    "road": "ROAD",
    "robustness_sr": "Robustness-Sr",
    "selectivity": "Selectivity",
    "sensitivity_n": "Sensitivity-n",
    "smooth_parameter_randomization": "Smooth MPRT",
    "soundness_score": "Soundness",
    "sparseness": "Sparseness",
    "sufficiency": "Sufficiency",
    "top_k_intersection": "Top-k Intersection",
    "urc": "URC",
}
SCORES = {
    "ash": "ASH",
    "dempster_shafer": "Dempster–Shafer",
    "dice": "DICE",
    "dissector": "Dissector",
    "dsa": "DSA",
    "energy": "Energy",
    "entropy": "Entropy",
    "fdbd": "fDBD",
    "gaussian_density": "Gaussian Density (DDU)",
    "gen": "GEN",
    "gini": "Gini (DeepGini)",
    "grad_norm": "GradNorm",
    "kl_matching": "KL-Matching",
    "knn": "KNN",
    "laplace_variance": "Laplace Variance",
    "lsa": "LSA",
    "mahalanobis": "Mahalanobis",
    "max_kernel": "Max Kernel (DUQ)",
    "max_logit": "Max Logit",
    "max_softmax": "Max Softmax (MSP)",
    "mdsa": "MDSA",
    "nci": "NCI",
    "nn_guide": "NNGuide",
    "odin": "ODIN",
    "outside": "Outside (UQGAN)",
    "probability_margin": "Probability Margin",
    "rank_feat": "RankFeat",
    "react": "ReAct",
    "relation": "Relation",
    "relative_mahalanobis": "Relative Mahalanobis",
    "scale": "SCALE",
    "she": "SHE",
    "sngp_variance": "SNGP Variance",
    "vim": "ViM",
    "vra": "VRA",
}
"""Scores of uncertainty (`jxai.uncertainty`)."""
NUMBERS = {
    "accuracy": "Accuracy",
    "augrc": "AUGRC",
    "aupr_in": "AUPR-in",
    "aupr_out": "AUPR-out",
    "aurc": "AURC",
    "auroc": "AUROC",
    "brier": "Brier",
    "error_auroc": "AUROC of errors",
    "excess_aurc": "E-AURC",
    "expected_calibration_error": "ECE",
    "fpr95_in": "FPR95-in",
    "fpr95_out": "FPR95-out",
    "negative_log_likelihood": "NLL",
}
"""What an uncertainty run tells of a model and of its scores."""
ABSOLUTE = "abs:"
"""Before a method's label: the magnitudes of its map."""
APART = "@"
"""In a label, between a name and what tells this column from others of the name: `sobol@num_designs=16`, `rise@seed=1`."""


def proper(label: str) -> str:
    """The proper name of the label of a method, a metric, a score or a number; one that is not jxai's stays as it is.

    `"grad_cam"` is `"Grad-CAM"`, `"abs:gradient"` is `"|Gradient|"`, `"sobol@num_designs=16"` is `"Sobol (num designs 16)"`.
    """
    name, *apart = label.removeprefix(ABSOLUTE).split(APART)
    known = next((names[name] for names in (METHODS, METRICS, SCORES, NUMBERS) if name in names), None)
    if known is None:
        return label
    shown = f"|{known}|" if label.startswith(ABSOLUTE) else known
    return f"{shown} ({', '.join(map(_option, apart))})" if apart else shown


def propers(labels: Iterable[str]) -> dict[str, str]:
    """The proper names of labels that stand together; those that would be named alike (`rise` and one's own `RISE`) stay as they are."""
    names = {label: proper(label) for label in labels}
    often = Counter(names.values())
    return {label: name if often[name] == 1 else label for label, name in names.items()}


def _option(part: str) -> str:
    name, _, value = part.partition("=")
    return f"{name.replace('_', ' ')} {value}".strip()
