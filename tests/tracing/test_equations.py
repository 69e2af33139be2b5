"""What jxai reads of JAX's equations is there: each primitive that it knows, by its name, with the parameters that it asks for.

Where a new JAX renames something, these tests say what; `jxai/tracing/equations.py` is where it is mended.
"""

import itertools
import re
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

import jxai
from jxai import kernels
from jxai.bounds.recognised import layouts
from jxai.bounds.rules import discrete_rules, primitives
from jxai.tracing import axes, demand, equations, joins, movements

X = jnp.ones((4, 6))
IMAGE = jnp.ones((1, 6, 8, 3))
SYNTHETIC = {"scan_slice", "scan_stack"}  # steps that `interpret` makes of a scan
PLACES = ("NHWC", "HWIO", "NHWC")


def convolution(x):
    kernel = jnp.ones((3, 5, 1, 3))
    return lax.conv_general_dilated(x, kernel, (1, 2), ((1, 1), (2, 0)), (2, 1), (1, 3), PLACES, 3, 1)


@jax.custom_jvp
def curve(x):
    return jnp.sin(x)


@jax.custom_vjp
def ruled(x):
    return jnp.sin(x)


curve.defjvp(lambda x, t: (curve(*x), t[0]))
ruled.defvjp(lambda x: (ruled(x), x), lambda x, g: (g,))


def looped(x):
    """The gradient of a scan that is computed again: the one way in which JAX comes to call a bare jaxpr."""
    total = lambda x: lax.scan(lambda c, _: (jnp.sin(c) * jnp.sin(x.sum()), None), x, None, length=2)[0].sum()
    return jax.grad(jax.checkpoint(total))(x)


def windows(operation, start):
    return lambda x: lax.reduce_window(x, start, operation, (2, 3), (1, 2), ((1, 0), (0, 2)), (1, 1), (2, 1))


