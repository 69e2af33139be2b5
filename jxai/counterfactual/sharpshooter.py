"""SharpShooter: the first point of the target class on a straight way through a generator's codes; no gradients."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jxai import loops
from jxai.counterfactual.search import Candidate, Search, method, wanted
from jxai.counterfactual.search.constraints import Constraint, frozen
from jxai.counterfactual.search.direct import direct
from jxai.counterfactual.search.generator import decoded
from jxai.latent import check_generator, encoded
from jxai.scores import positive, wide, within
from jxai.typing import Array, Clip, Model


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Translated:
    """x as an example of another class by a conditional autoencoder, `decode(encode(x, p(x)), target)`, p the probabilities of the model f.

    Attributes:
      f: a model. autoencoder: with `encode(x, y) -> z` and `decode(z, y) -> x` of a class or of probabilities y, such as `models.ConditionalVAE`.
    """

    f: Model
    autoencoder: Any

    def __call__(self, x: Array, target: Array) -> Array:
        return self.autoencoder.decode(self.autoencoder.encode(x, jax.nn.softmax(wide(self.f(x)))), target)


@method
def sharpshooter(
    *,
    generator: Any,
    means: Array | None = None,
    conditional: Any = None,
    threshold: float = 0.5,
    num_points: int = 64,
    chunk: int | None = None,
    clip: Clip | None = (0.0, 1.0),
    region: Array | None = None,
    constraints: Sequence[Constraint] = (),
) -> Search:
    """SharpShooter: x is projected to the target class, and the first of K points on the latent way there that reaches it is taken.

    `z(a) = (1 − a) E(x) + a z_t`, the least a in {0, 1/(K−1), …, 1} with `p(target | g(z(a))) >= threshold`. The projection z_t is the shift by class
    means, `E(x) + μ_target − μ_o`, o the predicted class of x, or `E(conditional(x, target))`.

    Args:
      generator: with `decode(z) -> x` and `encode(x) -> z`.
      means: μ `[K, *shape of z]`, the mean code of each class (`class_prototypes`); either this or `conditional`, a pytree callable
        `(x, target) -> an example like x of the target class`, such as `Translated`.
      threshold: of the probability, in (0, 1). num_points: K >= 2. chunk: points at once (None: what suits the device).
      clip, region, constraints: as in `diffeomorphic`.

    Returns:
      A `Counterfactual` of 0 steps; where no point reaches the threshold, the one of greatest probability, not valid.

    Raises:
      ValueError: bad x, target or option, both or none of `means` and `conditional`, one that does not fit.

    Cost: K + 1 forward passes of decoder and model, one or two of the encoder.
    Reference: Barr et al. 2021, "Counterfactual Explanations via Latent Space Projection and Interpolation", arXiv 2112.00890; the two projections and
      the even grid are ours.
    """
    within(0.0, 1.0, threshold=threshold)
    positive(num_points=num_points)
    if num_points < 2:
        raise ValueError(f"{num_points=} must be 2 or more: both ends of the way")
    if (means is None) == (conditional is None):
        raise ValueError("means or conditional must be given, and not both: how x is projected to the target class")
    options = dict(generator=generator, means=means, conditional=conditional, threshold=threshold, num_points=num_points, chunk=chunk, clip=clip)
    return direct(_shot, _check, {**options, "constraints": (*constraints, *frozen(region))})


def _check(f: Model, x: Array, target: Array, options: dict[str, Any]) -> None:
    wanted(target)
    check_generator(options["generator"], x)
    if options["conditional"] is not None:
        made = jax.eval_shape(lambda v, t: options["conditional"](v, t), x, jnp.asarray(target))
        if made.shape != x.shape:
            raise ValueError(f"conditional must make an example of shape {x.shape}, got {made.shape}")
        return
    classes, code = (jax.eval_shape(lambda v, g=g: g(v), x).shape for g in (f, options["generator"].encode))
    if jnp.shape(options["means"]) != (*classes, *code):
        raise ValueError(f"means must have shape {[*classes, *code]}, got {list(jnp.shape(options['means']))}")


def _shot(f: Model, x: Array, target: Array, key: Array | None, options: dict[str, Any]) -> Candidate:
    generator, n = options["generator"], options["num_points"]
    z = encoded(generator, x)
    if options["conditional"] is None:
        means = jnp.asarray(options["means"])
        goal = z + (means[target] - means[f(x).argmax()]).astype(z.dtype)
    else:
        goal = encoded(generator, options["conditional"](x, target))
    at = lambda i: jax.tree.map(lambda u, v: u + i / (n - 1) * (v - u), z, goal)

    def look(i: Array) -> tuple[Array, Array]:
        point = decoded(generator, at(i), x, options["clip"], options["constraints"])
        return point, wide(f(point))

    log_p = loops.stack(lambda i: jax.nn.log_softmax(look(i)[1])[target], n, loops.at_once(x, options["chunk"]))
    enough = log_p >= jnp.log(options["threshold"])
    chosen = jnp.where(enough.any(), jnp.argmax(enough), jnp.argmax(log_p))
    point, logits = look(chosen)
    return Candidate(point, at(chosen), logits, enough.any(), -log_p[chosen], enough.any())
