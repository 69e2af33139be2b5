"""A function whose derivative is said to be another."""

import jax


def scaled_gradient(factor):
    """The identity, whose derivative is `factor`."""

    @jax.custom_vjp
    def f(v):
        return v

    f.defvjp(lambda v: (v, None), lambda _, g: (factor * g,))
    return f
