"""Feature visualisation: the picture that excites what a network has learned, by ascent."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jxai import loops
from jxai.callables import plainly
from jxai.concepts.colours import matrix, mean
from jxai.concepts.parametrisations import Fourier, Maco, Parametrisation, Pixel
from jxai.concepts.transformations import Transformation
from jxai.scores import need_key, one_of, positive, within
from jxai.scores import objective as scored
from jxai.typing import Array, Model

__all__ = ["Visualization", "visualize"]

PARAMETRISATIONS: dict[str, type] = {"fourier": Fourier, "maco": Maco, "pixel": Pixel}
SQUASHES = ("sigmoid", "clip")
_START_STREAM, _VIEW_STREAM = 0, 1
_MARGIN = 1e-3
"""How near to an end of the range a sigmoid may begin, whose end is at infinity."""


class Visualization(NamedTuple):
    """What excites an objective, and how that was found."""

    image: Array
    """`[H, W, C]` in [low, high]."""
    transparency: Array
    """`[H, W, C]`, at least 0: `Σ_t |∂L_t / ∂image|`, how much of the objective's attention each place had; as opacity it hides what was never asked for."""
    value: Array
    """`[]`: the objective at the image as it is."""
    history: Array
    """`[steps]`: the objective before each step, over that step's views."""


@plainly
def visualize(
    objective: Model,
    shape: Sequence[int],
    target: int | Array | None = None,
    key: Array | None = None,
    *,
    parametrisation: str | Parametrisation = "fourier",
    steps: int = 256,
    learning_rate: float | Array | None = None,
    optimizer: Callable[..., optax.GradientTransformation] | None = None,
    transformations: str | Transformation | None = "default",
    num_samples: int | None = None,
    chunk: int | None = None,
    size: Sequence[int] | None = None,
    colours: str | Array | None = "natural",
    squash: str = "sigmoid",
    low: float | Array = 0.0,
    high: float | Array = 1.0,
    score: str = "logit",
    start: Array | None = None,
) -> Visualization:
    """The picture `argmax_x E_T L(T(x))`, `x = low + (high − low) σ(buffer(θ) @ M)`, by ascent in θ over random views T.

    Args:
      objective: L, any scalar function of x (`jxai.concepts.channel(f, layer, 3)`, which compiles once for all channels; `lambda x: taps.read(f, x, layer)[..., 3].mean()`), or with
        a target a model. A penalty, or the distance to another picture, is part of it.
      shape: `(H, W, C)` of x. target: a class, or None. key: draws the start and the views.
      parametrisation: θ: `"fourier"`, `"pixel"`, `"maco"`, or one of `Fourier(…)`, `Pixel(…)`, `Maco(…)` with options of its own. What follows with None or
        `"default"` is the parametrisation's: 0.05 and Adam, `Views()` and one of them for the first two, 1.0 and Nadam, `Crops()` and 32 of them for MACO.
      steps: of the ascent. learning_rate: > 0. optimizer: `optax.adam`, or another module-level function of a learning rate.
      transformations: T, `Views(…)`, `Crops(…)` or a function like them; `"default"`; None looks at the picture as it is.
      num_samples: views in each step, whose mean is raised. chunk: views at once (None: `jxai.loops.at_once`).
      size: `(H', W')` of the picture where it is to be larger than x, as for MACO's crops; None: that of x. T makes x of it.
      colours: M, which correlates the channels: `"natural"` is that of photographs for 3 channels and nothing for 1, an array `[C, C]` is one's own (`colour_correlation`), None nothing.
      squash: σ, `"sigmoid"`, or `"clip"`: adds the mean colour and cuts off, so that a pixel that is beyond the range has no gradient.
      low, high: the range of x, numbers or arrays that broadcast against it.
      score: as in attribution methods, where there is a target.
      start: `[H', W', C]` in the range, a picture to begin at instead of noise (feature accentuation: with its distance in the objective, what in it the feature is about is enhanced);
        `"fourier"` and `"pixel"` only. Of what is nearer to an end of the range than 0.001 of it, a sigmoid begins there.

    Returns:
      A `Visualization`.

    Raises:
      ValueError: key is None, shape is no picture's, an unknown parametrisation or squash, colours or a magnitude that do not fit, an objective that is no scalar,
        a count, rate or range that is none, a start of another shape, or of a parametrisation that cannot begin at a picture.

    Cost: `steps · num_samples` forward and backward passes; memory does not depend on either.
    Reference: Olah et al. 2017, "Feature Visualization", Distill; Fel et al. 2023, "Unlocking Feature Visualization for Deeper Networks with MAgnitude Constrained
    Optimization", NeurIPS.
    """
    shape, canvas, made = _checked(shape, size, parametrisation, squash, steps, learning_rate, low, high)
    key = need_key(key, "visualize")
    mixed, middle = matrix(colours, shape[2]), mean(colours, shape[2])
    own = made.settings
    view = own.transformations if isinstance(transformations, str) else transformations
    if isinstance(transformations, str):
        one_of("transformations", transformations, ("default",))
    samples = own.num_samples if num_samples is None else num_samples
    positive(num_samples=samples)
    optimiser = (own.optimizer if optimizer is None else optimizer)(own.learning_rate if learning_rate is None else learning_rate)

    def unit(parameters) -> Array:
        """The picture in [0, 1]."""
        buffer = made.buffer(parameters, canvas)
        buffer = buffer if mixed is None else jnp.matmul(buffer, mixed, precision="highest")
        return jax.nn.sigmoid(buffer) if squash == "sigmoid" else jnp.clip(buffer + middle, 0, 1)

    def ranged(picture: Array) -> Array:
        return low + (jnp.asarray(high, jnp.float32) - low) * picture

    def whole(picture: Array) -> Array:
        return picture if canvas == shape else jax.image.resize(picture, shape, "linear")

    def seen(picture: Array, t: Array, i: Array) -> Array:
        if view is None:
            return ranged(whole(picture))
        draw = jax.random.fold_in(jax.random.fold_in(jax.random.fold_in(key, _VIEW_STREAM), t), i)
        return ranged(view(picture, shape, draw, t / max(steps - 1, 1)))

    if start is None:
        begin = made.start(canvas, jax.random.fold_in(key, _START_STREAM))
    else:
        if jnp.shape(start) != canvas or not hasattr(made, "inverse"):
            can = "Fourier and Pixel can begin at a picture"
            raise ValueError(f"start has shape {jnp.shape(start)} and {parametrisation=}: it must be the picture {canvas}, and {can}")
        given = (jnp.asarray(start, jnp.float32) - low) / (jnp.asarray(high, jnp.float32) - low)
        given = jax.scipy.special.logit(jnp.clip(given, _MARGIN, 1 - _MARGIN)) if squash == "sigmoid" else given - middle
        begin = made.inverse(given if mixed is None else jnp.matmul(given, jnp.linalg.inv(jnp.asarray(mixed)), precision="highest"))
    first = unit(begin)
    value = scored(objective, ranged(whole(first)), target, score)
    once = loops.at_once(jax.ShapeDtypeStruct(shape, jnp.float32), chunk)

    def step(carry, t: Array):
        parameters, state, transparency = carry
        picture, back = jax.vjp(unit, parameters)
        raised = jax.value_and_grad(lambda picture, i: value(seen(picture, t, i)))
        now, slope = loops.means(lambda i: raised(picture, i), samples if view is not None else 1, once)
        update, state = optimiser.update(back(-slope)[0], state, parameters)
        return (optax.apply_updates(parameters, update), state, transparency + jnp.abs(slope)), now

    carry = begin, optimiser.init(begin), jnp.zeros_like(first)
    (parameters, _, transparency), history = loops.scan(step, carry, jnp.arange(steps))
    picture = unit(parameters)
    # The slope above is by the picture in [0, 1]; that by x is smaller where the range is larger.
    return Visualization(ranged(picture), transparency / (jnp.asarray(high, jnp.float32) - low), value(ranged(whole(picture))), history)


