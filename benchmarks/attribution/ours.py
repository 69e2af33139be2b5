"""jxai as a worker of the benchmark."""

from __future__ import annotations

import dataclasses
import os
import time

import jax
import jax.numpy as jnp
import numpy as np

import jxai.attribution
from benchmarks.measuring.measure import photographs
from jxai import batching, concepts, fills, taps
from jxai.masks import regular
from jxai.models import efficientnet_lite, lenet5
from jxai.typing import PyTree

if "JXAI_BENCHMARK_CACHE" in os.environ:
    jax.config.update("jax_compilation_cache_dir", os.environ["JXAI_BENCHMARK_CACHE"])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


class Jxai:
    def __init__(self):
        self.f = efficientnet_lite(0)
        self.x = jnp.asarray(photographs(8))
        self.logits = jax.jit(lambda f, x: jax.lax.map(f, x))(self.f, self.x)
        self.y = self.logits.argmax(-1)

    def facts(self) -> dict:
        a = jnp.ones((2048, 2048))
        product = jax.jit(lambda a: a @ a).lower(a).compile()
        gflops = 2 * 2048**3 / _best(lambda: product(a).block_until_ready()) / 1e9
        versions = {"jax": jax.__version__, "jxai": jxai.__version__}
        return {"gflops": gflops, "versions": versions, "targets": self.y.tolist(), "logits": np.asarray(self.logits).tolist()}

    def floor(self, batch: int, backward: bool):
        """Batches one after another in one program, as a method runs them: its scratch is touched for the first time only once."""
        batches = max(2, 16 // batch, 2**20 // (batch * self.x[0].size))
        x, y = jnp.broadcast_to(self.x[0], (batches, batch, *self.x.shape[1:])), self.y[0]

        def one(f, v):
            return jax.grad(lambda u: f(u)[y])(v) if backward else f(v)

        run = jax.jit(lambda f, x: jax.lax.map(jax.vmap(lambda v: one(f, v)), x)).lower(self.f, x).compile()
        return lambda: jax.block_until_ready(run(self.f, x)), batches * batch

    def method(self, name: str, images: int, batch: int, options: dict):
        """`batch` is for the peers: ours run at their default `chunk`."""
        return _Call(self, name, images, self._options(options))

    def forget(self) -> None:
        jax.clear_caches()

    def _options(self, options: dict) -> dict:
        """Options as the table has them: `"@…"` stands for what JSON cannot say."""
        stands_for = {
            "@top": lambda: None,
            "@last": lambda: [layer for layer in taps.layers(self.f, self.x[0]) if layer.shape == (7, 7, 320)][-1].index,
            "@photographs": lambda: self.x[1:5],
            "@blur": lambda: fills.Blur(10.0),
            "@segments": lambda: jnp.asarray(regular((224, 224), 8)),
        }
        return {k: stands_for[v]() if isinstance(v, str) and v.startswith("@") else v for k, v in options.items()}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Centred:
    """A model of pixels in [−1, 1]."""

    f: PyTree

    def __call__(self, v):
        return self.f((v + 1) / 2)


def conditional(f, x, target, key, *, composite: str, channels: int, chunk: int):
    """Maps of the first channels that leave the eleventh block, `chunk` at once: memory does not grow with their number."""
    layer = [one for one in taps.layers(f, x) if one.shape == (14, 14, 112)][-1]
    return concepts.channel_maps(f, x, target, layer.index, range(channels), composite=composite, chunk=chunk).sum(-1, keepdims=True)


class _Call:
    """One image as it is, several in the blocks that `jxai.each` takes; the arrays among the options are arguments of the compiled program."""

    def __init__(self, jxai_, name: str, images: int, options: dict):
        self.f, self.x, self.y = jxai_.f, jxai_.x, jxai_.y
        if options.pop("centred", False):
            self.f, self.x = Centred(self.f), 2 * self.x - 1
        if options.pop("net", ""):
            self.f, self.x = lenet5(), self.x[:, ::7, ::7].mean(-1, keepdims=True)
            self.y = jax.vmap(self.f)(self.x).argmax(-1)
        self.images = images
        block = batching.default_batch_size(self.x[0])
        method = conditional if name == "conditional" else getattr(jxai.attribution, name)
        arrays = {k: v for k, v in options.items() if isinstance(v, jax.Array)}
        static = {k: v for k, v in options.items() if k not in arrays}
        if "segments" in arrays:
            static["num_segments"] = int(arrays["segments"].max()) + 1

        def explain(f, x, y, key, arrays):
            def one(x, y):
                return method(f, x, y, key, **arrays, **static)

            return jax.lax.map(lambda row: one(*row), (x, y), batch_size=block) if images > 1 else one(x[0], y[0])[None]

        self.arrays, self.run = arrays, jax.jit(explain)

    def arguments(self, seed: int) -> tuple:
        n = self.images
        return self.f, self.x[:n], self.y[:n], jax.random.key(seed), self.arrays

    def compile(self) -> int:
        """Bytes of scratch that the compiled program declares."""
        self.run = self.run.lower(*self.arguments(0)).compile()
        return self.run.memory_analysis().temp_size_in_bytes

    def __call__(self, seed: int):
        return jax.block_until_ready(self.run(*self.arguments(seed)))


def _best(call, repeats: int = 5) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)
