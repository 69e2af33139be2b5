"""Rules, composites and conditional maps beside zennit's and zennit-crp's, on the same weights, in float64."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is an extra of its own: pip install '.[torch]'")
zennit = pytest.importorskip("zennit", reason="a peer: pip install zennit")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from zennit import canonizers, composites  # noqa: E402
from zennit import rules as theirs  # noqa: E402
from zennit.layer import Sum  # noqa: E402
from zennit.types import BatchNorm  # noqa: E402

from jxai import concepts, relevance, taps  # noqa: E402
from jxai.relevance import rules  # noqa: E402

LOW, HIGH, TARGET = -3.5, 3.5, 2


def normed(h, p):
    return (h - p["running_mean"]) / jnp.sqrt(p["running_var"]) * p["weight"] + p["bias"]


def convolved(h, p, stride=1):
    kernel = jnp.transpose(p["weight"], (2, 3, 1, 0))
    dimensions = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(h[None], kernel, (stride, stride), [(1, 1)] * 2, dimension_numbers=dimensions)[0] + p["bias"]


def windows(h, start, combine):
    return jax.lax.reduce_window(h, start, combine, (2, 2, 1), (2, 2, 1), "VALID")


def dense(h, p):
    return p["weight"] @ h + p["bias"]


class Plain(nn.Module):
    """Convolutions with batch norms, both kinds of pooling, two dense layers."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1, self.relu1, self.maximum = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2)
        self.conv2, self.bn2, self.relu2, self.mean = nn.Conv2d(6, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.AvgPool2d(2)
        self.dense1, self.relu3, self.dense2 = nn.Linear(32, 10), nn.ReLU(), nn.Linear(10, 4)

    def forward(self, x):
        h = self.maximum(self.relu1(self.bn1(self.conv1(x))))
        h = self.mean(self.relu2(self.bn2(self.conv2(h))))
        return self.dense2(self.relu3(self.dense1(h.flatten(1))))

    @staticmethod
    def ours(p, x):
        h = windows(jax.nn.relu(normed(convolved(x, p["conv1"]), p["bn1"])), -jnp.inf, jax.lax.max)
        h = windows(jax.nn.relu(normed(convolved(h, p["conv2"]), p["bn2"])), 0.0, jax.lax.add) / 4
        h = jnp.transpose(h, (2, 0, 1)).reshape(-1)
        return dense(jax.nn.relu(dense(h, p["dense1"])), p["dense2"])


class Residual(nn.Module):
    """A block around which its input goes, and its values pooled."""

    def __init__(self):
        super().__init__()
        self.stem, self.bn0, self.relu0 = nn.Conv2d(3, 6, 3, 1, 1), nn.BatchNorm2d(6), nn.ReLU()
        self.conv1, self.bn1, self.relu1 = nn.Conv2d(6, 6, 3, 1, 1), nn.BatchNorm2d(6), nn.ReLU()
        self.conv2, self.bn2, self.sum, self.relu2 = nn.Conv2d(6, 6, 3, 1, 1), nn.BatchNorm2d(6), Sum(), nn.ReLU()
        self.pool, self.dense = nn.AdaptiveAvgPool2d(1), nn.Linear(6, 4)

    def forward(self, x):
        x = self.relu0(self.bn0(self.stem(x)))
        h = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.dense(self.pool(self.relu2(self.sum(torch.stack([x, h], -1)))).flatten(1))

    @staticmethod
    def ours(p, x):
        x = jax.nn.relu(normed(convolved(x, p["stem"]), p["bn0"]))
        h = jax.nn.relu(normed(convolved(x, p["conv1"]), p["bn1"]))
        h = jax.nn.relu(x + normed(convolved(h, p["conv2"]), p["bn2"]))
        return dense(h.mean((0, 1)), p["dense"])


class Signed(nn.Module):
    """Values of both signs go into the convolutions, and into the mean."""

    def __init__(self):
        super().__init__()
        self.conv1, self.tanh, self.conv2, self.bn2 = nn.Conv2d(3, 6, 3, 1, 1), nn.Tanh(), nn.Conv2d(6, 6, 3, 2, 1), nn.BatchNorm2d(6)
        self.conv3, self.mean, self.dense = nn.Conv2d(6, 5, 3, 1, 1), nn.AvgPool2d(2), nn.Linear(20, 4)

    def forward(self, x):
        h = self.conv3(self.bn2(self.conv2(self.tanh(self.conv1(x)))))
        return self.dense(self.mean(h).flatten(1))

    @staticmethod
    def ours(p, x):
        h = normed(convolved(jnp.tanh(convolved(x, p["conv1"])), p["conv2"], 2), p["bn2"])
        h = windows(convolved(h, p["conv3"]), 0.0, jax.lax.add) / 4
        return dense(jnp.transpose(h, (2, 0, 1)).reshape(-1), p["dense"])


NETS = {net.__name__: net for net in (Plain, Residual, Signed)}


def drawn(net: str):
    """A module with biases and batch norms drawn at random, the same function in JAX, and an input of both signs."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    module = NETS[net]().double().eval()
    for one in module.modules():
        if isinstance(one, nn.BatchNorm2d):
            for name, low, high in (("weight", 0.5, 1.5), ("bias", -0.3, 0.3), ("running_mean", -0.3, 0.3), ("running_var", 0.5, 1.5)):
                getattr(one, name).data = torch.from_numpy(rng.uniform(low, high, one.num_features))
            one.eps = 0.0  # zennit merges a batch norm and leaves its ε there, so that what stays is not quite the identity
        elif isinstance(one, nn.Conv2d | nn.Linear):
            one.weight.data *= 3  # sums that are large beside stabilisers
    state = {name: value.numpy() for name, value in module.state_dict().items()}
    nested = {layer: {name.split(".")[1]: value for name, value in state.items() if name.startswith(layer + ".")} for layer in {n.split(".")[0] for n in state}}
    return module, jax.tree_util.Partial(NETS[net].ours, nested), rng.normal(size=(8, 8, 3))


def explained(module, composite, x):
    x = torch.from_numpy(x).permute(2, 0, 1)[None].requires_grad_()
    with composite.context(module) as modified:
        logits = modified(x)
        (found,) = torch.autograd.grad(logits, x, logits * F.one_hot(torch.tensor([TARGET]), 4))
    return found[0].permute(1, 2, 0).numpy()


def close(ours, other, most=1e-5):
    assert np.abs(np.asarray(ours) - other).max() <= most * np.abs(other).max()


COMPOSITES = ("epsilon_plus", "epsilon_plus_flat", "epsilon_gamma_box", "epsilon_alpha2_beta1", "epsilon_alpha2_beta1_flat", "excitation_backprop")


CROSSED = [(net, composite, batch_norm) for net in NETS for composite in COMPOSITES for batch_norm in ("fold", "pass")]


@pytest.mark.parametrize(
    ("net", "composite", "batch_norm"), [case if case[::2] == ("Signed", "fold") else pytest.param(*case, marks=pytest.mark.slow) for case in CROSSED]
)
def test_composites_are_zennits(net, composite, batch_norm):
    module, f, x = drawn(net)
    box = {"low": LOW, "high": HIGH} if composite.endswith("box") else {}
    merged = [canonizers.SequentialMergeBatchNorm()] if batch_norm == "fold" else []
    # Its excitation backpropagation knows no batch norm, and takes its derivative.
    other = explained(module, composites.COMPOSITES[composite](**box, canonizers=merged, layer_map=[(BatchNorm, theirs.Pass())]), x)
    with jax.enable_x64(True):
        ours = relevance.propagate(f, jnp.asarray(x), TARGET, composite=composite, batch_norm=batch_norm, **box).map
    close(ours, other)


BOTH = {
    "epsilon": (partial(rules.epsilon, epsilon=0.1), theirs.Epsilon(0.1)),
    "z_plus": (rules.z_plus, theirs.ZPlus()),
    "alpha_beta": (partial(rules.alpha_beta, alpha=3.0, beta=2.0), theirs.AlphaBeta(3, 2)),
    "gamma": (partial(rules.gamma, gamma=0.3), theirs.Gamma(0.3)),
    "z_box": (partial(rules.z_box, low=LOW, high=HIGH), theirs.ZBox(LOW, HIGH)),
    "w_square": (rules.w_square, theirs.WSquare()),
    "flat": (rules.flat, theirs.Flat()),
}


def handed(rule, module, x, r):
    """What zennit's rule makes of relevance that leaves a module."""
    handles = rule.copy().register(module)
    x = torch.from_numpy(x)[None].requires_grad_()
    (found,) = torch.autograd.grad(module(x), x, torch.from_numpy(r)[None])
    handles.remove()
    return found[0].numpy()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rule", BOTH)
def test_rules_are_zennits_of_inputs_weights_biases_and_relevance_of_both_signs(rule, bias):
    torch.manual_seed(1)
    rng = np.random.default_rng(1)
    ours, other = BOTH[rule]
    for module, shape, out, number in ((nn.Linear(7, 5, bias), (7,), (5,), "ij,j->i"), (nn.Conv2d(3, 4, 3, 2, 1, bias=bias), (3, 6, 6), (4, 3, 3), None)):
        module = module.double()
        x, r = rng.normal(size=shape), rng.normal(size=out)
        w, b = module.weight.detach().numpy(), module.bias.detach().numpy() if bias else None
        if number is None:
            b = None if b is None else b[:, None, None]
            apply = lambda w, v: jax.lax.conv(v[None], w, (2, 2), [(1, 1)] * 2)[0]
        else:
            apply = lambda w, v: w @ v
        with jax.enable_x64(True):
            found = ours(apply, jnp.asarray(w), None if b is None else jnp.asarray(b), jnp.asarray(x), jnp.asarray(r))
        close(found, handed(other, module, x, r), 1e-9)


def test_norm_and_identity_are_zennits():
    rng = np.random.default_rng(2)
    x, r = rng.normal(size=(3, 6, 6)), rng.normal(size=(3, 2, 2))
    with jax.enable_x64(True):
        mean = lambda w, v: w * v.reshape(3, 2, 3, 2, 3).mean((2, 4))
        close(rules.norm(mean, 1.0, None, jnp.asarray(x), jnp.asarray(r)), handed(theirs.Norm(), nn.AvgPool2d(3), x, r), 1e-9)
        passed = rules.identity(lambda w, v: jnp.tanh(v), 1.0, None, jnp.asarray(x), jnp.asarray(x[::-1]))
    close(passed, handed(theirs.Pass(), nn.Tanh(), x, x[::-1].copy()), 1e-12)


PATHS = {
    "one layer": ("Plain", {"relu2": 18}),
    "two layers": ("Plain", {"relu2": 18, "relu1": 8}),
    "beside a skip connection": ("Residual", {"relu1": 17}),
    "a convolution with its batch norm": ("Residual", {"conv2": "bn2.bias"}),
}
"""Nets, and layers from the last to the first: zennit's name, and ours."""


@pytest.mark.parametrize("exclude_parallel", [True, False])
@pytest.mark.parametrize("path", [path if path == "beside a skip connection" else pytest.param(path, marks=pytest.mark.slow) for path in PATHS])
def test_conditional_maps_are_zennit_crps(path, exclude_parallel):
    crp = pytest.importorskip("crp.attribution", reason="a peer: pip install --no-deps zennit-crp")
    net, layers = PATHS[path]
    module, f, x = drawn(net)
    chosen = [[[1], [0, 2, 5]], [[4], [1, 2, 3]], [[0, 3], [2]]]
    conditions = [{"y": [TARGET], **dict(zip(layers, channels))} for channels in chosen]
    composite = composites.EpsilonPlusFlat(canonizers=[canonizers.SequentialMergeBatchNorm()])
    given = torch.from_numpy(x).permute(2, 0, 1)[None].requires_grad_()
    last, own = list(layers.items())[-1]
    other = crp.CondAttribution(module)(given, conditions, composite, record_layer=[last], exclude_parallel=exclude_parallel)
    with jax.enable_x64(True):
        v = jnp.asarray(x)
        counts = {name: taps.find(f, v, name).shape[-1] for name in layers.values()}
        masks = {name: np.stack([np.isin(np.arange(count), channels[n]) for channels in chosen]) for n, (name, count) in enumerate(counts.items())}
        found = jax.jit(jax.vmap(lambda masks: concepts.conditional(f, v, TARGET, masks, exclude_parallel=exclude_parallel, at=[own])))(masks)
        maps, at = np.asarray(found.map).sum(-1), np.moveaxis(found.at[own], -1, 1)
    close(maps, other.heatmap.numpy())
    # It walks from the layer once more where it excludes what is parallel, and adds to what it has recorded there.
    close(at * (2 if exclude_parallel else 1), other.relevances[last].numpy())
