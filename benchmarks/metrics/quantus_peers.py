"""Quantus as a worker of the benchmark: the metrics as released, on the PyTorch model, nothing normalised and no magnitudes unless asked."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.metrics import metric_captum

if not hasattr(np, "trapz"):
    np.trapz = np.trapezoid  # noqa: NPY201  gone from NumPy 2.4, and its areas call it

import quantus
from quantus.helpers import utils


class Quantus(metric_captum.Torch):
    packages = ("torch", "quantus")

    def __init__(self):
        super().__init__()
        self.images = self.data["x"].transpose(0, 3, 1, 2).copy()
        self.segments = None
        utils.get_superpixel_segments = lambda img, segmentation_method: next(self.segments)

    def method(self, name: str, images: int, batch: int, options: dict):
        """Options are the metric's own; `maps` and `softmax` are not, and `unchecked` leaves out what the metric asserts about its options."""
        options = dict(options)
        maps = self.data[options.pop("maps", "maps")][:images].transpose(0, 3, 1, 2)
        softmax, kind = options.pop("softmax", False), getattr(quantus, name)
        if options.pop("unchecked", False):
            kind = type(name, (kind,), {"custom_preprocess": lambda self, **_: None})
        if options.get("perturb_func") == "@broadcast":
            options["perturb_func"] = _fill
        options = {"normalise": False, "abs": False, "return_aggregate": False, "disable_warnings": True, **options}

        def call(seed: int) -> np.ndarray:
            np.random.seed(seed)  # noqa: NPY002  what Quantus draws from
            torch.manual_seed(seed)
            self.segments = iter(self.data["segments"])
            result = kind(**options)(
                model=self.model, x_batch=self.images[:images], y_batch=self.data["y"][:images], a_batch=maps.copy(),
                s_batch=self.data["masks"][:images, None], channel_first=True, explain_func=self._explain, softmax=softmax,
                device="cpu", batch_size=batch,
            )  # fmt: skip
            return np.array(list(result.values()) if isinstance(result, dict) else result, np.float64)

        return call

    def _explain(self, model, inputs, targets, device=None) -> np.ndarray:
        return metric_captum.summed(model, torch.as_tensor(inputs, dtype=torch.float32), torch.as_tensor(targets)).numpy()


def _fill(arr, mask, perturb_baseline, **_) -> np.ndarray:
    """What `baseline_replacement_by_mask` does, for a mask with one channel, which is what IROF passes and that refuses for RGB."""
    return np.where(mask, np.float32(perturb_baseline), arr)
