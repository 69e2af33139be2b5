"""Meaningful perturbation: analytic evidence, SciPy references, closed forms."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from evidence import KEY, SMALL, around, detector, energy, image, square
from scipy import ndimage

from jxai import fills
from jxai.attribution import meaningful
from jxai.attribution.meaningful import meaningful_perturbation


def sum_of(x, **options):
    """The map of the sum of all entries, without terms on the mask unless asked for, in one program."""
    options = SMALL | dict(init="random", l1=0.0, l2=0.0) | options
    return np.asarray(jax.jit(lambda x: meaningful_perturbation(lambda v: v.sum(), x, None, KEY, **options))(x))


@pytest.mark.parametrize("init", ["circle", pytest.param("random", marks=pytest.mark.slow)])
def test_meaningful_deletes_the_square_that_holds_the_evidence(init):
    region = square(32, 4, 16, 8)
    a = jax.jit(lambda x: meaningful_perturbation(detector(region, 20), x, 0, KEY, steps=200, init=init, score="probability", l1=1e-2, l2=1e-3, **SMALL))(
        image(32)
    )
    found = np.asarray(a) > 0.5
    assert (found & (region > 0)).sum() / (found | (region > 0)).sum() > 0.5
    assert energy(a, around(region)) > 0.85


def test_meaningful_deletes_nothing_where_the_score_is_constant_and_all_where_area_is_free():
    x = image(24)
    nothing = jax.jit(lambda x: meaningful_perturbation(lambda v: jnp.zeros(()), x, None, KEY, steps=60, init="random", l2=0.0, **SMALL))(x)
    np.testing.assert_allclose(nothing, 0, atol=2e-2)
    np.testing.assert_allclose(sum_of(x, steps=60), 1, atol=1e-5)


def test_meaningful_first_step_is_adams_tenth():
    start = np.asarray(jax.random.uniform(jax.random.fold_in(KEY, meaningful._INIT_STREAM), (4, 4)))
    a = sum_of(image(16), steps=1)
    m = ndimage.gaussian_filter(np.kron(np.clip(start - 0.1, 0, 1), np.ones((4, 4))), 2.0, mode="reflect")
    np.testing.assert_allclose(a[..., 0], 1 - m, atol=2e-5)


def test_meaningful_does_not_differentiate_the_fill():
    @dataclasses.dataclass(frozen=True)
    class Steep:
        per_mask = True

        def __call__(self, x, m, key):
            return -10 * m * jnp.ones_like(x)  # through it the optimum is m = 0.45; without, m = 0

    np.testing.assert_allclose(sum_of(np.ones((16, 16, 1), np.float32), steps=60, fill=Steep()), 1, atol=1e-5)


@pytest.mark.parametrize("beta", [1.0, 2.0, 3.0])
def test_total_variation_by_hand(beta):
    m = np.float32(np.random.default_rng(0).uniform(size=(5, 7)))
    total = 0.0
    for i in range(5):
        for j in range(7):
            down = m[i + 1, j] - m[i, j] if i + 1 < 5 else 0.0
            right = m[i, j + 1] - m[i, j] if j + 1 < 7 else 0.0
            total += (down**2 + right**2) ** (beta / 2)
    variation = jax.jit(jax.value_and_grad(meaningful._variation))
    np.testing.assert_allclose(variation(m, beta)[0], total, rtol=1e-5)
    np.testing.assert_array_equal(variation(np.ones((5, 7), np.float32), beta)[1], 0)


def test_jitter_moves_by_every_offset_around_zero_and_repeats_edges():
    x, shifted = image(6), jax.jit(lambda x, offset: meaningful._shifted(x, offset, 4))
    for offset in range(4):
        got = shifted(x, np.array([offset, 1]))
        np.testing.assert_array_equal(got, x[np.clip(np.arange(6) + offset - 1, 0, 5)])


@pytest.mark.parametrize("shape", [(32, 32), (30, 45)])
def test_the_start_is_the_smallest_circle_that_suppresses_the_score(shape):
    unit, scale = max(shape) / 224, 4
    y, x = np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in shape], indexing="ij")
    centre = np.float32(np.hypot(y, x) < 0.2 * max(shape))
    masks = []
    for radius in range(0, 175, 5):
        disc = 1 - ndimage.gaussian_filter((np.hypot(y, x) < radius * unit).astype(float), 10 * unit, mode="reflect")
        padded = np.pad(disc, [(0, -n % scale) for n in shape], constant_values=np.nan)
        masks.append(np.nanmean(padded.reshape(len(padded) // scale, scale, -1, scale), axis=(1, 3)))

    def value(m):
        return (jnp.repeat(jnp.repeat(m, scale, 0), scale, 1)[: shape[0], : shape[1]] * centre).sum()

    scores = np.asarray(jax.jit(jax.vmap(value))(np.float32(masks)))
    first = np.flatnonzero(scores <= 0.01 * scores[0])[0]
    assert 0 < first < 34
    got = jax.jit(lambda: meaningful._smallest_circle(value, shape, scale, chunk=7))()
    np.testing.assert_allclose(got, masks[first], atol=1e-5)
    np.testing.assert_allclose(masks[-1], 0, atol=1e-7)  # so there always is such a circle


def test_meaningful_depends_on_its_key_alone():
    @jax.jit
    def run(key):
        options = SMALL | dict(fill=fills.Uniform(), init="random", steps=2)
        return meaningful_perturbation(detector(square(16, 4, 4, 6)), image(16), 0, key, **options)

    first, again, other = (np.asarray(run(key)) for key in (KEY, KEY, jax.random.key(5)))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-4


@pytest.mark.parametrize(
    "options",
    [
        dict(steps=0),
        dict(steps=-3),
        dict(mask_scale=0),
        dict(mask_scale=17),
        dict(jitter=0),
        dict(tv_beta=0.5),
        dict(init="square"),
        dict(score="entropy"),
        dict(sigma=-1.0),
        dict(chunk=0),
        dict(fill=np.zeros((3, 3))),
    ],
)
def test_meaningful_names_the_bad_option(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        meaningful_perturbation(detector(square(16, 2, 2, 4)), image(16), 0, KEY, **(dict(mask_scale=4) | options))
