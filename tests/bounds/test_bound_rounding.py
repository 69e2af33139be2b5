"""Outward rounding: evaluations in float32 and float64 lie inside the bounds, to the last bit; and no curve is off by more than it says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jxai.bounds import METHODS, Box
from jxai.bounds.rounding import precision
from jxai.bounds.rules import curves, waves
from jxai.bounds.rules.curve import Curve

pytestmark = pytest.mark.usefixtures("quick_compilation")

OPTIONS = {"alpha_crown": {"steps": 2}}
CHEAP = ("interval", "forward", "crown_ibp", "crown")


def wide_mlp(weights, x):
    first, second = weights
    return second @ jax.nn.relu(first @ x)


def conv_net(weights, x):
    first, second = weights
    names = ("NHWC", "HWIO", "NHWC")
    y = jax.nn.relu(lax.conv_general_dilated(x.reshape(1, 6, 6, 1), first, (1, 1), "SAME", dimension_numbers=names))
    return lax.conv_general_dilated(y, second, (2, 2), "VALID", dimension_numbers=names).ravel()


def zoo(weights, x):
    a, b = weights[0] @ x, weights[1] @ x
    parts = jnp.tanh(a), jax.nn.gelu(b), jax.nn.softplus(a) * b, jax.nn.softmax(a), jnp.exp(0.3 * b) / (1 + a**2), jax.nn.elu(a), jnp.abs(b)
    return sum(parts)


def some(weights, x):
    a, b = weights[0] @ x, weights[1] @ x
    return jnp.tanh(a) * b + 1 / (1 + b**2)


def casts(weights, x):
    a = weights[0] @ x
    return lax.reduce_precision(a, 8, 4) + (weights[1] @ x).astype(jnp.bfloat16).astype(x.dtype) + lax.reduce_precision(a * a, 5, 10)


def half(weights, x):
    """Casts before a comparison, sums and softmax in half precision, and in 8 bits."""
    parts = []
    for dtype in (jnp.bfloat16, jnp.float16):
        h = (weights[0] @ x).astype(dtype)
        cut = jnp.where(h > 0, h, 0), jnp.where(h >= 0.5, h, 0.1 * h), jnp.where(h > 0.5, 0.5, jnp.where(h < -0.5, -0.5, h)), jax.nn.gelu(h)
        parts += [*cut, jax.nn.softmax(h), jax.nn.logsumexp(h, keepdims=True), jnp.sort(h), jnp.floor(8 * h), h * h.mean(), jnp.exp(3 * h)]
    h = (weights[1] @ x).astype(jnp.float8_e4m3fn).astype(dtype)
    return jnp.concatenate([v.astype(x.dtype) for v in [*parts, jnp.where(h > 0, h, 0)]])


def scattered(weights, x):
    return jnp.zeros(3, x.dtype).at[np.arange(4096) % 3].add(weights[0] @ x)


def steep(weights, x):
    a, b = weights[0] @ x, weights[1] @ x
    parts = (1.5 + 0.1 * jnp.tanh(a)) ** 64, jnp.exp2(9 * b), jnp.sinh(7 * a), jnp.cosh(7 * b), jnp.log1p(jnp.exp(9 * a)), jnp.abs(b) ** 3.7
    return jnp.concatenate([*parts, jnp.where(a > 0, a, jnp.exp(a) - 1), jnp.where(b > 0, b, 1.3 * jnp.expm1(b))])


def masked(weights, x):
    scores = jnp.where(np.arange(64).reshape(8, 8) % 3 > 0, jnp.outer(weights[0] @ x, weights[1] @ x), -1e9)
    return jax.nn.softmax(scores, axis=-1).ravel()


def weights(*shapes):
    rng = np.random.default_rng(0)
    return [rng.normal(size=s).astype(np.float32) / np.float32(np.sqrt(np.prod(s[1:] if len(s) == 2 else s[:-1]))) for s in shapes]


NETS = {
    "width 1024": (wide_mlp, weights((1024, 12), (3, 1024)), 12),
    "convolutions": (conv_net, weights((3, 3, 1, 4), (3, 3, 4, 2)), 36),
    "some": (some, weights((6, 8), (6, 8)), 8),
    "elementwise": (zoo, weights((6, 8), (6, 8)), 8),
    "casts": (casts, weights((6, 8), (6, 8)), 8),
    "half precision": (half, weights((6, 8), (6, 8)), 8),
    "scatter-add": (scattered, weights((4096, 12)), 12),
    "steep": (steep, weights((6, 8), (6, 8)), 8),
    "masked softmax": (masked, weights((8, 6), (8, 6)), 6),
}


RADII = (0.0, 1e-3)


def misses(name, methods, rounding):
    """`{(method, radius): n}`: how many evaluations at sampled points lie outside: compiled, operation by operation, and in float64."""
    function, w, size = NETS[name]
    single = lambda v: function([jnp.asarray(m) for m in w], v)
    compiled, batched = jax.jit(single), jax.jit(jax.vmap(single))
    precise = jax.jit(jax.vmap(lambda v: function([jnp.asarray(m, jnp.float64) for m in w], v)))
    run = jax.jit(lambda box: {m: METHODS[m](single, rounding=rounding, **OPTIONS.get(m, {}))(box) for m in methods})
    center = np.random.default_rng(1).normal(size=size).astype(np.float32)
    share = np.random.default_rng(2).choice([0.0, 1.0, 0.3], size=(200, size)).astype(np.float32)
    outside = {}
    for radius in RADII:
        low, high = center - np.float32(radius), center + np.float32(radius)
        x = np.clip(low + share * (high - low), low, high)
        with jax.enable_x64(True):
            exact = precise(np.float64(x))
        values = batched(x), compiled(x[0]), single(jnp.asarray(x[0])), exact
        y = np.concatenate([np.asarray(v, np.float64).reshape(-1, exact.shape[-1]) for v in values])
        for method, ends in run(Box(low, high)).items():
            lower, upper = (np.asarray(end, np.float64) for end in ends)
            assert np.isfinite(lower).all() and np.isfinite(upper).all()
            outside[method, radius] = int(((y < lower) | (y > upper)).sum())
    return outside


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name in ("elementwise", "steep", "half precision") else name for name in NETS])
def test_evaluations_lie_inside_outward_bounds(name):
    assert not any(misses(name, CHEAP if name == "width 1024" else ("interval", "crown_ibp"), "outward").values())


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_evaluations_lie_inside_all_outward_bounds(name):
    assert not any(misses(name, METHODS, "outward").values())


def test_bounds_to_nearest_do_miss_evaluations():
    """So that the tests above could fail."""
    assert misses("width 1024", ("interval",), "nearest")["interval", 0.0]


SPELLED = {
    "sigmoid": jax.nn.sigmoid, "silu": jax.nn.silu, "gelu": lambda x: jax.nn.gelu(x, approximate=False), "gelu_tanh": jax.nn.gelu,
    "softplus": jax.nn.softplus, "mish": jax.nn.mish, "soft_sign": jax.nn.soft_sign, "hard_silu": jax.nn.hard_silu, "tanh": jnp.tanh,
}  # fmt: skip
PARAMETERS = {"elu": (1.5,), "celu": (0.7,), "leaky_relu": (0.2,), "clip": (-0.5, 1.0)}
POSITIVE = ("log", "sqrt", "rsqrt")
CURVES = {c.name: c for c in vars(curves).values() if isinstance(c, Curve) and c.lines is not None}
CURVES |= {c.name: c for c in (curves.even_power(4), curves.even_power(64), curves.odd_power(3), curves.odd_power(7))}


def grid(name):
    tiny = np.logspace(-6, 0, 2000)
    if name in POSITIVE:
        x = np.concatenate([tiny, np.linspace(0.5, 30, 8000)])
    elif name == "log1p":
        x = np.concatenate([-0.9 * tiny, tiny, np.linspace(0.5, 30, 8000)])
    elif name.startswith("power_64"):
        x = np.linspace(0.6, 2, 8000)
    else:
        x = np.concatenate([-tiny, tiny, np.linspace(-20, 20, 16001)])
        x = x[x != 0]
    return x.astype(np.float32)


@pytest.mark.parametrize("name", CURVES)
def test_curves_are_as_exact_as_they_say(name):
    curve, x = CURVES[name], grid(name)
    parameters = PARAMETERS.get(name, ())
    unit = float(jnp.finfo(jnp.float32).eps) / 2
    with jax.enable_x64(True):
        exact = np.asarray(jax.jit(lambda v: curve.value(v, *parameters))(np.float64(x)))
    size = np.abs(exact) * (1 + np.abs(x.astype(np.float64)) if curve.grows else 1) + (np.abs(x.astype(np.float64)) if curve.absolute else 0)
    for function in (curve.value, *([SPELLED[name]] if name in SPELLED else [])):
        for run in (lambda v: function(v, *parameters), jax.jit(lambda v: function(v, *parameters))):
            off = np.abs(np.asarray(run(jnp.asarray(x)), np.float64) - exact)
            used = (size > 1e-30) & np.isfinite(size) & (size < 1e38)
            assert (off[used] <= curve.ulps * unit * size[used]).all(), (
                f"{(off[used] / (unit * size[used])).max():.1f} units at {x[used][np.argmax(off[used] / size[used])]}"
            )


HALF = {
    "relu": lambda x: jnp.where(x > 0, x, 0.0), "leaky_relu": lambda x: jax.nn.leaky_relu(x, 0.2), "elu": lambda x: jax.nn.elu(x, 1.5),
    "celu": lambda x: jax.nn.celu(x, 0.7), "clip": lambda x: jnp.where(x > 1.0, 1.0, jnp.where(x < -0.5, -0.5, x)), "exp": jnp.exp, "sin": jnp.sin,
    **SPELLED,
}  # fmt: skip


def test_a_cast_in_front_of_a_comparison_is_rounded():
    """1.0036 is 1 in bfloat16, and in float16 2.0035 is 2.0039: taken for a ReLU of x itself, either would lie outside."""
    acts = [lambda h: jnp.where(h > 0, h, 0), lambda h: jnp.where(h >= 0, h, 0), lambda h: jnp.where(h > 0, h, 0.1 * h), jnp.abs, jax.nn.leaky_relu]
    acts += [lambda h: jnp.where(h > 2.5, 2.5, jnp.where(h < -3.5, -3.5, h)), lambda h: jnp.where(h > -9, h, 0), lambda h: jnp.floor(64 * h)]
    f = lambda x: jnp.concatenate([act(x.astype(t)).astype(jnp.float32) for act in acts for t in (jnp.bfloat16, jnp.float16, jnp.float8_e5m2)])
    box = Box(jnp.array([1.001, -3.005, 2.003]), jnp.array([1.0041, -3.004, 2.0036]))
    (low, high), y = jax.jit(lambda box: (METHODS["interval"](f, rounding="outward")(box), jax.vmap(f)(jnp.linspace(box.lower, box.upper, 101))))(box)
    assert (y >= low).all() and (y <= high).all()
    assert jnp.isfinite(low).all() and jnp.isfinite(high).all()


@pytest.mark.parametrize("every", [97, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_activations_in_half_precision_are_as_exact_as_their_curves_say(dtype, every):
    """All numbers that the type has, so that an activation spelled in it may be bounded as one curve."""
    x = np.arange(0, 65536, every, dtype=np.uint16).view(dtype)
    x = x[np.isfinite(x.astype(np.float32))]
    known, size = precision(dtype), np.abs(x.astype(np.float64))
    constants = {name: tuple(float(np.asarray(p, dtype)) for p in PARAMETERS.get(name, ())) for name in HALF}
    of = {**CURVES, "sin": waves.SIN}
    with jax.enable_x64(True):
        exact = jax.jit(lambda v: {name: of[name].value(v, *constants[name]) for name in HALF})(x.astype(np.float64))
    found = jax.jit(lambda v: {name: f(v) for name, f in HALF.items()})(x)
    for name, y in found.items():
        curve, truth = of[name], np.asarray(exact[name])
        with np.errstate(over="ignore", invalid="ignore"):
            scale = np.abs(truth) + size if curve.absolute else np.abs(truth)
            room = curve.ulps * known.unit * scale + (16 * known.tiny * (1 + size) if known.narrow() else 1e-36)
            held = np.abs(truth) + room < min(known.largest, 3e38)
            off = np.abs(np.asarray(y, np.float64) - truth)
        assert (off <= room)[held].all(), (name, x[held & ~(off <= room)][:3])


def test_a_value_that_a_type_may_not_hold_has_no_bounds():
    """Beyond 65504, float16 has but infinity."""
    f = lambda x: (x.astype(jnp.float16) * 2).astype(x.dtype)
    low, high = METHODS["interval"](f, rounding="outward")(Box(jnp.array([3.0, 3e4]), jnp.array([4.0, 4e4])))
    assert np.isfinite([low[0], high[0]]).all() and np.isinf([low[1], high[1]]).all()
