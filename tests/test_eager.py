"""Eager calls: a loop is compiled once for what it computes, whoever makes its closures anew, and memory is flat."""

import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from derivatives import scaled_gradient
from flax import nnx
from proofs import BOUNDS

from jxai import attribution, bounds, counterfactual, loops, metrics
from jxai.loops import staging
from jxai.testing import example
from jxai.testing.trial import compilations

X = np.random.default_rng(0).uniform(size=(4, 4, 1)).astype(np.float32)
KEY = jax.random.key(0)


class Net(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.conv, self.out = nnx.Conv(1, 2, (3, 3), rngs=rngs), nnx.Linear(2, 3, rngs=rngs)

    def __call__(self, x):
        return self.out(nnx.relu(self.conv(x)).mean((0, 1)))


F = Net()
MAP = np.random.default_rng(1).normal(size=(4, 4, 1)).astype(np.float32)
CALLS = {
    "sums": lambda x: attribution.smoothgrad(F, x, 1, KEY, num_samples=6, chunk=2),
    "one block": lambda x: attribution.occlusion(F, x, 1),
    "a while loop": lambda x: attribution.guided_integrated_gradients(F, x, 1, steps=3),
    "a loop within a mapped function": lambda x: bounds.attack(F, bounds.ball(x, 0.02), 1, KEY, steps=2, restarts=2).margin,
    "a curve": lambda x: metrics.deletion(F, x, 1, MAP, steps=4).auc,
    "an order": lambda x: metrics.relevance_rank(F, x, 1, MAP, mask=np.eye(4, dtype=bool)),
    "random networks": lambda x: metrics.parameter_randomization(F, x, 1, MAP, KEY, method=attribution.gradient).auc,
    "a search": lambda x: counterfactual.wachter(F, x, 2, KEY, steps=3).x,
}


@pytest.mark.parametrize("name", CALLS)
def test_the_second_call_compiles_nothing(name):
    call = CALLS[name]
    first = np.asarray(call(jnp.asarray(X)))
    before = compilations()
    again = [np.asarray(call(jnp.asarray(x))) for x in (0.9 * X, X)]
    assert compilations() == before and np.array_equal(again[1], first, equal_nan=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", BOUNDS)
def test_the_second_bound_or_subset_compiles_nothing(name):
    x = example((6,))
    BOUNDS[name](x)
    before = compilations()
    BOUNDS[name](x)
    assert compilations() == before


def loop(step, x):
    return loops.scan(lambda c, t: (step(c, t), None), x, jnp.arange(3.0))[0]


def test_what_a_loop_computes_is_what_its_closure_says_now():
    """Numbers, arrays, functions and globals: of each the newest."""
    x, held = jnp.arange(2.0), {"w": jnp.ones(2)}
    for factor in (2.0, 3.0, 2.0):
        assert np.allclose(loop(lambda c, t: factor * c + t, x), factor**3 * x + factor * 1 + 2)
    for w in (1.0, 5.0):
        held["w"] = jnp.full(2, w)
        assert np.allclose(loop(lambda c, t: c + held["w"], x), x + 3 * w)
    for f in (jnp.sin, jnp.cos):
        assert np.allclose(loop(lambda c, t: f(c), x), f(f(f(x))), rtol=1e-5)
    for table in (np.arange(2.0, dtype=np.float32), np.ones(2, np.float32)):
        assert np.allclose(loop(jax.jit(lambda c, t: c + table), x), x + 3 * table)


def test_derivatives_of_ones_own_are_kept_within_and_around():
    for factor in (2.0, 5.0):
        f = scaled_gradient(factor)
        assert np.allclose(loop(lambda c, t: c + jax.grad(lambda v: f(v).sum())(c), jnp.zeros(2)), 3 * factor)
        assert np.allclose(jax.grad(lambda v: loop(lambda c, t: f(c), v).sum())(jnp.ones(2)), factor**3)
        assert np.allclose(jax.grad(lambda a: loop(lambda c, t: c + f(a), jnp.zeros(())))(1.0), 3 * factor)


def test_transformations_see_through():
    f = lambda a: loop(lambda c, t: a * c + t, jnp.ones(()))
    assert np.allclose(jax.vmap(f)(jnp.arange(3.0)), [f(jnp.float32(a)) for a in range(3)])
    assert np.allclose(jax.grad(f)(2.0), 3 * 4 + 1) and np.allclose(jax.jit(f)(2.0), f(jnp.float32(2)))
    assert np.allclose(jax.jacfwd(f)(2.0), 13)


def test_programs_are_few_whatever_the_number_of_computations(monkeypatch):
    monkeypatch.setattr(staging, "_KEPT", 3)
    for n in range(6):
        loops.map(lambda v, n=n: v + n, jnp.zeros(1))
    assert len(staging._PROGRAMS) == 3


def test_programs_that_call_back_are_not_kept():
    """What they call is made anew for every trace, and may hold anything."""
    seen, before = [], len(staging._PROGRAMS)
    loop(lambda c, t: (jax.debug.callback(lambda v: seen.append(float(v)), t), c)[1], jnp.zeros(1))
    jax.effects_barrier()
    assert sorted(seen) == [0, 1, 2] and len(staging._PROGRAMS) == before


@pytest.mark.slow
def test_memory_is_flat_over_a_thousand_calls():
    resident = lambda: int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20
    calls = [CALLS[name] for name in ("sums", "one block", "a curve")]
    for call in calls:
        call(jnp.asarray(X))
    seen = []
    for n in range(1000):
        calls[n % 3](jnp.asarray(X) + n)
        if n % 250 == 249:
            gc.collect()
            seen.append(resident())
    assert seen[-1] - seen[0] < 8
