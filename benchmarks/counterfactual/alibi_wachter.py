"""alibi's `Counterfactual` (Wachter et al.) as a program of its own, for the Python of an environment that holds alibi (`make build/alibi/.done`).

    build/alibi/bin/python benchmarks/counterfactual/alibi_wachter.py TASK.npz FOUND.npz

The peer wants NumPy 1, TensorFlow before 2.15 and its graphs of version 1, so that it cannot live beside JAX. It explains one image at a time,
and the class is fixed in its graph: each class of the task gets a graph of its own, made before its searches are timed.

TASK: x `[n, 28, 28, 1]`, target `[n]`, the weights by the layers of `jxai.models.RobustCNN`, and the explainer's options. FOUND, by search: x (NaN
where none was found), gradient steps, wall and processor seconds; beside them the logits at x, the processor seconds until each graph is made and
has run the first steps of a search, and the versions.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import sys
import time

import numpy as np
import tensorflow.compat.v1 as tf

tf.logging.set_verbosity(tf.logging.ERROR)
tf.disable_v2_behavior()

from alibi.explainers import Counterfactual  # noqa: E402

logging.getLogger("alibi").setLevel(logging.CRITICAL)  # a search without success is in the result


class Counting:
    """A session that counts how often the gradient was asked for."""

    def __init__(self, session: tf.Session, gradient: list):
        self._session, self._gradient, self.steps = session, gradient, 0

    def run(self, fetches, *args, **kwargs):
        self.steps += fetches is self._gradient
        return self._session.run(fetches, *args, **kwargs)

    def __getattr__(self, name: str):
        return getattr(self._session, name)


def network(weights: dict[str, np.ndarray]) -> tf.keras.Model:
    """`jxai.models.RobustCNN` with its weights and a softmax at the end, as the peer wants it."""
    layers = tf.keras.layers
    parts = {
        "first": layers.Conv2D(16, 4, 2, activation="relu"),
        "second": layers.Conv2D(32, 4, 2, activation="relu"),
        "hidden": layers.Dense(100, activation="relu"),
        "classifier": layers.Dense(10),
    }
    pad, flat = layers.ZeroPadding2D, layers.Flatten()
    order = [pad(), parts["first"], pad(), parts["second"], flat, parts["hidden"], parts["classifier"], layers.Softmax()]
    model = tf.keras.Sequential([tf.keras.Input((28, 28, 1)), *order])
    for name, part in parts.items():
        part.set_weights([weights[f"{name}.kernel"], weights[f"{name}.bias"]])
    return model


def logits(weights: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    with tf.Graph().as_default(), tf.Session() as session:
        tf.keras.backend.set_session(session)
        model = network(weights)
        return tf.keras.Model(model.input, model.layers[-2].output).predict(x)


def searches(weights: dict[str, np.ndarray], x: np.ndarray, target: int, options: dict) -> tuple[list[tuple], float]:
    """For each image what was found, gradient steps, wall and processor seconds; and the processor seconds that the graph took."""
    with tf.Graph().as_default(), tf.Session() as session:
        tf.keras.backend.set_session(session)
        start = time.process_time()
        explainer = Counterfactual(network(weights), shape=(1, *x.shape[1:]), target_class=target, **options)
        explainer.max_iter = 10  # a step for each value of the sweep
        explainer.explain(x[:1])
        explainer.max_iter = options["max_iter"]
        made = time.process_time() - start
        explainer.sess = counting = Counting(explainer.sess, explainer.compute_grads)

        def search(image: np.ndarray) -> tuple:
            steps, wall, used = counting.steps, time.perf_counter(), time.process_time()
            found = explainer.explain(image[None]).cf
            spent = time.perf_counter() - wall, time.process_time() - used
            return np.full_like(image, np.nan) if found is None else found["X"][0], counting.steps - steps, *spent

        return [search(image) for image in x], made


def main(task: str, found: str) -> None:
    with np.load(task) as arrays:
        given = dict(arrays)
    x, target, options = given["x"], given["target"], json.loads(str(given["options"]))
    rows, graphs = [None] * len(x), []
    for t in np.unique(target):
        at = np.flatnonzero(target == t)
        of_class, seconds = searches(given, x[at], int(t), options)
        graphs.append(seconds)
        for i, row in zip(at, of_class):
            rows[i] = row
    columns = dict(zip(("x", "steps", "wall", "processor"), map(np.stack, zip(*rows))))
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("alibi", "tensorflow", "numpy"))
    np.savez(found, **columns, logits=logits(given, x), graphs=np.array(graphs), versions=versions)


if __name__ == "__main__":
    main(*sys.argv[1:])
