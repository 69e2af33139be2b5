"""`jxai.kernels` against `lax.conv_general_dilated`, in value, in every derivative and under every transformation."""

import functools
import itertools

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
    x = rng.normal(size=(*lead, *spatial, channels)).astype(dtype)
    kernel = rng.normal(size=(*window, channels // groups, features)).astype(dtype)
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
        left, right = np.float64(left), np.float64(right)
        np.testing.assert_allclose(left / max(1.0, np.abs(right).max()), right / max(1.0, np.abs(right).max()), atol=tolerance)


def pair(case, **options):
    """(ours, plain) as functions of (x, kernel), and the operands."""
    x, kernel, *static = operands(case, **options)
    return (lambda x, k: kernels.conv2d(x, k, *static)), (lambda x, k: plain(x, k, *static)), x, kernel


def crossed(quick, every):
    """These, and of all others that `make test-slow` runs."""
    return [*quick, *(pytest.param(*given if isinstance(given, tuple) else (given,), marks=pytest.mark.slow) for given in every if given not in quick)]


FIRST = ["stem", "pointwise strided", "dense", "depthwise strided", "depthwise multiplier", "grouped", "few positions strided", "cropped and overpadded"]


@pytest.mark.parametrize("case", crossed(FIRST, CASES))
def test_value_jvp_vjp(case):
    ours, reference, x, kernel = pair(case)
    tangents = (np.cos(x), np.sin(kernel))

    def everything(f, x, kernel):
        y, dy = jax.jvp(f, (x, kernel), tangents)
        _, pullback = jax.vjp(f, x, kernel)
        return y, dy, pullback(jnp.cos(y))

    close(*jax.jit(lambda x, kernel: (everything(ours, x, kernel), everything(reference, x, kernel)))(x, kernel))


@pytest.mark.parametrize("case", crossed(["stem", "depthwise multiplier"], ["dense strided", "grouped"]))
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
        close(*jax.jit(lambda x, kernel: (second(ours, x, kernel), second(reference, x, kernel)))(x, kernel), 1e-12)


OVER = [("stem", (0, None)), ("dense", (1, None)), ("depthwise", (None, 1)), ("depthwise", (0, 2)), ("grouped", (0, 2))]


@pytest.mark.parametrize(
    ("case", "axes"), crossed(OVER, itertools.product(["stem", "dense", "depthwise", "grouped"], [(0, None), (1, None), (None, 1), (0, 2)]))
)
def test_vmap(case, axes):
    """Over images, kernels or both, the result and its gradients are those of a Python loop."""
    x, kernel, *static = operands(case, lead=())
    many = lambda v, axis: v if axis is None else np.stack([v, v * v], axis)
    xs, ks = many(x, axes[0]), many(kernel, axes[1])
    one = lambda v, axis, i: v if axis is None else jnp.take(v, i, axis)

    def call(x, kernel):
        y, pullback = jax.vjp(lambda x, k: kernels.conv2d(x, k, *static), x, kernel)
        return y, pullback(jnp.cos(y))

    loop = lambda xs, ks: jax.tree.map(lambda *v: jnp.stack(v), *(call(one(xs, axes[0], i), one(ks, axes[1], i)) for i in range(2)))
    close(*jax.jit(lambda xs, ks: (jax.vmap(call, axes)(xs, ks), loop(xs, ks)))(xs, ks))


def test_jacobian_vmaps_the_cotangent_alone():
    ours, reference, x, kernel = pair("depthwise strided", lead=())
    close(*jax.jit(lambda x, kernel: tuple(jax.jacrev(f, (0, 1))(x, kernel) for f in (ours, reference)))(x, kernel))


TYPES = [("stem", "float16"), ("depthwise strided", "bfloat16"), ("dense", "float64")]


@pytest.mark.parametrize(("case", "dtype"), crossed(TYPES, itertools.product(["stem", "dense", "depthwise strided"], ["float16", "bfloat16", "float64"])))
def test_dtypes(case, dtype):
    """Each type keeps itself and has the error of one rounding of the float64 result."""
    with jax.enable_x64(True):
        ours, _, x, kernel = pair(case, dtype=jnp.dtype(dtype))
        _, reference, *_ = pair(case)

        def measure(x, kernel):
            y, pullback = jax.vjp(ours, x, kernel)
            return y, pullback(y), reference(x.astype("float64"), kernel.astype("float64"))

        y, slopes, wide = jax.jit(measure)(x, kernel)
        assert y.dtype == dtype and all(g.dtype == dtype for g in slopes)
        close(np.float64(y), np.asarray(wide), {"float16": 1e-3, "bfloat16": 8e-3, "float64": 1e-12}[dtype])


def test_linear_transpose_is_the_adjoint():
    ours, reference, x, kernel = pair("depthwise strided")

    @jax.jit
    def measure(x, kernel):
        g = jnp.cos(ours(x, kernel))
        (dx,) = jax.linear_transpose(lambda x: ours(x, kernel), x)(g)
        (back,) = jax.linear_transpose(lambda g: jax.linear_transpose(lambda x: ours(x, kernel), x)(g)[0], g)(x)
        return jnp.vdot(dx, x), jnp.vdot(g, ours(x, kernel)), back, reference(x, kernel)

    left, right, back, expected = measure(x, kernel)
    np.testing.assert_allclose(left, right, rtol=1e-5)
    close(back, expected)


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
    close(*jax.jit(lambda x, kernel: (eqn.primitive.bind(x, kernel, **eqn.params), ours(x, kernel)))(x, kernel))


def test_checkpoint_scan_and_shard_map():
    ours, reference, x, kernel = pair("depthwise")

    def repeated(f, x, kernel):
        body = jax.checkpoint(lambda x, _: (jnp.tanh(f(x, kernel)), None))
        return (lax.scan(body, x, length=3)[0] ** 2).sum()

    gradients = jax.jit(lambda *args: [jax.grad(functools.partial(repeated, f), (0, 1))(*args) for f in (ours, reference)])(x, kernel)
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
        ({"x": np.zeros((2, 2), np.float32)}, r"\[\.\.\., H, W, C\]"),
        ({"x": np.zeros((2, 2, 3), np.int32), "kernel": np.zeros((3, 3, 3, 1), np.int32)}, "floating"),
    ],
)
def test_errors_name_the_argument(change, message):
    call = {"x": np.zeros((2, 2, 3), np.float32), "kernel": np.zeros((3, 3, 3, 1), np.float32)} | change
    with pytest.raises(ValueError, match=message) as caught:
        kernels.conv2d(**call)
    assert "\n" not in str(caught.value)


def test_relu6():
    value, slope = jax.jit(jax.vmap(jax.value_and_grad(kernels.relu6)))(np.float32([-1, 0, 2, 6, 7]))
    np.testing.assert_array_equal(value, [0, 0, 2, 6, 6])
    np.testing.assert_array_equal(slope, [0, 0, 1, 0, 0])
