"""Captum, shap and pytorch-grad-cam as workers of the benchmark. Maps come back as `[images, H, W, C or 1]`."""

from __future__ import annotations

import importlib.metadata
import sys
import time
import unittest.mock

import numpy as np
import torch
from torch.nn import functional

from benchmarks.attribution import lite0
from benchmarks.measuring.measure import photographs
from benchmarks.metrics import nets


class Torch:
    packages = ("torch", "captum", "grad-cam")

    def __init__(self):
        self.model = lite0.pytorch()
        pixels = torch.from_numpy(photographs(8).transpose(0, 3, 1, 2).copy())
        self.x = pixels.contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            self.logits = self.model(self.x)
        self.y = self.logits.argmax(1)

    def facts(self) -> dict:
        a = torch.ones(2048, 2048)
        times = []
        for _ in range(5):
            start = time.perf_counter()
            a @ a
            times.append(time.perf_counter() - start)
        versions = {name: importlib.metadata.version(name) for name in self.packages}
        facts = {"gflops": 2 * 2048**3 / min(times) / 1e9, "versions": versions, "threads": torch.get_num_threads()}
        return {**facts, "targets": self.y.tolist(), "logits": self.logits.tolist()}

    def floor(self, batch: int, backward: bool):
        x, y = self.x[:1].repeat(batch, 1, 1, 1).contiguous(memory_format=torch.channels_last), self.y[0]

        def forward():
            with torch.no_grad():
                self.model(x)

        def gradient():
            v = x.detach().requires_grad_()
            torch.autograd.grad(self.model(v)[:, y].sum(), v)

        return (gradient if backward else forward), batch

    def method(self, name: str, images: int, batch: int, options: dict):
        run, x, y = getattr(self, name), self.x[:images], self.y[:images]

        def call(seed: int) -> np.ndarray:
            torch.manual_seed(seed)
            return np.asarray(run(x, y, batch, **options))

        return call


class Captum(Torch):
    def gradient(self, x, y, batch):
        from captum.attr import Saliency

        return channels_last(Saliency(self.model).attribute(x, y, abs=False))

    def input_x_gradient(self, x, y, batch):
        from captum.attr import InputXGradient

        return channels_last(InputXGradient(self.model).attribute(x, y))

    def guided_backprop(self, x, y, batch):
        from captum.attr import GuidedBackprop

        return channels_last(GuidedBackprop(self.model).attribute(x, y))

    def deconvnet(self, x, y, batch):
        from captum.attr import Deconvolution

        return channels_last(Deconvolution(self.model).attribute(x, y))

    def integrated_gradients(self, x, y, batch, steps):
        from captum.attr import IntegratedGradients

        explain = IntegratedGradients(self.model)
        return channels_last(explain.attribute(x, 0.0, y, n_steps=steps, method="riemann_middle", internal_batch_size=batch))

    def noise_tunnel(self, x, y, batch, kind, num_samples, sigma):
        from captum.attr import NoiseTunnel, Saliency

        explain = NoiseTunnel(Saliency(self.model))
        options = {"nt_samples": num_samples, "nt_samples_batch_size": min(batch, num_samples), "stdevs": sigma, "abs": False}
        return channels_last(explain.attribute(x, nt_type=kind, target=y, **options))

    def gradient_shap(self, x, y, batch, num_samples, sigma):
        from captum.attr import GradientShap

        return channels_last(GradientShap(self.model).attribute(x, self.x[1:5], num_samples, sigma, y))

    def lrp(self, x, y, batch, net):
        from captum.attr import LRP
        from captum.attr._utils.lrp_rules import EpsilonRule

        model = nets.pytorch(net)
        for module in model:
            if not isinstance(module, torch.nn.ReLU):
                module.rule = EpsilonRule(1e-6)
        x = x[:, :, ::7, ::7].mean(1, keepdim=True).contiguous()
        return LRP(model).attribute(x, model(x).argmax(1)).detach().permute(0, 2, 3, 1).numpy()

    def deep_lift(self, x, y, batch):
        from captum.attr import DeepLift

        self._settle()
        return channels_last(DeepLift(self.model).attribute(x, 0.0, y))

    def deep_shap(self, x, y, batch):
        from captum.attr import DeepLiftShap

        self._settle()
        return channels_last(DeepLiftShap(self.model).attribute(x, self.x[1:5], y))

    def _settle(self) -> None:
        """Of an activation that is not in its table it takes the gradient, and says nothing; a block with two names it takes for one that runs twice."""
        from captum.attr._core import deep_lift

        self.model._modules.pop("last", None)

        kinds = {type(module) for module in self.model.modules() if isinstance(module, torch.nn.ReLU)}
        deep_lift.SUPPORTED_NON_LINEAR.update(dict.fromkeys(kinds, deep_lift.nonlinear))

    def grad_cam(self, x, y, batch):
        from captum.attr import LayerAttribution, LayerGradCam

        maps = LayerGradCam(self.model, self.model.top).attribute(x, y, relu_attributions=True)
        return channels_last(LayerAttribution.interpolate(maps, (224, 224), "bilinear"))

    def guided_grad_cam(self, x, y, batch):
        from captum.attr import GuidedGradCam

        return channels_last(GuidedGradCam(self.model, self.model.top).attribute(x, y, interpolate_mode="nearest"))

    def occlusion(self, x, y, batch, window, stride):
        from captum.attr import Occlusion

        sizes = {"sliding_window_shapes": (3, window, window), "strides": (3, stride, stride)}
        with torch.no_grad():
            return channels_last(Occlusion(self.model).attribute(x, baselines=0.0, target=y, perturbations_per_eval=batch, **sizes))[..., :1]

    def feature_ablation(self, x, y, batch, grid):
        from captum.attr import FeatureAblation

        return self._by_features(FeatureAblation(self.model), x, y, batch, grid)

    def lime(self, x, y, batch, num_samples, grid):
        from captum._utils.models.linear_model import SkLearnRidge
        from captum.attr import Lime

        explain = Lime(self.model, interpretable_model=SkLearnRidge(alpha=1.0))
        return self._by_features(explain, x, y, batch, grid, n_samples=num_samples)

    def kernel_shap(self, x, y, batch, num_samples, grid):
        from captum.attr import KernelShap

        return self._by_features(KernelShap(self.model), x, y, batch, grid, n_samples=num_samples)

    def shapley_sampling(self, x, y, batch, num_samples, grid):
        from captum.attr import ShapleyValueSampling

        return self._by_features(ShapleyValueSampling(self.model), x, y, batch, grid, n_samples=num_samples)

    def _by_features(self, explain, x, y, batch, grid, **options):
        cell = torch.arange(224) * grid // 224
        labels = (cell[:, None] * grid + cell).expand(1, 3, 224, 224).contiguous()
        x = x.contiguous()  # its Shapley sampling views the pixels as one vector, which channels last in memory forbids
        with torch.no_grad():
            maps = explain.attribute(x, 0.0, y, feature_mask=labels, perturbations_per_eval=batch, **options)
        return channels_last(maps)[..., :1]


