"""Captum's metrics as a worker of the benchmark, and what it shares with Quantus: the PyTorch model."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.attribution import captum_peers
from benchmarks.metrics import metric_data, nets


def summed(model, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Input × gradient summed over the channels, `[N, 1, H, W]`."""
    with torch.enable_grad():
        v = x.detach().requires_grad_()
        score = model(v).gather(1, y.long()[:, None]).sum()
        return (v * torch.autograd.grad(score, v)[0]).sum(1, keepdim=True).detach()


class Torch(captum_peers.Torch):
    packages = ("torch", "captum")

    def __init__(self):
        setting, _ = metric_data.chosen()
        self.data, self.model = metric_data.load(), nets.pytorch(setting)
        self.x = torch.from_numpy(self.data["x"].transpose(0, 3, 1, 2).copy())
        self.y = torch.from_numpy(self.data["y"]).long()
        with torch.no_grad():
            self.logits = self.model(self.x)


class Captum(Torch):
    def method(self, name: str, images: int, batch: int, options: dict):
        """`batch` passes at once; Captum explains all images together, so that there are no fewer than those."""
        run, x, y = getattr(self, name), self.x[:images], self.y[:images]
        maps = torch.from_numpy(self.data["maps"][:images].transpose(0, 3, 1, 2).copy()).expand_as(x)

        def call(seed: int) -> np.ndarray:
            torch.manual_seed(seed)
            return np.asarray(run(x, y, maps, max(batch, images), **options))

        return call

    def infidelity(self, x, y, maps, batch, sigma, num_samples):
        from captum.metrics import infidelity

        def perturb(v):
            noise = sigma * torch.randn_like(v)
            return noise, v - noise

        return infidelity(self.model, perturb, x, maps, target=y, n_perturb_samples=num_samples, max_examples_per_batch=batch)

    def sensitivity_max(self, x, y, maps, batch, radius, num_samples):
        from captum.metrics import sensitivity_max

        def explain(v, target):
            return (summed(self.model, v[0], target),)

        return sensitivity_max(explain, x, perturb_radius=radius, n_perturb_samples=num_samples, max_examples_per_batch=batch, target=y)
