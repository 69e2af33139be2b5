"""jxai's bounds as a worker of the benchmark, compiled as a user would: one program over all images, `batch` at once."""

from __future__ import annotations

import os

import jax
import jax.numpy as jnp
import numpy as np

import jxai
from benchmarks.bounds import bound_data
from jxai import attribution
from jxai.bounds import METHODS, ball
from jxai.models import robust_cnn


class Jxai:
    def __init__(self):
        self.f = robust_cnn("mnist", os.environ["JXAI_BENCHMARK_DATA"])
        self.x = jnp.asarray(bound_data.load()["x"])
        self.logits = jax.jit(lambda f, x: jax.vmap(f)(x))(self.f, self.x[:8])

    def facts(self) -> dict:
        return {"versions": {"jax": jax.__version__, "jxai": jxai.__version__}, "logits": np.asarray(self.logits).tolist()}

    def floor(self, batch: int, backward: bool):
        """A product of two 2048 × 2048 matrices: the speed of the machine in the same minute."""
        a = jnp.ones((2048, 2048))
        product = jax.jit(lambda a: a @ a).lower(a).compile()
        return lambda: product(a).block_until_ready(), 1

    def method(self, name: str, images: int, batch: int, options: dict):
        options = dict(options)
        x = self.x[: options.pop("images", images)]

        def explain(f, x):
            return attribution.eva(f, x, f(x).argmax(), radius=bound_data.RADIUS, **options)

        def bounds(f, x):
            return jnp.stack(METHODS[name](f, **options)(ball(x, bound_data.RADIUS)))

        return _Call(self.f, x, min(batch, len(x)), explain if name == "eva" else bounds)

    def forget(self) -> None:
        jax.clear_caches()


class _Call:
    def __init__(self, f, x, batch: int, one):
        self.f, self.x = f, x
        size = None if batch == 1 else batch  # one at a time without an axis of size 1
        self.run = jax.jit(lambda f, x: jax.lax.map(lambda v: one(f, v), x, batch_size=size))

    def compile(self) -> int:
        """Bytes of scratch that the compiled program declares."""
        self.run = self.run.lower(self.f, self.x).compile()
        return self.run.memory_analysis().temp_size_in_bytes

    def __call__(self, seed: int) -> np.ndarray:
        return np.asarray(self.run(self.f, self.x))
