"""The scores of a model, one for each formula: `score(f, x, key=None, *, fitted=None, options) -> scalar`, higher where f is less certain."""

from __future__ import annotations

from jxai.uncertainty import formulas
from jxai.uncertainty.dissection import dissector as dissector
from jxai.uncertainty.perturbing import odin as odin
from jxai.uncertainty.perturbing import rank_feat as rank_feat
from jxai.uncertainty.scoring import of_formula

__all__ = list(formulas.__all__)

# Of the logits alone.
energy = of_formula(formulas.energy)
entropy = of_formula(formulas.entropy)
gen = of_formula(formulas.gen)
gini = of_formula(formulas.gini)
max_logit = of_formula(formulas.max_logit)
max_softmax = of_formula(formulas.max_softmax)
outside = of_formula(formulas.outside)
probability_margin = of_formula(formulas.probability_margin)

# Of the features, of the last layer, or of what was fitted to many examples.
ash = of_formula(formulas.ash, features=True, fitted=True)
dice = of_formula(formulas.dice, features=True, fitted=True)
dsa = of_formula(formulas.dsa, features=True, fitted=True)
fdbd = of_formula(formulas.fdbd, features=True, fitted=True)
gaussian_density = of_formula(formulas.gaussian_density, features=True, fitted=True)
grad_norm = of_formula(formulas.grad_norm, features=True)
kl_matching = of_formula(formulas.kl_matching, fitted=True)
knn = of_formula(formulas.knn, features=True, fitted=True)
lsa = of_formula(formulas.lsa, features=True, fitted=True)
mahalanobis = of_formula(formulas.mahalanobis, features=True, fitted=True)
mdsa = of_formula(formulas.mdsa, features=True, fitted=True)
nci = of_formula(formulas.nci, features=True, fitted=True)
nn_guide = of_formula(formulas.nn_guide, features=True, fitted=True)
react = of_formula(formulas.react, features=True, fitted=True)
relation = of_formula(formulas.relation, features=True, fitted=True)
relative_mahalanobis = of_formula(formulas.relative_mahalanobis, features=True, fitted=True)
scale = of_formula(formulas.scale, features=True, fitted=True)
she = of_formula(formulas.she, features=True, fitted=True)
vim = of_formula(formulas.vim, features=True, fitted=True)
vra = of_formula(formulas.vra, features=True, fitted=True)

# Of networks that are made to say it.
dempster_shafer = of_formula(formulas.dempster_shafer)
laplace_variance = of_formula(formulas.laplace_variance, features=True, fitted=True)
max_kernel = of_formula(formulas.max_kernel)
sngp_variance = of_formula(formulas.sngp_variance, features=True, fitted=True)
