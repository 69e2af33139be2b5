"""How sure a model is, and whether it knows when it does not know: scores, what they are fitted on, networks that say it, and what judges them.

- `scores`: `score(f, x, key=None, *, fitted=None, options)` of a model, each `formulas.NAME` of its answer; `heads`: the last linear map and the features before it.
- `formulas`: the same on one example's arrays, beside the `fit_NAME` of what must be fitted. `density`: Gaussian densities of features.
- `decomposition`: what of an entropy is the data's and what the model's; `predictive`: the same of a model or an ensemble at a point.
- `fitting`: sums over many examples, on the host; `rows`: a block of them at a time. `checks`: what arrays must be. `scoring`: how a formula becomes a score. `storing`: what was fitted, in files.
- `perturbing`: the scores that let a model answer again. `generative`: those of models of the examples themselves.
- `ensembles`, `dropout`, `laplace`, `sngp`: models that give samples `[S, K]`; `samples`: how much these disagree. `duq`; `networks`: DUQ and SNGP to be trained.
- `calibration`: whether what a model is sure of comes true as often as it says, and recalibration.
- `selective`, `detection`, `conformal`: what judges uncertainties over a data set, and sets of classes with a promise; `resampling`: their intervals; `counting`: areas and rates of counts, those of many draws at once.
- `uqgan`: a one-vs-all classifier shielded by a generator. `ambiguess`: images that are truly ambiguous, to judge scores by.

What may be touched: a score is higher where the model is less certain, everywhere; what must be fitted is a registered dataclass from a function of arrays
(features, logits, labels), one idea in a file. `jxai.testing.check_score` holds scores to that.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from jxai.uncertainty import calibration as calibration
from jxai.uncertainty import conformal as conformal
from jxai.uncertainty import detection as detection
from jxai.uncertainty import duq as duq
from jxai.uncertainty import formulas as formulas
from jxai.uncertainty import selective as selective
from jxai.uncertainty import sngp as sngp
from jxai.uncertainty.decomposition import Decomposition, decompose
from jxai.uncertainty.density import GaussianDensity, fit_gaussian_density
from jxai.uncertainty.dropout import MonteCarlo, monte_carlo, sampling
from jxai.uncertainty.ensembles import Ensemble, ensemble, train_ensemble
from jxai.uncertainty.formulas.activations import React, Vra, fit_react, fit_vra
from jxai.uncertainty.formulas.directions import Boundaries, NeuralCollapse, fit_fdbd, fit_nci
from jxai.uncertainty.formulas.dissector import Dissector, fit_dissector
from jxai.uncertainty.formulas.gaussians import Mahalanobis, RelativeMahalanobis, fit_mahalanobis, fit_relative_mahalanobis
from jxai.uncertainty.formulas.neighbours import Guide, Neighbours, fit_knn, fit_nn_guide
from jxai.uncertainty.formulas.relations import RelationGraph, fit_relation
from jxai.uncertainty.formulas.residual import VirtualLogit, fit_vim
from jxai.uncertainty.formulas.surprise import DistanceSurprise, LikelihoodSurprise, MahalanobisSurprise, fit_dsa, fit_lsa, fit_mdsa
from jxai.uncertainty.formulas.templates import Patterns, Templates, fit_kl_matching, fit_she
from jxai.uncertainty.formulas.weights import Dice, fit_dice
from jxai.uncertainty.generative import Typicality, fit_typicality, reconstruction_error, typicality
from jxai.uncertainty.heads import Answers, Head, answers, features, linear_head
from jxai.uncertainty.laplace import Laplace, LaplaceModel, fit_laplace
from jxai.uncertainty.samples import Averaged, expected_entropy, mean_entropy, mean_max_softmax, mutual_information, sampled, variation_ratio
from jxai.uncertainty.scores import (
    ash,
    dempster_shafer,
    dice,
    dissector,
    dsa,
    energy,
    entropy,
    fdbd,
    gaussian_density,
    gen,
    gini,
    grad_norm,
    kl_matching,
    knn,
    laplace_variance,
    lsa,
    mahalanobis,
    max_kernel,
    max_logit,
    max_softmax,
    mdsa,
    nci,
    nn_guide,
    odin,
    outside,
    probability_margin,
    rank_feat,
    react,
    relation,
    relative_mahalanobis,
    scale,
    she,
    sngp_variance,
    vim,
    vra,
)
from jxai.uncertainty.sngp import SNGPModel, SNGPPosterior, fit_sngp
from jxai.uncertainty.storing import load, save

if TYPE_CHECKING:
    from jxai.uncertainty import ambiguess, uqgan

_NETWORKS = ("ambiguess", "networks", "uqgan")
"""Modules that define and train networks: imported when they are first named, with flax."""

__all__ = [
    "Answers",
    "Averaged",
    "Boundaries",
    "Decomposition",
    "Dice",
    "Dissector",
    "DistanceSurprise",
    "Ensemble",
    "GaussianDensity",
    "Guide",
    "Head",
    "Laplace",
    "LaplaceModel",
    "LikelihoodSurprise",
    "Mahalanobis",
    "MahalanobisSurprise",
    "MonteCarlo",
    "Neighbours",
    "NeuralCollapse",
    "Patterns",
    "React",
    "RelationGraph",
    "RelativeMahalanobis",
    "SNGPModel",
    "SNGPPosterior",
    "Templates",
    "Typicality",
    "VirtualLogit",
    "Vra",
    "answers",
    "ash",
    "decompose",
    "dempster_shafer",
    "dice",
    "dissector",
    "dsa",
    "energy",
    "ensemble",
    "entropy",
    "expected_entropy",
    "fdbd",
    "features",
    "fit_dice",
    "fit_dissector",
    "fit_dsa",
    "fit_fdbd",
    "fit_gaussian_density",
    "fit_kl_matching",
    "fit_knn",
    "fit_laplace",
    "fit_lsa",
    "fit_mahalanobis",
    "fit_mdsa",
    "fit_nci",
    "fit_nn_guide",
    "fit_react",
    "fit_relation",
    "fit_relative_mahalanobis",
    "fit_she",
    "fit_sngp",
    "fit_typicality",
    "fit_vim",
    "fit_vra",
    "gaussian_density",
    "gen",
    "gini",
    "grad_norm",
    "kl_matching",
    "knn",
    "laplace_variance",
    "linear_head",
    "load",
    "lsa",
    "mahalanobis",
    "max_kernel",
    "max_logit",
    "max_softmax",
    "mdsa",
    "mean_entropy",
    "mean_max_softmax",
    "monte_carlo",
    "mutual_information",
    "nci",
    "nn_guide",
    "odin",
    "outside",
    "probability_margin",
    "rank_feat",
    "react",
    "reconstruction_error",
    "relation",
    "relative_mahalanobis",
    "sampled",
    "sampling",
    "save",
    "scale",
    "she",
    "sngp_variance",
    "train_ensemble",
    "typicality",
    "variation_ratio",
    "vim",
    "vra",
]


def __getattr__(name: str) -> Any:
    if name in _NETWORKS:
        return importlib.import_module(f"jxai.uncertainty.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