WINDOWS = dict(window_dimensions=(2, 3), window_strides=(1, 2), padding=((1, 0), (0, 2)), base_dilation=(1, 1), window_dilation=(2, 1))
BARE = "closed_call" if "closed_call" in str(jax.make_jaxpr(looped)(X)) else "eval_jaxpr"
# Of each primitive a function that uses it, its argument, and what its parameters are then; `...` for what is no plain value.
TRACED = {
    "jit": (jax.jit(lambda x: jnp.sin(x)), X, dict(jaxpr=..., name="<lambda>")),
    "remat2": (jax.checkpoint(jnp.sin), X, dict(jaxpr=...)),
    "custom_jvp_call": (curve, X, dict(call_jaxpr=...)),
    "custom_vjp_call": (ruled, X, dict(call_jaxpr=...)),
    BARE: (looped, X, dict(call_jaxpr=...)),
    "scan": (lambda x: lax.scan(lambda c, v: (c + v, v), x[0], x, reverse=True), X, dict(jaxpr=..., length=4, reverse=True)),
    "broadcast_in_dim": (lambda x: lax.broadcast_in_dim(x, (4, 2, 6), (0, 2)), X, dict(broadcast_dimensions=(0, 2))),
    "concatenate": (lambda x: lax.concatenate([x, x], 1), X, dict(dimension=1)),
    "conv2d": (
        lambda x: kernels.conv2d(x, jnp.ones((3, 3, 1, 3)), (1, 2), ((1, 1), (1, 1)), 3, None),
        *(IMAGE, dict(strides=(1, 2), padding=((1, 1), (1, 1)), feature_group_count=3)),
    ),
    "conv_general_dilated": (
        *(convolution, IMAGE),
        dict(
            window_strides=(1, 2),
            padding=((1, 1), (2, 0)),
            lhs_dilation=(2, 1),
            rhs_dilation=(1, 3),
            dimension_numbers=lax.conv_dimension_numbers(IMAGE.shape, (3, 5, 1, 3), PLACES),
            feature_group_count=3,
            batch_group_count=1,
        ),
    ),
    "convert_element_type": (lambda x: x.astype(jnp.float16), X, dict(new_dtype=jnp.float16)),
    "cumsum": (lambda x: lax.cumsum(x, 1), X, dict(axis=1)),
    "cumprod": (lambda x: lax.cumprod(x, 1), X, dict(axis=1, reverse=False)),
    "cumlogsumexp": (lambda x: lax.cumlogsumexp(x, 1, True), X, dict(axis=1, reverse=True)),
    "dot_general": (lambda x: jnp.einsum("ij,kj->ik", x, x), X, dict(dimension_numbers=(((1,), (1,)), ((), ())))),
    "cond": (lambda x: lax.cond(x.sum() > 0, jnp.sin, jnp.cos, x), X, dict(branches=...)),
    "dynamic_slice": (lambda x: lax.dynamic_slice(x, (1, 0), (2, 3)), X, dict(slice_sizes=(2, 3))),
    "fft": (lambda x: jnp.fft.fft(x).real, X, dict(fft_lengths=(6,))),
    "gather": (lambda x: x[np.array([2, 0])], X, dict(dimension_numbers=..., slice_sizes=(1, 6))),
    "integer_pow": (lambda x: x**3, X, dict(y=3)),
    "pad": (lambda x: lax.pad(x, 0.0, ((1, 2, 3), (0, 0, 0))), X, dict(padding_config=((1, 2, 3), (0, 0, 0)))),
    "reduce": (lambda x: lax.reduce(x, 0.5, lax.max, (1,)), X, dict(jaxpr=..., dimensions=(1,))),
    "reduce_precision": (lambda x: lax.reduce_precision(x, 8, 7), X, dict(exponent_bits=8, mantissa_bits=7)),
    "reshape": (lambda x: x.reshape(-1), X, dict(dimensions=None)),
    "rev": (lambda x: x[::-1], X, dict(dimensions=(0,))),
    "round": (jnp.round, X, dict(rounding_method=lax.RoundingMethod.TO_NEAREST_EVEN)),
    "scatter": (lambda x: x.at[np.array([2])].set(0.0), X, dict(dimension_numbers=..., mode=...)),
    "scatter-add": (lambda x: x.at[np.array([2])].add(1.0), X, dict(dimension_numbers=..., mode=...)),
    "scatter-mul": (lambda x: x.at[np.array([2])].mul(2.0), X, dict(dimension_numbers=..., mode=...)),
    "scatter-min": (lambda x: x.at[np.array([2])].min(2.0), X, dict(dimension_numbers=..., mode=...)),
    "scatter-max": (lambda x: x.at[np.array([2])].max(2.0), X, dict(dimension_numbers=..., mode=...)),
    "slice": (lambda x: x[1:3, ::2], X, dict(start_indices=(1, 0), limit_indices=(3, 6), strides=(1, 2))),
    "sort": (lambda x: lax.sort(x, dimension=0), X, dict(dimension=0)),
    "stack": (lambda x: jnp.stack([x, x], 1), X, dict(axis=1)),
    "split": (lambda x: lax.split(x, (2, 4), 1), X, dict(axis=1, sizes=(2, 4))),
    "squeeze": (lambda x: lax.squeeze(x[:1], (0,)), X, dict(dimensions=(0,))),
    "tile": (lambda x: jnp.tile(x, (2, 1)), X, dict(reps=(2, 1))),
    "top_k": (lambda x: lax.top_k(x, 2)[0], X, dict(axis=1)),
    "transpose": (lambda x: x.T, X, dict(permutation=(1, 0))),
    "reduce_sum": (lambda x: x.sum(1), X, dict(axes=(1,))),
    "reduce_max": (lambda x: x.max(1), X, dict(axes=(1,))),
    "reduce_min": (lambda x: x.min(1), X, dict(axes=(1,))),
    "reduce_prod": (lambda x: x.prod(1), X, dict(axes=(1,))),
    "reduce_and": (lambda x: (x > 0).all(1), X, dict(axes=(1,))),
    "reduce_or": (lambda x: (x > 0).any(1), X, dict(axes=(1,))),
    "argmax": (lambda x: x.argmax(1), X, dict(axes=(1,))),
    "argmin": (lambda x: x.argmin(1), X, dict(axes=(1,))),
    "reduce_xor": (lambda x: lax.reduce_xor((x > 0).astype(int), (1,)), X, dict(axes=(1,))),
    "unstack": (lambda x: jnp.unstack(x)[0], X, dict(axis=0)),
    "while": (lambda x: lax.while_loop(lambda c: c.sum() < 9, jnp.exp, x), X, dict(body_jaxpr=..., body_nconsts=0, cond_nconsts=0)),
    "reduce_window": (windows(lax.max, -1e30), X, dict(jaxpr=..., **WINDOWS)),
    "reduce_window_sum": (windows(lax.add, 0.0), X, WINDOWS),
    "reduce_window_max": (windows(lax.max, -jnp.inf), X, WINDOWS),
    "reduce_window_min": (windows(lax.min, jnp.inf), X, WINDOWS),
}


