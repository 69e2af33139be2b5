"""Attention and norms as Keras and PyTorch write them are found, and rollout is that of the probabilities that these libraries hand out."""

import importlib.util
import os

import jax
import numpy as np
import pytest

import jxai
from jxai.attribution import attention_rollout
from jxai.tracing import interpret
from jxai.tracing.normalisations import normalisations

os.environ.setdefault("KERAS_BACKEND", "jax")
X = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)

pytestmark = pytest.mark.slow


def rolled(probabilities):
    """Of one layer's `[heads, T, T]`, all tokens read."""
    return ((probabilities.mean(0) + np.eye(len(X))) / 2).mean(0)


def normalised(f):
    """The shapes of what is normalised, and whether a mean is taken off."""
    program = interpret.flatten(interpret.trace(f, X), interpret.everywhere)
    return [(program.avals[one.argument].shape, one.centred) for one in normalisations(program)]


def test_keras():
    keras = pytest.importorskip("keras")
    layers, start = keras.layers, keras.Input(X.shape)
    norm, attention = layers.LayerNormalization(), layers.MultiHeadAttention(2, 4)
    mixed = layers.Add()([start, attention(norm(start), norm(start), use_causal_mask=True)])
    end = layers.Dense(3)(layers.GlobalAveragePooling1D()(layers.UnitNormalization()(mixed)))
    f = jxai.adapt(keras.Model(start, end))
    normed = norm(X[None])
    _, probabilities = attention(normed, normed, use_causal_mask=True, return_attention_scores=True)
    found = jax.jit(lambda f, x: attention_rollout(f, x, 0))(f, X)
    np.testing.assert_allclose(found[:, 0], rolled(np.asarray(probabilities[0])), atol=1e-6)
    assert {shape for shape, _ in normalised(f)} == {(1, 6, 8)}


def test_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch is an extra of its own: pip install '.[torch]'")
    if importlib.util.find_spec("torchax") is None:
        pytest.skip("torchax is not installed: pip install '.[torch]'")

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)
            self.norm, self.head = torch.nn.GroupNorm(2, 8), torch.nn.Linear(8, 3)

        def forward(self, x):
            x = self.norm(self.layer(x).transpose(1, 2)).transpose(1, 2)
            return self.head(torch.nn.functional.normalize(x, dim=-1).mean(1))

    torch.manual_seed(0)
    net = Net().eval()
    f = jxai.adapt(net, example=X)
    normed = net.layer.norm1(torch.tensor(X[None]))
    _, probabilities = net.layer.self_attn(normed, normed, normed, average_attn_weights=False)
    found = jax.jit(lambda f, x: attention_rollout(f, x, 0))(f, X)
    np.testing.assert_allclose(found[:, 0], rolled(probabilities[0].detach().numpy()), atol=1e-6)
    assert [centred for _, centred in normalised(f)] == [True, True, True, False]
