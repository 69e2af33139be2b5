"""PyTorch modules through torchax: PyTorch's own numbers and gradients, what passes, what is refused by name, and that the module stays as it is."""

import copy
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is an extra of its own: pip install '.[torch]'")
if importlib.util.find_spec("torchax") is None:
    pytest.skip("torchax is not installed: pip install '.[torch]'", allow_module_level=True)

import torch_models  # noqa: E402
from flax import nnx  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import jxai  # noqa: E402
from jxai import bounds, metrics, taps  # noqa: E402
from jxai.adapters import TORCH_TO_FLAX, load_weights  # noqa: E402
from jxai.attribution import grad_cam, gradient, guided_backprop, integrated_gradients  # noqa: E402
from jxai.identity.values import described  # noqa: E402

X = np.random.default_rng(0).random((32, 32, 3), np.float32)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Layer(nn.Module):
    """A function of an image's batch, with the modules that it needs, as a model of 8 logits."""

    def __init__(self, fn, *modules):
        super().__init__()
        self.fn, self.held = fn, nn.ModuleList(modules)

    def forward(self, x):
        return self.fn(x.contiguous(), *self.held).flatten(1)[:, -8:] * 1.0


def own_gradient(module, x, target):
    """PyTorch's logits of an example and their derivative, in jxai's layout."""
    v = torch.tensor(np.moveaxis(x, -1, 0)[None]).requires_grad_()
    out = module(v)
    out[0, target].backward()
    return out[0].detach().numpy(), np.moveaxis(v.grad[0].numpy(), 0, -1)


@pytest.mark.parametrize("name", ["resnet", "densenet", "vit"])
def test_numbers_and_gradients_are_pytorchs(name):
    module = getattr(torch_models, name)()
    logits, slope = own_gradient(module, X, 3)
    f = jxai.adapt(module, example=X)
    np.testing.assert_allclose(jax.jit(lambda f, x: f(x))(f, X), logits, atol=1e-5)
    np.testing.assert_allclose(jax.jit(gradient)(f, X, 3), slope, atol=1e-5)
    batch = np.stack([X, 1 - X])
    np.testing.assert_allclose(jax.jit(jax.vmap(f))(batch), module(torch.tensor(batch).permute(0, 3, 1, 2)).detach(), atol=1e-5)