def traced(primitive, function, *arguments):
    """The first equation of this primitive that a function traces to."""
    found = {str(eqn.primitive): eqn for eqn in reversed([*equations.inside({"": jax.make_jaxpr(function)(*arguments)})])}
    if primitive not in found:
        pytest.fail(f"JAX {jax.__version__} no longer computes this by {primitive!r}, but by {', '.join(found)}")
    return found[primitive]


@pytest.mark.parametrize("primitive", TRACED)
def test_a_primitive_has_the_parameters_that_are_asked_for(primitive):
    function, x, expected = TRACED[primitive]
    eqn = traced(primitive, function, x)
    assert set(expected) == set(equations.PARAMETERS[primitive])
    for name, value in expected.items():
        found = equations.param(eqn, name)  # says which parameter of which primitive is missing, and in which JAX
        assert value is ... or found == value, f"{name!r} of {primitive!r} in JAX {jax.__version__}"


def test_no_primitive_is_asked_about_that_is_not_traced_here():
    assert set(equations.PARAMETERS) - set(TRACED) == {"closed_call", "eval_jaxpr"} - {BARE}


@pytest.mark.parametrize("primitive", sorted(equations.CALLS.keys() & TRACED.keys()))
def test_calls_are_seen_through(primitive):
    eqn = traced(primitive, *TRACED[primitive][:2])
    inner = equations.body(eqn)
    assert [v.aval.shape for v in inner.jaxpr.invars] == [v.aval.shape for v in eqn.invars]
    values = [np.full(v.aval.shape, 0.3, v.aval.dtype) for v in eqn.invars]
    again = eqn.primitive.bind(*values, **eqn.primitive.get_bind_params(eqn.params))
    for a, b in zip(jex.jaxpr_as_fun(inner)(*values), again if eqn.primitive.multiple_results else [again], strict=True):
        assert np.allclose(a, b)


def test_a_call_goes_by_its_functions_name():
    assert equations.called(traced("jit", jax.nn.silu, X)) == "silu"
    assert equations.called(traced("custom_jvp_call", jax.nn.relu, X)) == "relu"
    assert equations.called(traced("remat2", jax.checkpoint(jnp.sin), X)) == "sin"
    assert equations.called(traced("while", lambda x: lax.while_loop(lambda c: c.sum() < 9, jnp.sin, x), X)) == "while"


def test_elementwise_functions():
    for name in ("silu", "relu"):
        assert all(equations.is_elementwise(eqn) for eqn in jax.make_jaxpr(getattr(jax.nn, name))(X).eqns), name
    assert not equations.is_elementwise(traced("jit", jax.jit(lambda x: x.sum()), X))
    assert not equations.is_elementwise(traced("scan", *TRACED["scan"][:2]))


COUNTS = [*itertools.product((0, 2), (0, 1, 3), (0, 2), (0, 1), (False, True))]


