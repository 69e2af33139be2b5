"""Zennit and zennit-crp as a worker of the benchmark: layer-wise relevance propagation on the network of the other peers.

What is no module of its own in that network (sums around blocks, the last mean) gets one, as zennit asks; it explains pixels scaled to [−1, 1], for a scale before
the first convolution would multiply its relevance.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from benchmarks.attribution.captum_peers import Torch, channels_last


class Zennit(Torch):
    packages = ("torch", "zennit", "zennit-crp")

    def lrp(self, x, y, batch, composite):
        v = (2 * x - 1).requires_grad_()
        with self._composite(composite).context(self.model) as modified:
            logits = modified(v)
            (found,) = torch.autograd.grad(logits, v, logits * functional.one_hot(y, logits.shape[1]))
        return channels_last(found)

    def conditional(self, x, y, batch, composite, channels):
        from crp.attribution import CondAttribution

        v = (2 * x - 1).requires_grad_()
        conditions = [{"y": [int(y[0])], "blocks.10": [channel]} for channel in range(channels)]
        blocks = CondAttribution(self.model).generate(v, conditions, self._composite(composite), batch_size=batch, verbose=False)
        return torch.cat([block.heatmap for block in blocks]).numpy()[..., None]

    @staticmethod
    def _composite(name: str):
        from zennit.canonizers import AttributeCanonizer
        from zennit.composites import COMPOSITES

        box = {"low": -1.0, "high": 1.0} if name == "epsilon_gamma_box" else {}
        return COMPOSITES[name](canonizers=[AttributeCanonizer(_modules)], **box)


def _modules(name: str, module: nn.Module) -> dict | None:
    from zennit.layer import Sum

    if getattr(module, "skip", False):
        return {"forward": _block.__get__(module), "sum": Sum()}
    if hasattr(module, "classify"):
        return {"forward": _network.__get__(module), "mean": nn.AdaptiveAvgPool2d(1)}
    return None


def _block(self, x):
    return self.sum(torch.stack([x, self.steps(x)], -1))


def _network(self, v):
    return self.classify(self.mean(self.top(self.head(self.blocks(self.stem(v))))).flatten(1))
