"""Uncertainty scores as formulas on one example's arrays: `NAME(logits, features=None, fitted=None, *, options) -> scalar`.

Higher is more uncertain: a score that was published as higher within the distribution is its negative here, and nothing else. `jxai.uncertainty.NAME` is the same of a
model. What a formula needs fitted is made by `jxai.uncertainty.fit_NAME(features [n, D], logits [n, K], labels [n], head)`.
Options named `convention` give the values of other libraries where these differ, with the sign that is used here.
"""

from jxai.uncertainty.formulas.activations import ash, react, scale, vra
from jxai.uncertainty.formulas.directions import fdbd, nci
from jxai.uncertainty.formulas.dissector import dissector
from jxai.uncertainty.formulas.energy import energy, max_logit
from jxai.uncertainty.formulas.gaussians import gaussian_density, mahalanobis, relative_mahalanobis
from jxai.uncertainty.formulas.neighbours import knn, nn_guide
from jxai.uncertainty.formulas.networks import dempster_shafer, laplace_variance, max_kernel, sngp_variance
from jxai.uncertainty.formulas.one_vs_all import outside
from jxai.uncertainty.formulas.perturbed import odin, rank_feat
from jxai.uncertainty.formulas.relations import relation
from jxai.uncertainty.formulas.residual import vim
from jxai.uncertainty.formulas.softmax import entropy, gen, gini, max_softmax, probability_margin
from jxai.uncertainty.formulas.surprise import dsa, lsa, mdsa
from jxai.uncertainty.formulas.templates import kl_matching, she
from jxai.uncertainty.formulas.weights import dice, grad_norm

__all__ = [
    "ash",
    "dempster_shafer",
    "dice",
    "dissector",
    "dsa",
    "energy",
    "entropy",
    "fdbd",
    "gaussian_density",
    "gen",
    "gini",
    "grad_norm",
    "kl_matching",
    "knn",
    "laplace_variance",
    "lsa",
    "mahalanobis",
    "max_kernel",
    "max_logit",
    "max_softmax",
    "mdsa",
    "nci",
    "nn_guide",
    "odin",
    "outside",
    "probability_margin",
    "rank_feat",
    "react",
    "relation",
    "relative_mahalanobis",
    "scale",
    "she",
    "sngp_variance",
    "vim",
    "vra",
]
