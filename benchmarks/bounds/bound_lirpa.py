"""auto_LiRPA as a worker of the benchmark: release 0.3 of PyPI on today's PyTorch and NumPy.

Its requirements end at PyTorch 1.12, so that it is installed without them: `pip install --no-deps auto-LiRPA==0.3`, and `appdirs`, which it
imports. Three names that have gone since are given back before it is imported; no arithmetic is touched.
"""

from __future__ import annotations

import importlib.metadata
import sys
import types

import numpy as np
import torch
import torch.onnx.symbolic_helper
import torch.onnx.utils
from torch import nn

from benchmarks.bounds import bound_data

NAMES = {"interval": "IBP", "crown_ibp": "CROWN-IBP", "crown": "CROWN", "forward": "forward", "alpha_crown": "CROWN-Optimized"}


def _restore_names() -> None:
    module = types.ModuleType("numpy.lib.arraysetops")
    module.isin = np.isin
    sys.modules.setdefault("numpy.lib.arraysetops", module)
    if not hasattr(torch.onnx.symbolic_helper, "_set_opset_version"):
        from torch.onnx._internal.torchscript_exporter._globals import GLOBALS

        torch.onnx.symbolic_helper._set_opset_version = lambda version: setattr(GLOBALS, "export_onnx_opset_version", version)
    if not hasattr(torch._C.Node, "__getitem__"):
        torch._C.Node.__getitem__ = lambda node, name: getattr(node, node.kindOf(name))(name)


_restore_names()

from auto_LiRPA import BoundedModule, BoundedTensor, PerturbationLpNorm  # noqa: E402


class AutoLirpa:
    def __init__(self):
        arrays = bound_data.load()
        self.model = network(arrays)
        self.x = torch.from_numpy(arrays["x"].transpose(0, 3, 1, 2).copy())
        with torch.no_grad():
            self.logits = self.model(self.x[:8])

    def facts(self) -> dict:
        versions = {name: importlib.metadata.version(name) for name in ("torch", "auto-LiRPA")}
        return {"versions": versions, "threads": torch.get_num_threads(), "logits": self.logits.tolist()}

    def floor(self, batch: int, backward: bool):
        a = torch.ones(2048, 2048)
        return lambda: a @ a, 1

    def method(self, name: str, images: int, batch: int, options: dict):
        """`options`: mode "patches" or "matrix", of convolutions; of "alpha_crown" steps, and whether the layers in between are optimised."""
        x = self.x[: options.get("images", images)]
        batch = min(batch, len(x))
        arguments = {"iteration": options.get("steps", 20), "early_stop_patience": 10**6}
        opts = {"conv_mode": options.get("mode", "patches"), "optimize_bound_args": arguments}
        if options.get("intermediate"):  # with these, the release ends in an error about shapes where few neurons of a layer are stable
            opts |= {"sparse_features_alpha": False, "sparse_spec_alpha": False}
        bounded = BoundedModule(self.model, x[:batch], bound_opts=opts)
        blocks = [BoundedTensor(part, PerturbationLpNorm(norm=float("inf"), eps=bound_data.RADIUS)) for part in x.split(batch)]

        def bounds(block) -> np.ndarray:
            if name != "alpha_crown":
                with torch.no_grad():
                    ends = bounded.compute_bounds(x=(block,), method=NAMES[name])
            else:
                ends = bounded.compute_bounds(x=(block,), method=NAMES[name], intermediate_layer_bounds=self._fixed(bounded, block, options))
            return torch.stack(ends, 1).detach().numpy()

        return lambda seed: np.concatenate([bounds(block) for block in blocks])

    @staticmethod
    def _fixed(bounded, block, options: dict) -> dict | None:
        """CROWN's bounds of the layers in between, for the optimisation of the outputs alone."""
        if options.get("intermediate"):
            return None
        with torch.no_grad():
            bounded.compute_bounds(x=(block,), method="CROWN")
        return {node.inputs[0].name: [node.inputs[0].lower.clone(), node.inputs[0].upper.clone()] for node in bounded.relus}


def network(arrays: dict[str, np.ndarray]) -> nn.Sequential:
    layers = [nn.Conv2d(1, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(1568, 100), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(100, 10))
    model.load_state_dict({name: torch.from_numpy(arrays[name]) for name in model.state_dict()})
    return model.eval().requires_grad_(False)
