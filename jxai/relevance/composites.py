"""Which rule for which kind of step: tables from what a step *is* to a rule, and those that the literature names."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from jxai.relevance import products, rules

Rule = Callable[..., Any]

LINEAR = ("first", "convolution", "dense", "sum", "average_pooling")
"""Kinds whose rules are of `jxai.relevance.rules`' form; so are those of `activation` and `max_pooling`."""
PRODUCTS = ("normalisation", "product", "matrix_product")
"""Kinds whose rules are product rules of `jxai.relevance.products`."""


@dataclasses.dataclass(frozen=True)
class Composite:
    """A rule for each kind of step; what is not given is the rule of `"epsilon"`.

    A rule is a function of `jxai.relevance.rules` (of `jxai.relevance.products` for `normalisation`, `product`, `softmax` and `matrix_product`), a
    `functools.partial` of one, or one of your own of the same form. Options of a call (`epsilon=`, `gamma=`, `low=`, `high=`) reach every rule that
    takes them and sets none of its own.

    Attributes:
      first: of dense and convolution steps with nothing but moves, constant shifts and scales between them and x; None: as the others.
      convolution, dense: of linear maps. sum: of sums of values, and of a value and a constant. average_pooling: of sums over entries.
      activation: of functions of one value, entry by entry. max_pooling: of maxima. normalisation: of a value times the factor that undoes its scale.
      product, matrix_product: of two values that both depend on x. softmax: of softmaxes.
    """

    first: Rule | None = None
    convolution: Rule = rules.epsilon
    dense: Rule = rules.epsilon
    activation: Rule = rules.identity
    sum: Rule = rules.epsilon
    average_pooling: Rule = rules.norm
    max_pooling: Rule = rules.winner_takes_all
    normalisation: Rule = products.signal
    product: Rule = products.signal
    softmax: Rule = products.taylor
    matrix_product: Rule = products.half

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not (callable(value) or (field.name == "first" and value is None)):
                raise ValueError(f"{field.name}={value!r} must be a rule: a function of jxai.relevance.rules or jxai.relevance.products, or one of your own")


COMPOSITES: Mapping[str, Composite] = {
    "epsilon": Composite(),
    "z_plus": Composite(convolution=rules.z_plus, dense=rules.z_plus),
    "epsilon_plus": Composite(convolution=rules.z_plus),
    "epsilon_plus_flat": Composite(first=rules.flat, convolution=rules.z_plus),
    "epsilon_gamma_box": Composite(first=rules.z_box, convolution=rules.gamma),
    "epsilon_alpha2_beta1": Composite(convolution=functools.partial(rules.alpha_beta, alpha=2.0, beta=1.0)),
    "epsilon_alpha2_beta1_flat": Composite(first=rules.flat, convolution=functools.partial(rules.alpha_beta, alpha=2.0, beta=1.0)),
    "excitation_backprop": Composite(convolution=rules.z_plus, dense=rules.z_plus, activation=rules.slope),
    "attn_lrp": Composite(),
    "cp_lrp": Composite(softmax=products.constant, matrix_product=products.signal),
}
"""By name, as zennit's, with what is first told by the graph: there it is what was registered first, and for the z-box the first convolution alone."""


def named(composite: str | Composite) -> Composite:
    """The composite of a name, or itself.

    Raises:
      ValueError: no such name, with the nearest.
    """
    if isinstance(composite, Composite):
        return composite
    if not isinstance(composite, str) or composite not in COMPOSITES:
        near = difflib.get_close_matches(str(composite), COMPOSITES, 3, 0.3) if isinstance(composite, str) else []
        known = f"; the nearest are {', '.join(near)}" if near else ""
        raise ValueError(f"{composite=} must be one of {tuple(COMPOSITES)}, or a jxai.relevance.Composite of your own{known}")
    return COMPOSITES[composite]


def with_options(rule: Rule, options: Mapping[str, Any]) -> Rule:
    """The rule with those options that it takes and does not set itself."""
    set_already = rule.keywords if isinstance(rule, functools.partial) else {}
    taken = {name: value for name, value in options.items() if name in inspect.signature(rule).parameters and name not in set_already}
    return functools.partial(rule, **taken) if taken else rule
