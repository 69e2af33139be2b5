"""`jxai.kernels` against `lax.conv_general_dilated`, in value, in every derivative and under every transformation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

from jxai import kernels

# spatial, window, strides, padding, channels, features, groups: each line is one arrangement or one edge of it.
CASES = {
    "stem": ((9, 8), (3, 3), (2, 2), "SAME", 3, 5, 1),
    "pointwise": ((5, 4), (1, 1), (1, 1), "SAME", 6, 40, 1),
    "pointwise strided": ((5, 4), (1, 1), (2, 3), "SAME", 6, 4, 1),
    "dense": ((7, 6), (3, 3), (1, 1), "SAME", 9, 4, 1),
    "dense strided": ((8, 7), (3, 3), (2, 2), ((1, 1), (1, 1)), 9, 4, 1),
    "stride beyond window": ((9, 9), (2, 2), (3, 3), "VALID", 9, 4, 1),
    "depthwise": ((7, 10), (5, 5), (1, 1), "SAME", 6, 6, 6),
    "depthwise strided": ((7, 10), (5, 5), (2, 2), "SAME", 6, 6, 6),
    "depthwise multiplier": ((7, 6), (3, 3), (2, 1), "SAME", 4, 12, 4),
    "grouped": ((7, 6), (3, 2), (2, 2), "SAME", 6, 4, 2),
    "even window": ((6, 7), (4, 4), (2, 2), ((1, 1), (1, 1)), 1, 8, 1),
    "few positions": ((2, 2), (3, 3), (1, 1), ((1, 1), (1, 1)), 9, 4, 1),
    "few positions strided": ((1, 4), (3, 3), (2, 2), ((1, 1), (1, 1)), 12, 10, 1),
    "one pixel": ((1, 1), (3, 3), (2, 2), "SAME", 6, 6, 6),
    "cropped and overpadded": ((7, 6), (3, 3), (2, 2), ((-1, 4), (5, 0)), 9, 4, 1),
}


def operands(case, dtype=np.float32, lead=(2,)):
    spatial, window, strides, padding, channels, features, groups = CASES[case]
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(*lead, *spatial, channels)), dtype)
    kernel = jnp.asarray(rng.normal(size=(*window, channels // groups, features)), dtype)
    return x, kernel, strides, padding, groups


def plain(x, kernel, strides, padding, groups):
    """The reference: XLA's own convolution."""
    y = lax.conv_general_dilated(
        x.reshape(-1, *x.shape[-3:]),
        kernel,
        strides,
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
        precision="highest",
    )
    return y.reshape(*x.shape[:-3], *y.shape[1:])


def close(a, b, tolerance=2e-5):
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert left.shape == right.shape and left.dtype == right.dtype
        scale = max(1.0, float(jnp.abs(right).astype(jnp.float32).max()))
        np.testing.assert_allclose(np.float64(left) / scale, np.float64(right) / scale, atol=tolerance)


def pair(case, **options):
    """(ours, plain) as functions of (x, kernel), and the operands."""
    x, kernel, *static = operands(case, **options)
    return (lambda x, k: kernels.conv2d(x, k, *static)), (lambda x, k: plain(x, k, *static)), x, kernel


@pytest.mark.parametrize("case", CASES)
def test_value_jvp_vjp(case):
    ours, reference, x, kernel = pair(case)
    tangents = (jnp.cos(x), jnp.sin(kernel))

    def everything(f, x, kernel):
        y, dy = jax.jvp(f, (x, kernel), tangents)
        _, pullback = jax.vjp(f, x, kernel)
        return y, dy, pullback(jnp.cos(y))

    close(*(jax.jit(functools.partial(everything, f))(x, kernel) for f in (ours, reference)))


@pytest.mark.parametrize("case", ["stem", "dense strided", "depthwise multiplier", "grouped"])
def test_second_order(case):
    """Forward over reverse and reverse over reverse of a quadratic form, which meets the transposes of the transposes.

    In float64, so that the bound tells a wrong derivative from rounding, which grows with the order.
    """

    def second(f, x, kernel):
        gradient = jax.grad(lambda x, k: (f(x, k) ** 2).sum(), (0, 1))
        forward = jax.jvp(gradient, (x, kernel), (jnp.cos(x), jnp.sin(kernel)))[1]
        reverse = jax.grad(lambda x, k: sum(jnp.vdot(g, jnp.cos(g)) for g in gradient(x, k)), (0, 1))(x, kernel)
        return forward, reverse

    with jax.enable_x64(True):
        ours, reference, x, kernel = pair(case, dtype=np.float64)
        close(*(jax.jit(functools.partial(second, f))(x, kernel) for f in (ours, reference)), 1e-12)


@pytest.mark.parametrize("case", ["stem", "dense", "depthwise", "grouped"])
@pytest.mark.parametrize("axes", [(0, None), (1, None), (None, 1), (0, 2)])
def test_vmap(case, axes):
    """Over images, kernels or both, the result and its gradients are those of a Python loop."""
    x, kernel, *static = operands(case, lead=())
    many = lambda v, axis: v if axis is None else jnp.stack([v, v + 1, v * v], axis)
    xs, ks = many(x, axes[0]), many(kernel, axes[1])
    one = lambda v, axis, i: v if axis is None else jnp.take(v, i, axis)

    def call(x, kernel):
        y, pullback = jax.vjp(lambda x, k: kernels.conv2d(x, k, *static), x, kernel)
        return y, pullback(jnp.cos(y))

    expected = [call(one(xs, axes[0], i), one(ks, axes[1], i)) for i in range(3)]
    close(jax.vmap(call, axes)(xs, ks), jax.tree.map(lambda *v: jnp.stack(v), *expected))


