"""Xplique as two workers of the benchmark: on a Keras model, and on the PyTorch model through `xplique.wrappers.TorchWrapper`."""

from __future__ import annotations

import importlib.metadata

import numpy as np
import tensorflow as tf
import xplique.attributions as xa

from benchmarks.attribution import lite0
from benchmarks.measuring.measure import photographs


class OnKeras:
    def __init__(self):
        self.x = tf.constant(photographs(8))
        self.model = self._model()
        self.logits = np.asarray(self.model(self.x))
        self.y = tf.one_hot(self.logits.argmax(1), 1000)

    def _model(self):
        return lite0.keras()

    def facts(self) -> dict:
        versions = {name: importlib.metadata.version(name) for name in ("xplique", "tensorflow", "keras")}
        return {"versions": versions, "targets": self.logits.argmax(1).tolist(), "logits": self.logits.tolist()}

    def floor(self, batch: int, backward: bool):
        x, y = tf.repeat(self.x[:1], batch, 0), tf.repeat(self.y[:1], batch, 0)

        @tf.function
        def forward(x):
            return self.model(x)

        @tf.function
        def gradient(x, y):
            with tf.GradientTape() as tape:
                tape.watch(x)
                score = tf.reduce_sum(self.model(x) * y)
            return tape.gradient(score, x)

        return ((lambda: gradient(x, y).numpy()) if backward else (lambda: forward(x).numpy())), batch

    def method(self, name: str, images: int, batch: int, options: dict):
        """The explainer is made once, as its user would; its masks are then made once, too (Sobol, HSIC)."""
        explain = getattr(self, name)(batch, **options)

        def call(seed: int) -> np.ndarray:
            tf.random.set_seed(seed)
            return np.asarray(explain(self.x[:images], self.y[:images]))

        return call

    def gradient(self, batch):
        return xa.Saliency(self.model, batch_size=batch, reducer=None)

    def input_x_gradient(self, batch):
        return xa.GradientInput(self.model, batch_size=batch, reducer=None)

    def guided_backprop(self, batch):
        return xa.GuidedBackprop(self.model, batch_size=batch, reducer=None)

    def deconvnet(self, batch):
        return xa.DeconvNet(self.model, batch_size=batch, reducer=None)

    def integrated_gradients(self, batch, steps):
        return xa.IntegratedGradients(self.model, batch_size=batch, reducer=None, steps=steps)

    def smoothgrad(self, batch, num_samples, sigma):
        return xa.SmoothGrad(self.model, batch_size=batch, reducer=None, nb_samples=num_samples, noise=sigma)

    def squaregrad(self, batch, num_samples, sigma):
        return xa.SquareGrad(self.model, batch_size=batch, reducer=None, nb_samples=num_samples, noise=sigma)

    def vargrad(self, batch, num_samples, sigma):
        return xa.VarGrad(self.model, batch_size=batch, reducer=None, nb_samples=num_samples, noise=sigma)

    def grad_cam(self, batch):
        return xa.GradCAM(self.model, batch_size=batch, conv_layer="top")

    def grad_cam_plus_plus(self, batch):
        return xa.GradCAMPP(self.model, batch_size=batch, conv_layer="top")

    def occlusion(self, batch, window, stride):
        return xa.Occlusion(self.model, batch_size=batch, patch_size=window, patch_stride=stride, occlusion_value=0.0)

    def rise(self, batch, num_masks):
        return xa.Rise(self.model, batch_size=batch, nb_samples=num_masks)

    def sobol(self, batch, num_designs, grid):
        return xa.SobolAttributionMethod(self.model, grid, num_designs, batch_size=batch)

    def hsic(self, batch, num_designs):
        return xa.HsicAttributionMethod(self.model, batch_size=batch, nb_design=num_designs)

    def lime(self, batch, num_samples, grid):
        options = {"distance_mode": "cosine", "kernel_width": 0.25}
        return xa.Lime(self.model, batch_size=batch, nb_samples=num_samples, **self._features(grid), **options)

    def kernel_shap(self, batch, num_samples, grid):
        return xa.KernelShap(self.model, batch_size=batch, nb_samples=num_samples, **self._features(grid))

    @staticmethod
    def _features(grid: int) -> dict:
        cell = tf.range(224) * grid // 224
        labels = cell[:, None] * grid + cell
        return {"map_to_interpret_space": lambda _: labels, "ref_value": np.zeros(3, np.float32)}


class OnTorch(OnKeras):
    def _model(self):
        from xplique.wrappers import TorchWrapper

        return TorchWrapper(lite0.pytorch(), "cpu", is_channel_first=True)

    def floor(self, batch: int, backward: bool):
        import torch

        if backward:
            return super().floor(batch, True)
        x = torch.from_numpy(np.repeat(self.x[:1].numpy(), batch, 0).transpose(0, 3, 1, 2).copy())

        def forward():
            with torch.no_grad():
                self.model.model(x)

        return forward, batch