class Shap(Torch):
    """shap's DeepExplainer. It explains the class of the largest logit, which is the one that is asked for."""

    packages = ("torch", "shap")

    def deep_lift(self, x, y, batch):
        return self._explained(torch.zeros_like(self.x[:1]), x)

    def deep_shap(self, x, y, batch):
        return self._explained(self.x[1:5], x)

    def _explained(self, background, x):
        import shap
        from shap.explainers._deep import deep_pytorch

        deep_pytorch.op_handler["ReLU6"] = deep_pytorch.nonlinear_1d  # it warns of what it does not know, and takes the gradient
        found, _ = shap.DeepExplainer(self.model, background).shap_values(x, ranked_outputs=1, check_additivity=False)
        return channels_last(torch.as_tensor(np.asarray(found)[..., 0]))


class GradCam(Torch):
    """pytorch-grad-cam; its maps are scaled to [0, 1]."""

    def __init__(self):
        super().__init__()
        _need_torchvision()
        # It reads the gradient at the layer from a hook, which fires only where something before asks for one.
        self.model.requires_grad_(True)

    def cam(self, x, y, batch, kind, layer):
        import pytorch_grad_cam
        from pytorch_grad_cam.ablation_layer import AblationLayer
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        class Zero(AblationLayer):
            """The paper's ablation to 0; where a layer has negative values the package subtracts 1e7 instead."""

            def __call__(self, _):
                self.activations[torch.arange(len(self.activations)), torch.as_tensor(self.indices[: len(self.activations)]).long()] = 0
                return self.activations

        targets = [ClassifierOutputTarget(int(label)) for label in y]
        options = {"ablation_layer": Zero(), "batch_size": batch} if kind == "AblationCAM" else {}
        explain = getattr(pytorch_grad_cam, kind)(self.model, [getattr(self.model, layer)], **options)
        explain.batch_size = batch
        with explain, torch.set_grad_enabled(explain.uses_gradients):
            return explain(x, targets)[..., None]


def _need_torchvision() -> None:
    """pytorch-grad-cam imports torchvision for what no CAM uses; one that was built for another torch fails to import, and a mock will do."""
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        names = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")
        sys.modules.update({name: unittest.mock.MagicMock(__spec__=None) for name in names})


def channels_last(values: torch.Tensor) -> np.ndarray:
    """`[N, C, h, w]` as `[N, 224, 224, C]`."""
    if values.shape[-2:] != (224, 224):
        values = functional.interpolate(values, (224, 224), mode="bilinear")
    return values.detach().permute(0, 2, 3, 1).numpy()
