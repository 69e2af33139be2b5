"""Counterfactuals by a network that was trained to make them: one pass, no search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jxai.callables import Fresh
from jxai.counterfactual.search import Candidate, Search, clipped, method, wanted
from jxai.counterfactual.search.constraints import Constraint, OneHot, frozen, settled
from jxai.counterfactual.search.direct import direct
from jxai.counterfactual.search.domain import check_constraints
from jxai.scores import check_example, wide, within
from jxai.typing import Array, Clip, Model


@method
def vcnet(
    *,
    network: Any = None,
    probability: float = 1.0,
    clip: Clip | None = (0.0, 1.0),
    region: Array | None = None,
    constraints: Sequence[Constraint] = (),
) -> Search:
    """VCNet's counterfactual: the code of x decoded with the probabilities of the target class, `decode(encode(x), p_target, x)`, one-hot groups rounded.

    Args:
      network: a `models.VCNet`, or a pytree with `encode(x) -> z`, `decode(z, p [K], x) -> x` and `groups` (the one-hot groups of features); None is f
        itself.
      probability: of the target that is given to the decoder, in (0, 1]; the other classes share the rest as f has them at x.
      clip, region, constraints: as in `diffeomorphic`.

    Returns:
      A `Counterfactual` of 0 steps; valid where f predicts the target.

    Raises:
      ValueError: bad x, target or option, a network without these methods.

    Cost: a pass of the network, and one of f.
    Reference: Guyomard et al. 2022, "VCNet: A Self-Explaining Model for Realistic Counterfactual Generation", ECML PKDD, arXiv 2212.10847.
    """
    within(math.ulp(0.0), 1.0, probability=probability)
    return direct(_decoded, _check, dict(network=network, probability=probability, clip=clip, constraints=(*constraints, *frozen(region))))


def _check(f: Model, x: Array, target: Array, options: dict[str, Any]) -> None:
    wanted(target)
    check_example(x)
    network = _network(f, options)
    for name in ("encode", "decode"):
        if not callable(getattr(network, name, None)):
            raise ValueError(f"network={type(network).__name__} must have a method {name}, as models.VCNet has")
    check_constraints(_rounded(network), x)
    p = jax.eval_shape(lambda v: wide(f(v)), x)
    made = jax.eval_shape(lambda v, p: network.decode(network.encode(v), p, v), wide(jnp.asarray(x)), p)
    if made.shape != x.shape:
        raise ValueError(f"network makes examples of shape {made.shape}, but x has {x.shape}")


def _network(f: Model, options: dict[str, Any]) -> Any:
    """What encodes and decodes: the network that is named, or f itself."""
    if options["network"] is not None:
        return options["network"]
    return f.f if isinstance(f, Fresh) else f


def _rounded(network: Any) -> tuple[Constraint, ...]:
    groups = tuple(getattr(network, "groups", ()))
    return (OneHot(groups),) if groups else ()


def _decoded(f: Model, x: Array, target: Array, key: Array | None, options: dict[str, Any]) -> Candidate:
    network = _network(f, options)
    own = jax.nn.softmax(wide(f(x)))
    is_target = jnp.arange(own.size) == target
    rest = jnp.where(is_target, 0, own)
    # Where f is certain of the target there is no rest to share out.
    rest = jnp.where(rest.sum() > 0, rest / jnp.where(rest.sum() > 0, rest.sum(), 1), 0)
    p = jnp.where(is_target, options["probability"], (1 - options["probability"]) * rest)
    v = wide(x)
    z = wide(network.encode(v))
    point = network.decode(z, p, v)
    point = settled(clipped(point, options["clip"]), v, (*_rounded(network), *options["constraints"])).astype(x.dtype)
    logits = wide(f(point))
    valid = logits.argmax() == target
    return Candidate(point, z, logits, valid, -jax.nn.log_softmax(logits)[target], valid)
