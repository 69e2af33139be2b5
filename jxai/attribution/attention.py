"""What layers of attention say: their probabilities multiplied through the layers, alone or weighed by the gradient of the score.

Attention is found in the traced function by what it computes (`jxai.tracing.attention`), not by a name: heads, masks, scales and class tokens however they are
written. All layers must look at the same tokens, one layer after another. What is explained is the token that f reads: which tokens of the last layer reach
the output is followed through the program; where it is one (a class token, the last of a sequence), its row is taken, where they are several, the mean of their
rows; and where f pools its tokens by an attention of one query, that attention. Tokens that are no position of x, such as a class token, are left out of the
map, which the others' patches are laid out as.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jxai.attribution.activation import resize
from jxai.callables import plainly, vary, varying
from jxai.scores import objective, one_of, wide
from jxai.tracing import interpret, taps
from jxai.tracing.stacks import Mixing, Stack, stack
from jxai.typing import Array, Model

__all__ = ["attention_rollout", "chefer"]

FUSIONS: dict[str, Callable[..., Array]] = {"mean": jnp.mean, "max": jnp.max, "min": jnp.min}


@plainly
def attention_rollout(
    f: Model,
    x: Array,
    target: int | Array | None,
    key: Array | None = None,
    *,
    discard: float = 0.0,
    head_fusion: str = "mean",
    start: int = 0,
    interpolation: str = "bilinear",
) -> Array:
    """How much of each token flows into the one that is read: `R = Â_L ⋯ Â_1`, `Â = ½ fuse_heads(A) + ½ I`, rows that add up to 1.

    It shows where information could come from, whatever the class: the attention of all layers, with skip connections taken for as strong as attention itself.

    Args:
      f: a model with layers of self-attention over the same tokens, `x -> logits [K]`. x: `[H, W, C]`, `[T, D]` … target: unused. key: unused.
      discard: the share of the smallest of a layer's fused probabilities that are set to 0, in [0, 1); vit-explain takes 0.9, the paper none.
      head_fusion: `"mean"` (the paper), `"max"` or `"min"` (vit-explain) over heads.
      start: how many layers are left out in front.
      interpolation: of the map over the positions of x: `"bilinear"`, `"bicubic"`, `"nearest"`.

    Returns:
      `[H, W, 1]` (a sequence: `[T, 1]`), not negative; before it is resized it adds up to 1 with the tokens that have no position.

    Raises:
      ValueError: f has no attention, or attention that cannot be multiplied through (windows, other tokens, channels), with all that was found;
        unknown options; `discard` or `start` out of range.

    Cost: 1 forward pass.
    Reference: Abnar & Zuidema 2020, "Quantifying Attention Flow in Transformers", ACL.
    """
    one_of("head_fusion", head_fusion, tuple(FUSIONS))
    if not 0 <= discard < 1:
        raise ValueError(f"{discard=} must be in [0, 1): a share of the probabilities")
    objective(f, x, target)  # bad arguments fail before f is walked
    found = stack(f, x)
    _check_start(start, found)
    attention = _Run(found, x)
    probabilities = [wide(a) for a in attention.at(None)[1]]
    fused = [_kept(FUSIONS[head_fusion](a, axis=0), discard) for a in probabilities]
    reads = _reads(found, fused)
    for a in reversed(fused[start : len(found.layers)]):
        mixed = (a + jnp.eye(found.num_tokens, dtype=a.dtype)) / 2
        reads = reads @ (mixed / mixed.sum(-1, keepdims=True))
    return _laid_out(reads, found, x, interpolation)


@plainly
def chefer(
    f: Model,
    x: Array,
    target: int | Array | None,
    key: Array | None = None,
    *,
    start: int = 0,
    score: str = "logit",
    interpolation: str = "bilinear",
) -> Array:
    """Attention weighed by the gradient of the score: `R ← R + Ā R` from `R = I`, layer after layer, `Ā = mean_heads ReLU(∂s/∂A ⊙ A)`.

    Args:
      f: a model with layers of self-attention over the same tokens, `x -> logits [K]`. x: `[H, W, C]`, `[T, D]` … target: class, or None for a scalar f. key: unused.
      start: how many layers are left out in front.
      score: `"logit"` (the paper's), `"probability"` or `"sigmoid"`.
      interpolation: of the map over the positions of x: `"bilinear"`, `"bicubic"`, `"nearest"`.

    Returns:
      `[H, W, 1]` (a sequence: `[T, 1]`), not negative, without a unit: the row of R of the token that is read (the mean of the rows of several), or of
      an attention that pools the tokens `Ā R`.

    Raises:
      ValueError: f has no attention, or attention that cannot be multiplied through (windows, other tokens, channels), with all that was found;
        unknown options; `start` out of range; see also `jxai.scores.objective`.

    Cost: 1 forward pass and 1 backward pass down to the first attention.
    Reference: Chefer, Gur & Wolf 2021, "Generic Attention-Model Explainability for Interpreting Bi-Modal and Encoder-Decoder Transformers", ICCV.
    """
    objective(f, x, target, score)  # bad arguments fail before f is walked
    found = stack(f, x)
    _check_start(start, found)
    attention = _Run(found, x)

    def explained(added: list[Array]) -> tuple[Array, list[Array]]:
        out, probabilities = attention.at(added)
        return (wide(out) if target is None else objective(lambda v: v, out, target, score)(out)), probabilities

    slopes, probabilities = jax.grad(explained, has_aux=True)(attention.nothing())
    weighed = [_positive(wide(g) * wide(a)).mean(0) for g, a in zip(slopes, probabilities)]
    reads = _reads(found, weighed)
    for a in reversed(weighed[start : len(found.layers)]):
        reads = reads + reads @ a
    return _laid_out(reads, found, x, interpolation)


class _Run:
    """A function run with its layers' probabilities read, `[heads, queries, keys]`, and something added to them."""

    def __init__(self, found: Stack, x: Array) -> None:
        self.found, self.x = found, x
        self.mixings: tuple[Mixing, ...] = (*found.layers, *([found.pooling] if found.pooling else []))
        self.program = interpret.flatten(found.traced, interpret.around(*(one.path for one in self.mixings)))
        self.places = {one.path: n for n, one in enumerate(self.mixings)}
        made = {step.path: self.program.avals[step.outputs[0]] for step in self.program.steps if step.outputs}
        self.avals = [made[one.path] for one in self.mixings]

    def nothing(self) -> list[Array]:
        """Zeros to add, each device's own."""
        zeros = [jnp.zeros(one.shape, aval.dtype) for one, aval in zip(self.mixings, self.avals)]
        return vary(zeros, varying((self.found.traced.weights, self.x)))

    def at(self, added: list[Array] | None) -> tuple[Array, list[Array]]:
        """What f returns, and the probabilities, with these numbers added to them."""
        seen: dict[int, Array] = {}

        def edit(step: interpret.Step, outputs: list[Array], _: dict[int, Array]) -> list[Array]:
            n = self.places.get(step.path)
            if n is None:
                return outputs
            seen[n] = self.mixings[n].matrices(outputs[0])
            return outputs if added is None else [outputs[0] + self.laid_back(n, added[n]), *outputs[1:]]

        values = interpret.run(self.program, interpret.start(self.program, self.found.traced, self.x), edit=edit)
        out = jax.tree.unflatten(self.found.traced.out_tree, [values[r] for r in self.program.outputs])
        return out, [seen[n] for n in range(len(self.mixings))]

    def laid_back(self, n: int, matrices: Array) -> Array:
        """Matrices in the layout of the probabilities."""
        order, shape = self.mixings[n].order, self.avals[n].shape
        return matrices.reshape([shape[a] for a in order]).transpose(np.argsort(order))


def _check_start(start: int, found: Stack) -> None:
    if isinstance(start, bool) or not 0 <= start < len(found.layers):
        raise ValueError(f"{start=} must be at least 0 and below {len(found.layers)}, the number of f's layers of self-attention")


def _reads(found: Stack, fused: list[Array]) -> Array:
    """How much of each token of the last layer is read, `[tokens]`."""
    if found.pooling is not None:
        return fused[-1].mean(0)
    return jnp.asarray(found.read / found.read.sum(), fused[-1].dtype)


def _positive(values: Array) -> Array:
    """What is positive, NaN kept: where it is summed at once, XLA takes the greater of NaN and 0 for 0 on a CPU."""
    return jnp.where(values < 0, 0, values)


def _kept(fused: Array, discard: float) -> Array:
    """Probabilities without the smallest share of them."""
    count = int(fused.size * discard)
    if not count:
        return fused
    least = jnp.sort(fused.ravel())[count]
    return jnp.where(fused < least, 0, fused)


def _laid_out(reads: Array, found: Stack, x: Array, interpolation: str) -> Array:
    """Numbers of tokens as a map over the positions of x."""
    layer = found.carrier
    shape = [1] * len(layer.shape)
    for d in found.along:
        shape[d] = layer.shape[d]
    spread = jnp.broadcast_to(reads.reshape(shape), layer.shape)
    return resize(taps.to_map(spread, layer).mean(-1), layer, x, False, interpolation)
