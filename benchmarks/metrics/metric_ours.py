"""jxai's metrics as a worker of the benchmark, called through `jxai.each` as a user would."""

from __future__ import annotations

import importlib
import os
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np

import jxai.metrics
from benchmarks.attribution import ours
from benchmarks.metrics import metric_data
from jxai.attribution import input_x_gradient
from jxai.batching import each
from jxai.models import available
from jxai.typing import Curve


def summed(f, x, target, key=None):
    """Input × gradient summed over the channels: a map with one channel, as the peers are given."""
    return input_x_gradient(f, x, target).sum(-1, keepdims=True)


def nothing(f, x, target, attribution, key=None):
    """What `each` itself takes: a metric that does nothing."""
    return jnp.zeros(())


class Jxai(ours.Jxai):
    def __init__(self):
        setting, images = metric_data.chosen()
        pretrained = available()[metric_data.SETTINGS[setting].model].build()
        self.f = pretrained.model
        if not os.path.exists(os.environ["JXAI_BENCHMARK_DATA"]):
            metric_data.make(self.f, metric_data.pixels(setting, images, pretrained.preprocess), self._explain)
        self.data = metric_data.load()
        self.x, self.y = jnp.asarray(self.data["x"]), jnp.asarray(self.data["y"])
        self.logits = each(lambda f, x: f(x), self.f, self.x)
        found = (importlib.import_module(f"jxai.metrics.{module.name}") for module in pkgutil.iter_modules(jxai.metrics.__path__))
        self.metrics = {name: getattr(module, name) for module in found for name in getattr(module, "__all__", ())}
        self.metrics["nothing"] = nothing

    @staticmethod
    def _explain(f, images):
        y = each(lambda f, x: f(x), f, images).argmax(-1).astype(jnp.int32)
        return np.asarray(y), np.asarray(each(summed, f, images, y))

    def method(self, name: str, images: int, batch: int, options: dict):
        """`batch` is for the peers: ours run at their defaults. A value `"@…"` is an array by example, or what JSON cannot say."""
        options = dict(options)
        maps = jnp.asarray(self.data[options.pop("maps", "maps")][:images])
        own = {k: jnp.asarray(self.data[v[1:]][:images]) for k, v in options.items() if isinstance(v, str) and v[1:] in self.data}
        fixed = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items() if k not in own}
        if fixed.get("method") == "@summed":
            fixed["method"] = summed
        if fixed.get("weights_key") == "@key":
            fixed["weights_key"] = jax.random.key(7)
        fn, x, y = self.metrics[name], self.x[:images], self.y[:images]

        def call(seed: int) -> np.ndarray:
            return _flat(each(fn, self.f, x, y, maps, key=jax.random.key(seed), per_example=own, **fixed))

        return call


def _flat(result) -> np.ndarray:
    """`[N]`, or of a curve `[N, points + 1]`: y, and the area last."""
    if isinstance(result, Curve):
        return np.concatenate([np.asarray(result.y), np.asarray(result.auc)[:, None]], 1)
    return np.asarray(result)
