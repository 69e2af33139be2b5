"""Extremal perturbation: analytic evidence, NumPy references, closed forms."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from evidence import around, detector, energy, image, square
from scipy import ndimage

from jxai.attribution import extremal
from jxai.attribution.extremal import extremal_perturbation
from jxai.scores import objective


def uniform(shape):
    return np.float32(np.random.default_rng(0).uniform(size=shape))


def reference_mask(params, shape, spacing, sigma):
    """The smooth max-convolution pixel by pixel, in float64 NumPy."""
    n, radius = params.shape, 1 + math.ceil(sigma / spacing)
    out = np.zeros(shape)
    for u in np.ndindex(*shape):
        whole = [u[k] + (n[k] * spacing - shape[k]) // 2 for k in (0, 1)]
        cell = [w // spacing for w in whole]
        top = bottom = 0.0
        for i in range(cell[0] - radius, cell[0] + radius + 1):
            for j in range(cell[1] - radius, cell[1] + radius + 1):
                distance = math.hypot(*(w - (c * spacing + (spacing - 1) / 2) for w, c in zip(whole, (i, j))))
                inside = 0 <= i < n[0] and 0 <= j < n[1]
                a = math.exp(-2 * max(distance / sigma - 0.5, 0) ** 2) * (params[i, j] if inside else 0.0)
                top, bottom = top + a * math.exp(20 * a), bottom + math.exp(20 * a)
        out[u] = top / bottom
    return out


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def mask(params, shape, spacing, sigma):
    """The part of the smooth mask that lies on the image."""
    return extremal._center(extremal._smooth_mask(params, spacing, sigma), shape)


def test_a_blob_in_the_corner_has_the_area_of_one_in_the_middle():
    @jax.jit
    def blob(lattice):
        whole = extremal._smooth_mask(lattice, 4, 8.0)
        return extremal._center(whole, (36, 36)).sum(), whole.sum(), extremal._area_loss(whole, 40.0)

    lattices = np.zeros((3, 9, 9), np.float32)
    for lattice, at in zip(lattices, ((4, 4), (0, 0), (0, 4))):
        lattice[at] = 1
    inside, area, loss = np.transpose([blob(lattice) for lattice in lattices])
    assert inside[1] < 0.5 * inside[0]  # most of it lies beyond the border,
    np.testing.assert_allclose(area, area[0], rtol=0.03)  # where it still counts
    np.testing.assert_allclose(loss, loss[0], rtol=0.1)


@pytest.mark.parametrize("shape,spacing,sigma", [((21, 28), 7, 21.0), ((17, 20), 4, 6.0), ((12, 13), 5, 3.0)])
def test_smooth_max_convolution_equals_brute_force(shape, spacing, sigma):
    params = uniform([-(-n // spacing) for n in shape])
    got = np.asarray(mask(params, shape, spacing, sigma))
    np.testing.assert_allclose(got, reference_mask(np.asarray(params, float), shape, spacing, sigma), rtol=2e-4, atol=1e-6)
    assert got.min() >= 0 and got.max() <= 1


def test_smooth_max_gradient_equals_central_differences():
    shape, spacing, sigma = (9, 12), 4, 4.0
    params, w = np.float64(uniform((3, 3))), np.random.default_rng(3).normal(size=shape)
    got = np.asarray(jax.jit(jax.grad(lambda p: (mask(p, shape, spacing, sigma) * w).sum()))(np.float32(params)))
    for at in np.ndindex(3, 3):
        step = np.zeros((3, 3))
        step[at] = 1e-5
        ends = [(reference_mask(params + sign * step, shape, spacing, sigma) * w).sum() for sign in (1, -1)]
        np.testing.assert_allclose(got[at], (ends[0] - ends[1]) / 2e-5, rtol=1e-3, atol=1e-3)


def test_mask_commutes_with_mirroring():
    params = uniform((4, 4))
    a = np.asarray(mask(params, (28, 28), 7, 21.0))
    np.testing.assert_allclose(mask(params[:, ::-1], (28, 28), 7, 21.0), a[:, ::-1], atol=1e-6)


def test_area_loss_is_the_distance_of_the_sorted_mask_to_a_step():
    m = uniform((13, 17))
    loss = jax.jit(jax.value_and_grad(extremal._area_loss))
    for area in (0.001, 0.1, 0.37, 0.9):
        step = np.arange(m.size) >= m.size - max(1, round(area * m.size))
        order = np.argsort(m.ravel())
        apart = np.empty(m.size)
        apart[order] = np.float64(m.ravel()[order]) - step
        value, gradient = loss(m, area * m.size)
        np.testing.assert_allclose(value, (apart**2).mean(), rtol=1e-5, atol=1e-8)
        np.testing.assert_allclose(np.ravel(gradient), 2 * apart / m.size, rtol=1e-5, atol=1e-8)


def test_area_loss_with_ties_is_the_same_value_and_favours_no_entry():
    loss = jax.jit(jax.value_and_grad(extremal._area_loss))
    value, gradient = loss(np.full((4, 5), 0.7, np.float32), 5.0)
    np.testing.assert_allclose(value, 0.25 * 0.3**2 + 0.75 * 0.7**2, rtol=1e-6)
    np.testing.assert_allclose(gradient, 2 * (0.7 - 0.25) / 20, rtol=1e-5)
    half = np.float32(np.arange(20) >= 10).reshape(4, 5)
    np.testing.assert_allclose(loss(half, 10.0)[0], 0, atol=1e-7)
    np.testing.assert_allclose(loss(half, 5.0)[0], 5 / 20, rtol=1e-6)


def test_pyramid_interpolates_between_scipys_blurs():
    x = image(24)

    @jax.jit
    def perturb(m):
        both = lambda m: (lambda v: (v.sum(), v))(extremal._perturbation(x, None, 4.0, 5, None)(m, None))
        (_, v), slope = jax.value_and_grad(both, has_aux=True)(jnp.full((24, 24, 1), m))
        return v, slope

    blurs = [ndimage.gaussian_filter(np.asarray(x), (4 * (1 - i / 4),) * 2 + (0,), mode="reflect") for i in range(5)]
    for m in (0.0, 0.25, 0.4, 0.75, 0.95, 1.0):
        want = [np.interp(m * 4, np.arange(5), values) for values in np.stack(blurs, -1).reshape(-1, 5)]
        np.testing.assert_allclose(np.ravel(perturb(m)[0]), want, atol=2e-5)
    for m, i in ((0.0, 0), (0.3, 1), (1.0, 3)):
        slope = np.asarray(perturb(m)[1])
        np.testing.assert_allclose(slope[..., 0], 4 * (blurs[i + 1] - blurs[i]).sum(-1), atol=1e-4)


def test_updates_are_pytorchs_dampened_momentum_with_a_growing_area_weight_and_mirrored_even_steps():
    x, size, options = image(12), 12, dict(spacing=4, sigma=4.0)
    w = np.float32(np.random.default_rng(4).normal(size=x.shape))
    params, buffer = np.ones((3, 3), np.float32), None

    @jax.jit
    @jax.grad
    def gradient(p, area_weight, mirror):
        whole = extremal._smooth_mask(p, 4, 4.0)
        v = extremal._center(whole, (size, size))[..., None] * x
        return area_weight * extremal._area_loss(whole, 0.2 * size**2) - (w * jnp.where(mirror, v[:, ::-1], v)).sum()

    for t, mirror in enumerate([True, False, True, False]):
        g = np.asarray(gradient(params, 300 * 1.0035**t, mirror))
        buffer = g if buffer is None else 0.9 * buffer + 0.1 * g
        params = np.clip(params - np.float32(0.01) * buffer, 0, 1)
    want = np.asarray(mask(params, (size, size), 4, 4.0))
    assert want.std() > 5e-3
    got = jax.jit(lambda x: extremal_perturbation(lambda v: (w * v).sum(), x, None, areas=0.2, steps=4, fill=0.0, **options))(x)
    np.testing.assert_allclose(np.asarray(got)[..., 0], want, atol=1e-5)


FAST = dict(spacing=4, sigma=4.0, blur=6.0, steps=300)


@pytest.mark.parametrize(
    "variant,fill,area",
    [pytest.param("preserve", None, 0.16, marks=pytest.mark.slow), pytest.param("delete", 0.0, 0.09, marks=pytest.mark.slow), ("dual", None, 0.16)],
)
def test_extremal_finds_the_square_within_the_area_given(variant, fill, area):
    region = square(40, 4, 20, 12)
    stripes = np.broadcast_to(np.float32(np.arange(40) % 2)[:, None, None], (40, 40, 3))
    # 9 % of the image. Blur destroys stripes but where m is nearly 1, so that the soft edge of m lies outside the square.
    f = lambda v: detector(region, 60.0)(4 * (v - 0.5) ** 2 if fill is None else v)
    a = jax.jit(lambda x: extremal_perturbation(f, x, 0, areas=area, variant=variant, fill=fill, flip=False, **FAST))(stripes)
    a = np.asarray(a)
    assert abs(float((a > 0.5).mean()) - area) < 0.03
    assert energy(a, around(region)) > 0.9


def test_several_areas_are_the_sum_of_single_ones():
    f, x, options = detector(square(24, 4, 12, 8)), image(24), FAST | dict(steps=20)
    areas = (0.05, 0.1, 0.3)
    together = jax.jit(lambda x: extremal_perturbation(f, x, 0, areas=areas, **options))(x)
    single = jax.jit(lambda a: extremal_perturbation(f, x, 0, areas=a, **options))
    np.testing.assert_allclose(together, sum(np.asarray(single(a)) for a in areas), atol=1e-4)


@pytest.mark.parametrize("score,squash", [("logit", lambda z: z), ("probability", jax.nn.softmax)])
def test_contrastive_reward_is_the_margin_over_the_best_other_class(score, squash):
    w, x = np.float32(np.random.default_rng(0).normal(size=(6, 4))), np.float32(np.random.default_rng(2).normal(size=6))
    f = lambda v: v @ w

    @jax.jit
    def both(target):
        reward = objective(*extremal._rewarded(f, x, target, "contrastive", score))
        margin = lambda v: squash(f(v))[target] - jnp.where(np.arange(4) == target, -jnp.inf, squash(f(v))).max()
        return jax.value_and_grad(reward)(x), jax.value_and_grad(margin)(x)

    for target in range(4):
        for got, want in zip(*both(target)):
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_contrastive_masks_skip_what_speaks_for_another_class_too():
    here, there = square(24, 2, 2, 8), square(24, 14, 14, 8)
    parts = [lambda v, r=r: 30 * (r * v).sum() / r.sum() / 3 for r in (here, there)]
    f = lambda v: jnp.stack([parts[0](v) + parts[1](v), parts[1](v), v.sum() - 9999])
    options = FAST | dict(areas=0.12, steps=150, fill=0.0, flip=False)
    a = jax.jit(lambda x: extremal_perturbation(f, x, 0, reward="contrastive", **options))(image(24))
    a = np.asarray(a)
    assert energy(a, here) > 10 * energy(a, there)


@pytest.mark.parametrize(
    "options",
    [
        dict(steps=0),
        dict(steps=-3),
        dict(areas=0.0),
        dict(areas=(0.1, 1.0)),
        dict(areas=()),
        dict(areas=((0.1,),)),
        dict(variant="keep"),
        dict(reward="margin"),
        dict(score="entropy"),
        dict(spacing=17),
        dict(spacing=0),
        dict(sigma=0.0),
        dict(blur=-1.0),
        dict(levels=1),
        dict(fill=np.zeros((3, 3))),
    ],
)
def test_extremal_names_the_bad_option(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        extremal_perturbation(detector(square(16, 2, 2, 4)), image(16), 0, **options)
