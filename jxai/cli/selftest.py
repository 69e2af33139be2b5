"""Three answers that are known beforehand: a gradient, bounds and a Sobol map of tiny networks, against their closed forms."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Check(NamedTuple):
    """What one check found."""

    name: str
    off: float
    """By how much the answer differs from the closed form, relative to the largest value of that."""
    allowed: float
    seconds: float
    error: str
    """What went wrong where there is no answer."""

    @property
    def holds(self) -> bool:
        return not self.error and self.off <= self.allowed


def checks() -> list[Check]:
    """Runs all of them; an exception is a check that does not hold."""
    return [_run(name, fn, allowed) for name, fn, allowed in (("gradient", _gradient, 1e-5), ("bounds", _bounds, 1e-5), ("sobol", _sobol, 0.05))]


def _run(name: str, fn: Callable[[], tuple[np.ndarray, np.ndarray]], allowed: float) -> Check:
    start = time.perf_counter()
    try:
        got, true = fn()
        off = float(np.abs(got - true).max() / np.abs(true).max())
        return Check(name, off, allowed, time.perf_counter() - start, "" if np.isfinite(off) else "not finite")
    except Exception as error:  # whatever an installation may raise
        return Check(name, float("nan"), allowed, time.perf_counter() - start, f"{type(error).__name__}: {error}".splitlines()[0])


def _gradient() -> tuple[np.ndarray, np.ndarray]:
    """Of `W relu(V x)` it is `W diag[V x > 0] V`."""
    from jxai.attribution import gradient

    rng = np.random.default_rng(0)
    v, w, x = (rng.normal(size=shape).astype(np.float32) for shape in ((8, 5), (3, 8), (5,)))
    with jax.default_matmul_precision("highest"):
        got = jax.jit(lambda x: gradient(lambda x: jnp.dot(w, jax.nn.relu(jnp.dot(v, x))), x, 1))(x)
    return np.asarray(got), (w[1] * (v @ x > 0)) @ v


def _bounds() -> tuple[np.ndarray, np.ndarray]:
    """Of `W x` on a box with centre c and radius r they are `W c ± |W| r`."""
    from jxai.bounds import ball, crown

    rng = np.random.default_rng(1)
    w, x = rng.normal(size=(3, 4)).astype(np.float32), rng.normal(size=4).astype(np.float32)
    with jax.default_matmul_precision("highest"):
        got = jax.jit(lambda x: crown(lambda v: jnp.dot(w, v))(ball(x, 0.1)))(x)
    spread = np.abs(w).sum(1) * np.float32(0.1)
    return np.stack([got.lower, got.upper]), np.stack([w @ x - spread, w @ x + spread])


def _sobol() -> tuple[np.ndarray, np.ndarray]:
    """Of `Σ wᵢ xᵢ` the total index of position i is `wᵢ² / Σ wⱼ²`."""
    from jxai.attribution import sobol

    w = np.asarray([[1.0, 2.0], [3.0, 4.0]], np.float32)
    f = lambda x: jnp.stack([(w * x[..., 0]).sum(), jnp.zeros(())])
    got = jax.jit(lambda x, key: sobol(f, x, 0, key, grid=2, num_designs=512))(jnp.ones((2, 2, 1)), jax.random.key(0))
    return np.asarray(got)[..., 0], w**2 / (w**2).sum()