def test_the_module_stays_as_it_is():
    module = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    before = {name: (value, value.clone(), value.requires_grad) for name, value in [*module.named_parameters(), *module.named_buffers()]}
    kind = type(module[0])
    f = jxai.adapt(module, example=X)
    f(X)
    after = dict([*module.named_parameters(), *module.named_buffers()])
    assert after.keys() == before.keys() and type(module[0]) is kind and torch.nn.utils.parametrize.is_parametrized(module[0])
    for name, (value, was, trained) in before.items():
        assert after[name] is value and torch.equal(value, was) and value.requires_grad == trained
    assert module(torch.tensor(X).permute(2, 0, 1)[None]).requires_grad  # PyTorch runs it as before


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("twice", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        self.twice = self.twice + 2
        return self.linear(x) + self.calls


def test_a_module_that_counts_its_calls_is_not_called_as_far_as_it_can_tell():
    module = Counting().eval()
    f = jxai.adapt(module, example=np.ones(4, np.float32))
    assert (module.calls, module.twice) == (0, 0)
    np.testing.assert_allclose(f(np.ones(4, np.float32)), module(torch.ones(1, 4))[0].detach(), rtol=1e-5)


def test_other_types_are_cast_as_said_and_refused_in_pytorchs_words():
    x, module = np.ones(4, np.float32), nn.Linear(4, 3).bfloat16().eval()
    f = jxai.adapt(module, example=x, dtype="bfloat16")
    np.testing.assert_allclose(np.asarray(f(x), np.float32), module(torch.ones(1, 4).bfloat16())[0].float().detach(), rtol=0.02)
    with pytest.raises(ValueError, match=r"does not take example \[4\]: .*dtype"):
        jxai.adapt(nn.Linear(4, 3).double().eval(), example=x)


def test_an_example_of_zeros_hides_nothing():
    with pytest.raises(ValueError, match="or the model draws random numbers"):
        jxai.adapt(nn.Sequential(Dropping(), nn.Linear(64, 3)).eval(), example=np.zeros(64, np.float32))


class Dropping(nn.Module):
    def forward(self, x):
        return F.dropout(x, 0.5)


def test_equal_modules_are_told_as_one_and_others_apart():
    module = Layer(nn.Conv2d(3, 4, 3)).eval()
    twin, other = copy.deepcopy(module), copy.deepcopy(module)
    with torch.no_grad():
        next(other.parameters()).add_(1)
    told = [described(jxai.adapt(m, example=X)) for m in (module, twin, other)]
    assert told[0] == told[1] != told[2] and len(str(told[0])) < 10_000


def test_layers_are_found_by_the_names_of_weights():
    f = jxai.adapt(torch_models.resnet(), example=X)
    named = [layer.name for layer in taps.layers(f, X)]
    assert any("stages.2.0.conv2.weight" in name for name in named)
    cam = jax.jit(lambda x: grad_cam(f, x, 3, layer="stages.1.0.conv2"))(X)
    assert cam.shape == (32, 32, 1) and np.abs(cam).max() > 0


def test_a_state_dictionary_is_loaded_into_an_nnx_module(tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    net = torch_models.settled(net)
    torch.save({"model": net.state_dict(), "epoch": 3}, tmp_path / "net.pt")
    rules = [(r"model\.0", "conv"), (r"model\.1\.weight", "norm.scale"), (r"model\.1", "norm"), (r"model\.5", "dense"), ("weight$", "kernel"), ("running_", "")]
    same = load_weights(Same(nnx.Rngs(0)), tmp_path / "net.pt", names=rules, transpose=TORCH_TO_FLAX, ignore=[".*num_batches_tracked"])
    np.testing.assert_allclose(jxai.adapt(same, example=X)(X), net(torch.tensor(X).permute(2, 0, 1)[None])[0].detach(), atol=1e-5)


class Same(nnx.Module):
    def __init__(self, rngs):
        self.conv, self.norm, self.dense = nnx.Conv(3, 4, (3, 3), rngs=rngs), nnx.BatchNorm(4, epsilon=1e-5, rngs=rngs), nnx.Linear(4, 5, rngs=rngs)

    def __call__(self, x):
        return self.dense(nnx.relu(self.norm(self.conv(x))).mean((-3, -2)))


def refused(words, module, **options):
    with pytest.raises(ValueError, match=words):
        jxai.adapt(module, example=X, **options)


def test_what_cannot_be_adapted_is_said():
    refused(r"model=ResNet is in training mode \(ResNet, conv1, bn1, relu, …\).*call model.eval\(\)", torch_models.resnet().train())
    with pytest.raises(ValueError, match="example=None: this model is translated.*pass example=x"):
        jxai.adapt(torch_models.resnet())
    refused(
        "torchax, the bridge from PyTorch to JAX, does not know: Operator with name aten::adaptive_max_pool2d has no", Layer(nn.AdaptiveMaxPool2d(2)).eval()
    )
    refused("decides by values of its input", Layer(lambda x: x if x.sum() > 0 else -x).eval())
    refused("gives other numbers of the example than the model's own framework", Layer(nn.AvgPool2d(3, 2, ceil_mode=True)).eval())
    refused("or the model draws random numbers", Layer(lambda x: x + torch.rand(1, 3, 32, 32)).eval())
    with pytest.raises(ValueError, match="output='logit' is nothing that the model returns: pass one of output='logits'"):
        jxai.adapt(Named().eval(), example=X, output="logit")


class Named(nn.Module):
    def forward(self, x):
        return {"logits": x.mean((2, 3)), "features": x}


def test_an_output_is_chosen_by_key():
    f = jxai.adapt(Named().eval(), example=X, output="logits")
    np.testing.assert_allclose(f(X), X.mean((0, 1)), atol=1e-6)


LAYERS = {
    "activations": Layer(
        lambda x, *fs: sum(f(x) for f in fs), nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Mish(), nn.Hardswish(), nn.ELU(), nn.PReLU(), nn.Softplus()
    ),
    "windows": Layer(
        lambda x, a, b, c: c(b(a(x))), nn.MaxPool2d(3, 2, 1), nn.ConvTranspose2d(3, 4, 3, 2, 1, 1), nn.AvgPool2d(3, 2, 1, count_include_pad=False)
    ),
    "norms": Layer(lambda x, *fs: sum(f(x) for f in fs), nn.GroupNorm(3, 3), nn.InstanceNorm2d(3), nn.LayerNorm(32), nn.RMSNorm(32), nn.LocalResponseNorm(3)),
    "padding": Layer(lambda x, *fs: sum(f(x) for f in fs), nn.ReflectionPad2d(2), nn.ReplicationPad2d(2), nn.CircularPad2d(2)),
    "resizing": Layer(lambda x: F.interpolate(x, size=(9, 7), mode="bilinear") + F.adaptive_avg_pool2d(x, (9, 7))),
    "windows of tokens": Layer(lambda x: torch.roll(x, (3, 2), (2, 3)).reshape(1, 3, 4, 8, 4, 8).permute(0, 2, 4, 3, 5, 1).reshape(1, 16, 192)),
    "attention": Layer(lambda x, f: f(x[:, 0]), nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)),
    "recurrence": Layer(
        lambda x, f, g: torch.cat([f(x[:, 0])[0], g(x[:, 1])[0]], -1)[:, -1], nn.LSTM(32, 3, 2, batch_first=True, bidirectional=True), nn.GRU(32, 2)
    ),
    "tensors of its own": Layer(lambda x, f: x[:, 0] * torch.tensor(2.0) + f(torch.arange(32)) * torch.linspace(0, 1, 32), nn.Embedding(32, 32)),
    "assignment": Layer(lambda x: _assigned(x)),
    "norms of weights": Layer(lambda x, f: f(x), nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 8, 32))),
    "half precision": Layer(lambda x, f: f(x.bfloat16()).float(), nn.Linear(32, 4).bfloat16()),
}


