"""What an output depends on: through calls, scans and branches, and not through what is computed and then thrown away."""

import jax
import jax.numpy as jnp
import pytest

from jxai.tracing.reads import read

CASES = {
    "a sum": (lambda a, b, c: a + b, {0, 1}),
    "what is thrown away": (lambda a, b, c: (a * c, b)[1], {1}),
    "in a call": (lambda a, b, c: jax.jit(lambda u, v: (u * c, v))(a, b)[1], {1}),
    "in a call that uses it": (lambda a, b, c: jax.jit(lambda u, v: (u * c, v))(a, b)[0], {0, 2}),
    "in a scan": (lambda a, b, c: jax.lax.scan(lambda s, x: (s + x * a, (c * x, None)[1]), 0.0, jnp.arange(3.0))[0] + 0 * b, {0, 1}),
    "in a branch": (lambda a, b, c: jax.lax.cond(a > 0, lambda: b * 2, lambda: b + 1.0), {0, 1}),
    "in a loop": (lambda a, b, c: jax.lax.while_loop(lambda s: s < c, lambda s: s + a, 0.0), {0, 2}),
    "behind a derivative of its own": (lambda a, b, c: jax.nn.relu(a) + 0.0, {0}),
}


@pytest.mark.parametrize("name", CASES)
def test_inputs_that_are_read(name):
    fn, expected = CASES[name]
    assert read(jax.make_jaxpr(fn)(1.0, 2.0, 3.0).jaxpr) == expected


def test_outputs_by_number():
    made = jax.make_jaxpr(lambda a, b: (a + 1, b + 1, a * b))(1.0, 2.0).jaxpr
    assert [read(made, [n]) for n in range(3)] == [{0}, {1}, {0, 1}]
