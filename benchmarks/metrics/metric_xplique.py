"""Xplique's metrics as a worker of the benchmark, on the Keras model. They return means over the images."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
import xplique.attributions as xa
import xplique.metrics as xm

from benchmarks.attribution import xplique_peers
from benchmarks.metrics import metric_data, nets


class Xplique(xplique_peers.OnKeras):
    def __init__(self):
        setting, _ = metric_data.chosen()
        self.data, self.model = metric_data.load(), nets.keras(setting)
        self.x = tf.constant(self.data["x"])
        self.logits = np.asarray(self.model(self.x))
        self.y = tf.one_hot(self.data["y"], self.logits.shape[1])

    def method(self, name: str, images: int, batch: int, options: dict):
        options = dict(options)
        maps = self.data[options.pop("maps", "maps")][:images]
        kind, x, y = getattr(xm, name), self.x[:images].numpy(), self.y[:images].numpy()

        def call(seed: int) -> np.ndarray:
            tf.random.set_seed(seed)
            if name in ("Complexity", "Sparseness"):
                return kind(batch_size=batch).detailed_evaluate(maps)
            metric = kind(self.model, x, y, batch_size=batch, **options)
            if name == "RandomLogitMetric":
                return np.array([metric.evaluate(xa.GradientInput(self.model, batch_size=batch, reducer="mean"))])
            return np.array(list(metric.detailed_evaluate(maps).values())) if name in ("Deletion", "Insertion") else np.array([metric(maps)])

        return call
