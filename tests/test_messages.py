"""What is wrong with a call is said at once, by the name of the argument, and with what to do."""

import time
import warnings

import flax.nnx as nnx
import jax
import numpy as np
import pytest

import jxai
from jxai import attribution, bounds, certificates, counterfactual, fills, metrics
from jxai.cli.progress import said

W = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
X = np.random.default_rng(1).random((2, 2, 3), dtype=np.float32)


def f(x):
    return x.ravel() @ W


class Net(nnx.Module):
    """A dense layer, with dropout or batch normalisation after it, or both."""

    def __init__(self, dropout=False, norm=False):
        rngs = nnx.Rngs(0)
        self.dense = nnx.Linear(12, 5, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs) if dropout else None
        self.norm = nnx.BatchNorm(5, rngs=rngs) if norm else None

    def __call__(self, x):
        h = self.dense(x.ravel())
        h = h if self.norm is None else self.norm(h[None])[0]
        return h if self.dropout is None else self.dropout(h)


class Recurrent(nnx.Module):
    """Its RNN draws a key for its first state at every call, and counts that."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.rnn, self.dense = nnx.RNN(nnx.GRUCell(3, 4, rngs=rngs)), nnx.Linear(4, 5, rngs=rngs)

    def __call__(self, x):
        return self.dense(self.rnn(x.reshape(1, -1, 3))[0, -1])


class Holds:
    digests = None

    def check(self, f, x): ...


gradient, occlusion, each = attribution.gradient, attribution.occlusion, jxai.each
flags = {"dropout": "deterministic=True", "norm": "use_running_average=True", "both": "deterministic=True, use_running_average=True"}
nets = {"dropout": {"dropout": True}, "norm": {"norm": True}, "both": {"dropout": True, "norm": True}}
CASES = {
    "a list of targets": (lambda: gradient(f, X, [0, 1]), r"target=\[0, 1\] must be one integer class in \[0, 5\)"),
    "one image": (lambda: each(gradient, f, X, 0), r"x of shape \(2, 2, 3\) has no leading axis of examples: f takes it whole"),
    "one image and one target": (lambda: each(gradient, f, X, np.array([0])), r"x of shape \(2, 2, 3\) has no leading axis of examples: f takes it whole"),
    "a fill by name": (lambda: occlusion(f, X, 0, fill="mean"), r"fill='mean' must be a number, .* one of Mean\(\)"),
    "a fill's class": (lambda: occlusion(f, X, 0, fill=fills.Mean), r"fill=Mean is a class: .* fill=fills\.Mean\(\)"),
    "of a metric": (lambda: metrics.deletion(f, X, 0, X, fill=fills.Blur), r"fill=Blur is a class: .* fill=fills\.Blur\(\)"),
    "of a path": (lambda: attribution.integrated_gradients(f, X, 0, baseline=fills.Mean), r"baseline=Mean is a class: .* baseline=fills\.Mean\(\)"),
    **{f"training, {n}": (lambda n=n: gradient(Net(**nets[n]), X, 0), rf"nnx\.view\(model, {flags[n]}\)") for n in nets},
    "training, a search": (lambda: counterfactual.wachter(Net(True), X, 1), r"f draws random numbers .* nnx\.view\(model, deterministic=True\)"),
    "save, swapped": (lambda: certificates.save(Holds(), "a.npz"), r"path must be a path, got Holds: the path comes first, save\(path, certificate\)"),
    "verify, swapped": (lambda: certificates.verify(Holds(), f, X), r"it comes last, verify\(f, x, certificate\)"),
    "a tuple": (lambda: gradient(f, (X, X), 0), r"x must be one array, got a tuple of 2"),
    "a dictionary": (lambda: gradient(lambda x: {"logits": f(x)}, X, 0), r"got a dict of 'logits'; .* model\(x\)\['logits'\]"),
    "a pair": (lambda: gradient(lambda x: (f(x), x), X, 0), r"got a tuple of 2; .* model\(x\)\[0\]"),
    "a scalar": (lambda: gradient(lambda x: f(x)[0], X, 0), r"got \(\); .* model\(x\)\[None\]; target=None"),
    "a dictionary, in a batch": (lambda: each(gradient, lambda x: {"logits": f(x)}, X[None], np.array([0])), r"got a dict of 'logits'"),
    "a dictionary, bounded": (lambda: bounds.margins(lambda x: {"a": f(x)}, bounds.ball(X, 0.1), 0), r"must be one array, got a dict of 'a'; .*\['a'\]"),
    "a scalar, searched": (lambda: counterfactual.wachter(lambda x: f(x)[0], X, 1), r"got \(\); .* model\(x\)\[None\]"),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_said_what_is_wrong(name):
    call, message = CASES[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_the_view_that_the_message_names_can_be_explained():
    for name, options in nets.items():
        view = nnx.view(Net(**options), **dict.fromkeys((flag.split("=")[0] for flag in flags[name].split(", ")), True))
        assert np.allclose(gradient(view, X, 2).ravel(), np.asarray(jax.jacobian(view)(X))[2].ravel())


def test_numbers_of_numpy_are_taken_in_float32_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.allclose(gradient(f, np.float64(X), 1).ravel(), W[:, 1])
        assert np.isfinite(occlusion(f, np.float64(X), 1)).all()
    assert np.allclose(attribution.feature_ablation(f, X, 1, segments=[[0, 0], [1, 1]])[1, 0, 0], (X[1].ravel() * W[6:, 1]).sum(), rtol=1e-4)


def test_long_work_says_so_and_short_work_nothing(capsys):
    with said("one.png: compiling", after=0.01, every=0.01):
        time.sleep(0.1)
    assert capsys.readouterr().err.count("one.png: compiling, 0:00\n") > 1
    with pytest.raises(ValueError), said("one.png: compiling"):
        raise ValueError
    assert capsys.readouterr().err == ""


def test_a_search_and_a_map_of_a_recurrent_model():
    """Its count of keys is no state that matters; and the layer that an error recommends is taken."""
    net, x = Recurrent(), np.random.default_rng(2).random((6, 3), dtype=np.float32)
    target = int(np.argsort(net(x))[-2])
    found = counterfactual.wachter(net, x, target, steps=3)
    assert np.allclose(found.logits, net(found.x), atol=1e-5) and not np.array_equal(found.x, x)
    with pytest.raises(ValueError, match="no value has spatial extent") as error:
        attribution.grad_cam(net, x, 0)
    layer = str(error.value).split("layer='")[1].split("'")[0]
    assert attribution.grad_cam(net, x, 0, layer=layer).shape == (6, 1)
