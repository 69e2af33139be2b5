"""Ways to spoil a routine that keeps its contract: in what it computes, or in what its docstring says."""

from __future__ import annotations

import functools
import itertools
import types

import jax
import jax.numpy as jnp
import numpy as np

TICKS = itertools.count()


def tick():
    """Another number at every run of a program."""
    return jax.pure_callback(lambda: np.float32(next(TICKS)), jax.ShapeDtypeStruct((), jnp.float32))


@jax.custom_batching.custom_vmap
def alone(value):
    """The value by itself, twice that under `vmap`."""
    return value


@alone.def_vmap
def _(size, batched, value):
    return 2 * value, True


def spoiler(good):
    """`spoiled(change)`: a routine with the signature and the docstring of `good` that is `change`."""

    def spoiled(change):
        @functools.wraps(good)
        def routine(*arguments, **options):
            return change(*arguments, **options)

        return routine

    return spoiled


def documented(good, old, new):
    """`good` with another docstring."""
    assert old in good.__doc__
    copy = types.FunctionType(good.__code__, good.__globals__, good.__name__, good.__defaults__, good.__closure__)
    copy.__kwdefaults__, copy.__doc__ = good.__kwdefaults__, good.__doc__.replace(old, new)
    return copy


def two_lines(good):
    """`good`, whose errors have two lines."""

    def method(*arguments, **options):
        try:
            return good(*arguments, **options)
        except ValueError as error:
            raise ValueError(f"{error}\nand so on") from None

    return method


def another_type(good):
    """`good`, whose errors are of another type."""

    def method(*arguments, **options):
        try:
            return good(*arguments, **options)
        except ValueError as error:
            raise TypeError(str(error)) from None

    return method