def test_jacobian_vmaps_the_cotangent_alone():
    ours, reference, x, kernel = pair("depthwise strided", lead=())
    for argnum in (0, 1):
        close(jax.jacrev(ours, argnum)(x, kernel), jax.jacrev(reference, argnum)(x, kernel))


@pytest.mark.parametrize("dtype, tolerance", [("float16", 1e-3), ("bfloat16", 8e-3), ("float64", 1e-12)])
@pytest.mark.parametrize("case", ["stem", "dense", "depthwise strided"])
def test_dtypes(case, dtype, tolerance):
    """Each type keeps itself and has the error of one rounding of the float64 result."""
    with jax.enable_x64(True):
        ours, _, x, kernel = pair(case, dtype=jnp.dtype(dtype))
        _, reference, *_ = pair(case)
        wide = reference(x.astype("float64"), kernel.astype("float64"))
        y, pullback = jax.vjp(ours, x, kernel)
        assert y.dtype == dtype and all(g.dtype == dtype for g in pullback(y))
        close(y.astype("float64"), wide, tolerance)


def test_linear_transpose_is_the_adjoint():
    ours, reference, x, kernel = pair("depthwise strided")
    g = jnp.cos(ours(x, kernel))
    (dx,) = jax.linear_transpose(lambda x: ours(x, kernel), x)(g)
    (back,) = jax.linear_transpose(lambda g: jax.linear_transpose(lambda x: ours(x, kernel), x)(g)[0], g)(x)
    np.testing.assert_allclose(jnp.vdot(dx, x), jnp.vdot(g, ours(x, kernel)), rtol=1e-5)
    close(back, reference(x, kernel))


def test_one_equation_each_and_one_on_every_platform():
    ours, _, x, kernel = pair("depthwise", lead=())
    names = lambda f, *args: [e.primitive.name for e in jax.make_jaxpr(f)(*args).eqns]
    assert names(ours, x, kernel) == ["conv2d"]
    assert names(jax.vmap(ours, (0, None)), x[None], kernel) == ["conv2d"]
    assert names(lambda x: jax.linear_transpose(lambda x: ours(x, kernel), x)(ours(x, kernel))[0], x) == [
        "conv2d",
        "conv2d_transpose",
    ]
    for platform, expected in (("cuda", True), ("tpu", True), ("cpu", False)):
        lowered = jax.jit(ours).trace(x, kernel).lower(lowering_platforms=(platform,)).as_text()
        assert ("stablehlo.convolution" in lowered) == expected


@pytest.mark.parametrize(("case", "expected"), [("dense", True), ("dense strided", True), ("few positions", False), ("few positions strided", False)])
def test_few_positions_are_a_product_on_a_cpu(case, expected):
    ours, _, x, kernel = pair(case)
    forward = jax.jit(ours).trace(x, kernel).lower(lowering_platforms=("cpu",)).as_text()
    backward = jax.jit(jax.grad(lambda x: ours(x, kernel).sum())).trace(x).lower(lowering_platforms=("cpu",)).as_text()
    assert ("stablehlo.convolution" in forward, "stablehlo.convolution" in backward) == (expected, expected)


def test_equation_can_be_bound_again():
    """What an interpreter does with it."""
    ours, _, x, kernel = pair("dense strided")
    (eqn,) = jax.make_jaxpr(ours)(x, kernel).eqns
    close(eqn.primitive.bind(x, kernel, **eqn.params), ours(x, kernel))


def test_checkpoint_scan_and_shard_map():
    ours, reference, x, kernel = pair("depthwise")

    def repeated(f, x, kernel):
        body = jax.checkpoint(lambda x, _: (jnp.tanh(f(x, kernel)), None))
        return (lax.scan(body, x, length=3)[0] ** 2).sum()

    gradients = [jax.jit(jax.grad(functools.partial(repeated, f), (0, 1)))(x, kernel) for f in (ours, reference)]
    close(*gradients)
    mesh = jax.make_mesh((2,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
    sharded = jax.shard_map(jax.grad(functools.partial(repeated, ours), (0, 1)), mesh=mesh, in_specs=(P("i"), P()), out_specs=(P("i"), P()))
    close(jax.jit(sharded)(x, kernel), gradients[0])


def test_default_precision_is_read_where_the_call_is_traced():
    ours, _, x, kernel = pair("dense")
    with jax.default_matmul_precision("highest"):
        traced = jax.jit(ours).trace(x, kernel)
    assert "HIGHEST" in traced.lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"strides": (0, 1)}, "strides"),
        ({"padding": "FULL"}, "padding"),
        ({"padding": ((1, 1),)}, "padding"),
        ({"feature_group_count": 2}, "feature_group_count"),
        ({"padding": "VALID"}, "larger"),
        ({"x": jnp.zeros((2, 2), jnp.float32)}, r"\[\.\.\., H, W, C\]"),
        ({"x": jnp.zeros((2, 2, 3), jnp.int32), "kernel": jnp.zeros((3, 3, 3, 1), jnp.int32)}, "floating"),
    ],
)
def test_errors_name_the_argument(change, message):
    call = {"x": jnp.zeros((2, 2, 3)), "kernel": jnp.zeros((3, 3, 3, 1))} | change
    with pytest.raises(ValueError, match=message) as caught:
        kernels.conv2d(**call)
    assert "\n" not in str(caught.value)


def test_relu6():
    x = jnp.array([-1.0, 0.0, 2.0, 6.0, 7.0])
    np.testing.assert_array_equal(kernels.relu6(x), [0, 0, 2, 6, 6])
    np.testing.assert_array_equal(jax.grad(lambda x: kernels.relu6(x).sum())(x), [0, 0, 1, 0, 0])
