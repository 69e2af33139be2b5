"""`adapt`: a model of any framework and convention as a pytree callable of one example that returns logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jxai.adapters import judged
from jxai.adapters.convention import Convention, explained, named, pixels_of, settled
from jxai.adapters.recognition import Call, recognised
from jxai.scores import one_of
from jxai.typing import Array, PyTree


def adapt(
    model: Any,
    *weights: PyTree,
    example: Array | tuple[Array, ...] | dict[str, Array] | None = None,
    explain: str | int | None = None,
    batched: bool | None = None,
    channels: str | None = None,
    pixels: tuple[float, float] | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    dtype: str | None = None,
    output: str | int | tuple[str | int, ...] | None = None,
    returns: str = "logits",
    arguments: Mapping[str, Any] | None = None,
    rngs: PyTree = None,
    mutable: Sequence[str] | None = None,
) -> Any:
    """The model as jxai's functions take it: `f(x) -> logits [K]` of one example, channels last, pixels in [0, 1]; a pytree whose weights are leaves.

    What is not said is as is usual for its kind (below) or, where that does not work on the example, as does: of the ways to call the model
    that are left, exactly one must work, or those that do must give the same numbers; else the error lists what to say. The model itself is not changed.

    Args:
      model: an nnx module (its evaluation view is made: dropout and batch normalisation as they have flags for it), a linen module (or one
        bound to its variables), an Equinox module (inference mode is set), a Haiku function, a Keras model on the JAX backend, a PyTorch
        module, or any function. An argument of its call such as `train`, `training`, `is_training`, `deterministic` or
        `inference` says "evaluation" unless `arguments` says otherwise.
      *weights: what the model does not hold: linen's variables, Haiku's parameters (and state), an Equinox state, a function's first arguments.
      example: one example as jxai will give it (`[H, W, C]` in [0, 1], `[D]` …), on which the adapted model is tried and judged. Of several
        inputs a tuple or a dictionary of them, those that are not explained as the model takes them. A PyTorch module, which is translated, needs one:
        PyTorch computes it, too, and other numbers are an error.
      explain: of several inputs, the name or the place of the one that is explained; the others are held as they are in `example`. None
        gives a model of all of them, which `jointly` explains.
      batched: whether the model wants a batch `[B, …]` and returns one. Usual: it does in Keras and PyTorch; elsewhere the example shows, and without one, it does not.
      channels: `"last"`, or `"first"` for a model of `[C, H, W]`. Usual: last; first for images in PyTorch; in Equinox the example shows.
      pixels: `(low, high)`, what the model knows pixels of 0 and 1 as: `(0, 255)`, `(−1, 1)`. None: (0, 1), and of an integer `dtype` (0, 255).
      mean, std: what the model's pixels are normalised by, in units of `pixels`: one number, or one for each channel.
      dtype: the type that the model insists on: `"uint8"` rounds (black-box methods only: rounding has no derivative), `"bfloat16"` casts.
      output: which of the arrays that the model returns: a key, an attribute, a place, or a path of these. None: the only one.
      returns: `"logits"`; `"probabilities"` of classes that exclude each other (`log p` is taken); `"sigmoid"`, a probability for each of several
        labels, or for one (`log p − log(1 − p)`; explain these, and logits of such models, with `score="sigmoid"`); or `"value"`, one number
        that is explained as it is, with `target=None`. One logit as a number becomes `[1]`.
      arguments: more arguments of the model's call, by name.
      rngs: a key (Haiku) or keys by name (linen) for a model that draws when it is evaluated: the same at every call.
      mutable: linen's collections that a call changes; what it makes of them is dropped.

    Returns:
      A pytree callable, for `jit`, `grad`, `vmap` and everything in jxai. Held inputs are leaves, but no weights.

    Raises:
      ValueError: the model is of no known kind, or not as its kind must be; an option does not fit; or of the example: no way to call the model
        works, several do and differ, `output` is not there or several arrays are, the answer is no vector of logits, is or is not
        probabilities as `returns` says, or the model changes its state or draws random numbers, as in training mode.
    """
    one_of("returns", returns, judged.RETURNS)
    mutable = (mutable,) if isinstance(mutable, str) else mutable
    if mutable is not None and not (isinstance(mutable, Sequence) and all(isinstance(name, str) for name in mutable)):
        raise ValueError(f"{mutable=} must be names of collections, such as ['batch_stats']")
    if arguments is not None and not (isinstance(arguments, Mapping) and all(isinstance(name, str) for name in arguments)):
        raise ValueError(f"{arguments=} must be a dictionary of arguments by name")
    names = named(example)
    if explain is not None and (isinstance(explain, bool) or explain not in (names or ())):
        raise ValueError(
            f"{explain=} must be one of {names}, the inputs in example" if names else f"{explain=} names one of several inputs, which example must hold"
        )
    whole = bool(names) and explain is None
    asked = Convention(batched, channels, pixels_of(pixels, mean, std, dtype), _path(output), explain)
    if whole and (asked.channels, asked.pixels) != (None, None):
        raise ValueError(
            "several inputs at once are taken as the model has them: channels, pixels, mean, std and dtype need explain=, which one of them is meant"
        )
    native = recognised(model, weights, Call(arguments, rngs, None if mutable is None else tuple(mutable)))
    f = judged.as_logits(settled(native, asked, example), returns)
    if example is not None:
        judged.check(f, returns, explained(example, explain))
    return f


def _path(output: str | int | tuple[str | int, ...] | None) -> tuple[str | int, ...]:
    return () if output is None else output if isinstance(output, tuple) else (output,)
