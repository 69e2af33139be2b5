"""STEEX: counterfactuals of a scene by the style of its parts, the layout kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jxai.counterfactual.search import Candidate, Search, clipped, method, wanted
from jxai.counterfactual.search.constraints import Constraint, frozen, settled
from jxai.counterfactual.search.descent import descent
from jxai.scores import check_example, wide, within
from jxai.typing import Array, Clip, Model


@method
def steex(
    *,
    generator: Any,
    segments: Array,
    parts: Sequence[int] | None = None,
    proximity: float = 0.3,
    threshold: float = 0.5,
    steps: int = 100,
    learning_rate: float = 0.01,
    optimizer: Callable[[float], optax.GradientTransformation] = optax.adam,
    clip: Clip | None = (0.0, 1.0),
    region: Array | None = None,
    constraints: Sequence[Constraint] = (),
) -> Search:
    """STEEX: `min_z −log p(target | g(z, S)) + λ Σ_c ‖z_c − z_c⁰‖²` over the style codes z_c of the chosen parts c of x; the layout S stays.

    Args:
      generator: a semantic autoencoder: `encode(x, segments) -> codes [R, D]` and `decode(codes, segments) -> x`, such as `models.SemanticAutoencoder`.
      segments: S, integer labels in [0, R) over the positions of x (`[H, W]`). It may differ by example (`per_example`).
      parts: labels of the parts whose codes may change; None is all.
      proximity: λ >= 0. threshold: of the probability, in (0, 1). steps: at most.
      learning_rate, optimizer, clip, region, constraints: as in `diffeomorphic`.

    Returns:
      A `Counterfactual`, its latent the codes `[R, D]`, those of parts not chosen unchanged to the bit; valid where `p(target) >= threshold`.

    Raises:
      ValueError: bad x, target or option, a generator that does not fit, a part out of range.

    Cost: a forward and a backward pass of decoder and model for each step.
    Reference: Jacob et al. 2022, "STEEX: Steering Counterfactual Explanations with Semantics", ECCV, arXiv 2111.09094.
    """
    within(0.0, 1.0, threshold=threshold)
    within(0.0, math.inf, proximity=proximity)
    options = dict(generator=generator, segments=segments, parts=None if parts is None else tuple(int(p) for p in parts), proximity=proximity)
    options |= dict(threshold=threshold, clip=clip, constraints=(*constraints, *frozen(region)))
    return descent(_start, _look, options, steps=steps, learning_rate=learning_rate, optimizer=optimizer, project=_chosen)


def _start(f: Model, x: Array, target: Array, key: Array | None, options: dict[str, Any]) -> tuple[Array, dict[str, Array]]:
    check_example(x)
    generator, segments = options["generator"], options["segments"]
    if not jnp.issubdtype(jnp.result_type(segments), jnp.integer) or jnp.shape(segments) != x.shape[: jnp.ndim(segments)]:
        raise ValueError(f"segments must be integer labels over the positions of x {x.shape}, got {jnp.result_type(segments)} of shape {jnp.shape(segments)}")
    segments = jnp.asarray(segments)
    for name in ("encode", "decode"):
        if not callable(getattr(generator, name, None)):
            raise ValueError(f"generator={type(generator).__name__} must have a method {name}: encode(x, segments) -> codes, decode(codes, segments) -> x")
    codes = wide(generator.encode(wide(x), segments))
    out = jax.eval_shape(lambda z: generator.decode(z, segments), codes)
    if codes.ndim != 2 or out.shape != x.shape:
        raise ValueError(f"generator must make codes [R, D] and examples {x.shape}, got {codes.shape} and {out.shape}")
    parts = options["parts"]
    if parts is not None and (not parts or min(parts) < 0 or max(parts) >= len(codes)):
        raise ValueError(f"{parts=} must be labels in [0, {len(codes)}), at least one")
    free = np.ones(len(codes), bool) if parts is None else np.isin(np.arange(len(codes)), parts)
    return codes, {"x": x, "target": wanted(target), "start": codes, "segments": segments, "free": jnp.asarray(free)[:, None]}


def _chosen(codes: Array, memory: dict[str, Array], options: dict[str, Any]) -> Array:
    return jnp.where(memory["free"], codes, memory["start"])


def _look(f: Model, codes: Array, memory: dict[str, Array], options: dict[str, Any]) -> tuple[Array, tuple[Candidate, dict]]:
    x = memory["x"]
    point = options["generator"].decode(codes, memory["segments"])
    point = settled(clipped(point, options["clip"]), wide(x), options["constraints"]).astype(x.dtype)
    logits = wide(f(point))
    log_p = jax.nn.log_softmax(logits)[memory["target"]]
    loss = -log_p + options["proximity"] * ((codes - memory["start"]) ** 2).sum()
    valid = log_p >= jnp.log(options["threshold"])
    return loss, (Candidate(point, codes, logits, valid, -log_p, valid), memory)