@pytest.mark.parametrize(("constants", "carry", "slices", "stacked", "reverse"), [c for c in COUNTS if c[1] or c[3]])
def test_the_parts_of_a_scan_are_counted(constants, carry, slices, stacked, reverse):
    """Whatever there is none of, keys and results that depend on nothing among them."""
    held, start = [jnp.full(2, n) for n in range(constants)], [jnp.ones(3), jax.random.key(0), jnp.ones(())][:carry]
    along = [jnp.ones((5, 2)), jnp.arange(5)][:slices]

    def turn(state, values):
        total = sum((h.sum() for h in held), 0.0) + sum(v.sum() for v in values or [])
        return [f(v) for f, v in zip([lambda v: v + total, lambda v: jax.random.split(v)[0], jnp.sin], state)], [1.0] * stacked

    eqn = traced("scan", lambda *a: lax.scan(turn, *a, length=5, reverse=reverse), start, along or None)
    parts = equations.scan(eqn)
    assert (parts.constants, parts.carry, len(eqn.invars)) == (constants, carry, constants + carry + slices)
    assert [*parts.order] == ([4, 3, 2, 1, 0] if reverse else [0, 1, 2, 3, 4])


NAMES = {
    "CALLS": set(equations.CALLS) - {"closed_call", "eval_jaxpr"} | {BARE},
    "ELEMENTWISE": equations.ELEMENTWISE,
    "PARAMETERS": set(equations.PARAMETERS) - {"closed_call", "eval_jaxpr"},
    "axes": {*movements.MOVES, *movements.READS, *joins.RULES, *axes._SCALES, *axes._APART, *demand._RULES} - {"clip"},
    "bounds": set(primitives.RULES) | set(discrete_rules.RULES),
    "patterns": layouts.PLAIN | {"reshape", "squeeze", "transpose", "broadcast_in_dim"},
}
# Not among `jax.extend.core.primitives`: functions that trace to them.
FURTHER = {
    "add_any": looped,
    "conv2d": TRACED["conv2d"][0],
    "optimization_barrier": lax.optimization_barrier,
    "pvary": jax.shard_map(lambda x: x * 2.0, mesh=jxai.device_mesh(jax.devices()[:1]), in_specs=P("examples"), out_specs=P("examples")),
    "split": TRACED["split"][0],
    "stack": lambda x: jnp.stack([x, x]),
    "tile": lambda x: jnp.tile(x, 2),
    "unstack": lambda x: jnp.unstack(x)[0],
    BARE: looped,
}


LATER = {"stack": (0, 10, 1)}  # since when, where it is later than the oldest JAX that jxai runs on


@pytest.mark.parametrize("table", NAMES)
def test_every_primitive_that_is_named_exists(table):
    known = {value.name for value in vars(jex.primitives).values() if isinstance(value, jex.Primitive)} | SYNTHETIC
    for name in NAMES[table] - known - {name for name, since in LATER.items() if jax.__version_info__ < since}:
        assert name in FURTHER, f"no primitive of JAX {jax.__version__} is called {name!r}, which {table} names"
        traced(name, FURTHER[name], IMAGE)


def test_what_is_missing_is_named():
    eqn = SimpleNamespace(primitive="transpose", params={"order": (1, 0)})
    with pytest.raises(ValueError, match=rf"'transpose' of JAX {re.escape(jax.__version__)} has no parameter 'permutation' \(it has order\)"):
        equations.param(eqn, "permutation")
    with pytest.raises(KeyError, match="'order' of 'transpose' is read but not listed"):
        equations.param(eqn, "order")


def test_parameters_are_read_in_one_place():
    for path in sorted(Path(jxai.__file__).parent.rglob("*.py")):
        if path.name != "equations.py":
            assert not re.search(r"\bparams(\.get\(|\[\")|\bnum_consts\b|\bft_in\b", path.read_text("utf-8")) or path.parent.name == "kernels", path