def _assigned(x):
    y = x.clone()
    y[:, 0] = 2 * y[:, 1]
    y[:, :, 0] += 1
    return y


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYERS)
def test_layers_that_pass(name):
    module = LAYERS[name].eval()
    f = jxai.adapt(module, example=X)
    logits, slope = own_gradient(module, X, 3)
    tolerance = 0.02 if name == "half precision" else 1e-5
    np.testing.assert_allclose(f(X), logits, atol=tolerance * np.abs(logits).max())
    np.testing.assert_allclose(jax.jit(gradient)(f, X, 3), slope, atol=tolerance * max(1, np.abs(slope).max()))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ResNet-18", "DenseNet-121", "ViT-Ti/16"])
def test_whole_architectures_go_through_every_kind_of_method(name, quick_compilation):
    torch.manual_seed(0)
    module, side = {
        "ResNet-18": lambda: (torch_models.ResNet(), 96),
        "DenseNet-121": lambda: (torch_models.DenseNet(), 64),
        "ViT-Ti/16": lambda: (torch_models.ViT(96), 96),
    }[name]()
    module = torch_models.settled(module)
    x = np.random.default_rng(0).random((side, side, 3), np.float32)
    f = jxai.adapt(module, example=x, mean=MEAN, std=STD)

    def explained(f, x):
        cam = grad_cam(f, x, 3)
        return {
            "grad_cam": cam,
            "guided_backprop": guided_backprop(f, x, 3),
            "integrated_gradients": integrated_gradients(f, x, 3, steps=2),
            "deletion": metrics.deletion(f, x, 3, cam, steps=2, fill=0.0).y,
        }

    normal = (x - np.float32(MEAN)) / np.float32(STD)
    logits, slope = own_gradient(module, normal, 3)
    size = np.abs(logits).max()
    np.testing.assert_allclose(jax.jit(lambda f, x: f(x))(f, x), logits, atol=1e-5 * size)
    np.testing.assert_allclose(jax.jit(gradient)(f, x, 3), slope / np.float32(STD), atol=1e-5 * max(1, np.abs(slope / np.float32(STD)).max()))
    for what, found in jax.jit(explained)(f, x).items():
        assert np.isfinite(found).all() and (what == "grad_cam" or np.abs(found).max() > 0), what
    lower, upper = jax.jit(lambda f, x: bounds.interval(f)(bounds.ball(x, 0.0)))(f, x)
    np.testing.assert_allclose(np.stack([lower, upper]), np.stack([logits, logits]), atol=1e-3 * size)
    assert jxai.each(grad_cam, f, np.stack([x, 1 - x]), jnp.array([3, 4])).shape == (2, side, side, 1)