def _checked(shape, size, parametrisation, squash, steps, learning_rate, low, high) -> tuple[tuple[int, ...], tuple[int, ...], Parametrisation]:
    """The shapes of x and of the picture, and how it is made."""
    given = tuple(shape) if isinstance(shape, (tuple, list)) else shape
    if not isinstance(given, tuple) or len(given) != 3:
        raise ValueError(f"{shape=} must be (height, width, channels) of a picture; one without colours is (height, width, 1)")
    positive(**dict(zip(("height", "width", "channels"), given)), steps=steps)
    if size is not None and len(tuple(size)) != 2:
        raise ValueError(f"{size=} must be (height, width) of the picture")
    canvas = given if size is None else (*size, given[2])
    positive(height=canvas[0], width=canvas[1])
    one_of("squash", squash, SQUASHES)
    if learning_rate is not None:
        within(math.ulp(0.0), math.inf, learning_rate=learning_rate)
    if not any(isinstance(v, jax.core.Tracer) for v in (low, high)) and not np.all(np.asarray(low) < np.asarray(high)):
        raise ValueError(f"{low=} must be below {high=} everywhere")
    for name, end in (("low", low), ("high", high)):
        extent = jnp.shape(end)
        if len(extent) > 3 or any(a not in (1, b) for a, b in zip(extent[::-1], canvas[::-1])):
            raise ValueError(f"{name} has shape {extent}, which does not broadcast against a picture of {canvas}")
    if isinstance(parametrisation, str):
        return given, canvas, PARAMETRISATIONS[one_of("parametrisation", parametrisation, PARAMETRISATIONS)]()
    if not all(callable(getattr(parametrisation, name, None)) for name in ("start", "buffer")) or isinstance(parametrisation, type):
        known = ", ".join(map(repr, PARAMETRISATIONS))
        raise ValueError(f"{parametrisation=} must be one of {known}, or have start(shape, key) and buffer(parameters, shape), as concepts.Fourier() does")
    return given, canvas, parametrisation
