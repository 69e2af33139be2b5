"""Feature visualisation: what is optimised by its closed form, how far it rises, and whether it finds what a network was made to look for."""

from __future__ import annotations

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from jxai import concepts

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
W = RNG.normal(size=(6, 7, 3)).astype(np.float32)
KEY = jax.random.key(0)
COLOURS = np.asarray([[0.26, 0.27, 0.27], [0.09, 0, -0.09], [0.02, -0.05, 0.03]]) / 0.461952


def linear(w, x):
    return (w * x).sum()


def falling(height, width):
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(height), np.fft.rfftfreq(width), indexing="ij"))
    return 1 / np.maximum(frequency, 1 / max(height, width))


@pytest.mark.parametrize("shape", [(6, 7, 3), (5, 8, 1)])
def test_a_spectrum_is_numpys(shape):
    made = concepts.Fourier(decay=1.5, sigma=1.0)
    z = np.asarray(made.start(shape, KEY), np.float64)
    scale = falling(*shape[:2])[..., None] ** 1.5 * np.sqrt(shape[0] * shape[1])
    truth = np.fft.irfft2(scale * (z[0] + 1j * z[1]), shape[:2], axes=(0, 1)) / 4
    np.testing.assert_allclose(made.buffer(jnp.float32(z), shape), truth, atol=2e-5 * np.abs(truth).max())


@pytest.mark.parametrize("shape", [(6, 7, 3), (5, 8, 1)])
def test_phases_keep_the_magnitude(shape):
    given = np.abs(RNG.normal(size=(shape[0], shape[1] // 2 + 1, shape[2]))) + 0.1
    mirrored = np.roll(given[::-1], 1, 0)  # of a real picture, which is even where a column is its own mirror image
    for column in (0, -1) if shape[1] % 2 == 0 else (0,):
        given[:, column] = (given + mirrored)[:, column]
    made = concepts.Maco(jnp.float32(given))
    buffer = np.asarray(made.buffer(made.start(shape, KEY), shape), np.float64)
    np.testing.assert_allclose([buffer.mean(), buffer.std()], [0, 1], atol=1e-4)
    share = np.abs(np.fft.rfft2(buffer, axes=(0, 1))) / given
    share[0, 0] = share[0, 1]  # its mean is gone
    np.testing.assert_allclose(share / share[0, 1], np.ones_like(share), rtol=2e-4)


def test_pixels_reach_the_bounds_of_a_linear_objective_without_a_step_back():
    low, high = np.float32([-1, 0, 1]), np.float32([1, 2, 5])
    options = dict(parametrisation="pixel", transformations=None, steps=20, colours=None, squash="clip", low=low, high=high)
    found = jax.jit(functools.partial(concepts.visualize, shape=(6, 7, 3), **options))(Partial(linear, jnp.asarray(W)), key=KEY)
    np.testing.assert_array_equal(found.image, np.where(W > 0, high, low))
    assert (np.diff(found.history) >= 0).all() and found.history[-1] == found.value
    np.testing.assert_allclose(found.value, np.where(W > 0, W * high, W * low).sum(), rtol=1e-5)
    reached = np.abs(found.transparency / np.abs(W) - 20)  # the objective's slope at every step, whether or not a pixel can follow
    np.testing.assert_allclose(reached, 0, atol=1e-3)


@pytest.mark.parametrize(("name", "channels"), [("fourier", 1), ("fourier", 3), ("maco", 1)])
def test_a_picture_is_its_parameters(name, channels):
    """Without a step: colours, the sigmoid and the range; and with some, that they raise the objective."""
    shape = (6, 7, channels)
    objective = Partial(linear, jnp.asarray(W[..., :channels]))
    run = jax.jit(functools.partial(concepts.visualize, shape=shape, parametrisation=name, transformations=None, steps=30, low=-1.0))
    found = run(objective, key=KEY)
    assert -1 < found.image.min() < found.image.max() < 1 and found.image.shape == shape
    np.testing.assert_allclose(linear(W[..., :channels], np.asarray(found.image)), found.value, rtol=1e-4)
    assert found.value > found.history[0] + 5


def test_colours_are_those_of_photographs():
    same = lambda x: x[1, 2, 0] - x[1, 2, 2]
    options = dict(parametrisation=concepts.Pixel(sigma=1.0), transformations=None, steps=1, learning_rate=1e-9)
    natural, plain = jax.jit(lambda key: [concepts.visualize(same, (4, 5, 3), None, key, colours=given, **options).image for given in ("natural", None)])(KEY)
    logit = lambda p: np.log(p / (1 - np.asarray(p, np.float64)))
    np.testing.assert_allclose(logit(natural), logit(plain) @ COLOURS, atol=1e-4)
    assert abs(logit(plain).std() - 1) < 0.3  # as the start is drawn


def test_colours_of_ones_own_have_their_covariance():
    pixels = (RNG.normal(size=(500, 3)) @ COLOURS).astype(np.float32).reshape(5, 10, 10, 3)
    own = np.asarray(concepts.colour_correlation(pixels))
    covariance = np.cov(pixels.reshape(-1, 3).T, bias=True)
    scale = np.linalg.eigvalsh(covariance)
    root = own.T * (np.sqrt(np.trace(covariance)) / np.linalg.norm(own))
    np.testing.assert_allclose(root @ root.T, covariance, rtol=1e-4, atol=1e-6 * scale[-1])


def test_a_magnitude_is_the_mean_of_pictures_among_uncorrelated_colours():
    images = RNG.uniform(size=(4, 6, 7, 3)).astype(np.float32)
    truth = np.abs(np.fft.rfft2(images @ np.linalg.inv(COLOURS), axes=(1, 2))).mean(0)
    np.testing.assert_allclose(concepts.magnitude_spectrum(images), truth, rtol=2e-3, atol=2e-3)
    assert concepts.magnitude_spectrum(images[..., :1], size=(8, 8)).shape == (8, 5, 1)


@pytest.mark.parametrize("squash", ["sigmoid", "clip"])
def test_a_search_may_begin_at_a_picture(squash):
    picture = RNG.uniform(-1.9, 2.9, size=(5, 7, 3)).astype(np.float32)
    options = dict(squash=squash, low=-2.0, high=3.0, transformations=None, steps=1, learning_rate=1e-9, start=picture)
    run = lambda key: [concepts.visualize(lambda x: x.sum(), (5, 7, 3), None, key, parametrisation=name, **options) for name in ("pixel", "fourier")]
    for found in jax.jit(run)(KEY):
        np.testing.assert_allclose(found.image, picture, atol=1e-3)
        np.testing.assert_allclose(found.history[0], picture.sum(), rtol=1e-3)


TEMPLATE = np.outer(np.sin(np.linspace(0.3, 6, 8)), np.sin(np.linspace(0.3, 2.8, 8)))[..., None] * np.float32([1, -1, 0.5])
KERNEL = np.zeros((8, 8, 3, 4), np.float32)
KERNEL[..., 2] = TEMPLATE / np.linalg.norm(TEMPLATE)


def matched(kernel, x):
    """How like each of four tiles is to the template of each channel, whatever its contrast; channel 2 alone has one."""
    correlate = lambda v, w: jax.lax.conv_general_dilated(v[None], w, (8, 8), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))[0]
    return (correlate(x - 0.5, kernel) / jnp.sqrt(correlate((x - 0.5) ** 2, jnp.ones_like(kernel)) + 1e-6)).mean((0, 1))


NET = Partial(matched, jnp.asarray(KERNEL))
LAYER = 11
SPECTRUM = np.abs(np.fft.rfft2(np.tile(TEMPLATE, (2, 2, 1)) @ np.linalg.inv(COLOURS), axes=(0, 1)))


@pytest.mark.parametrize("parametrisation", ["fourier", "pixel", concepts.Maco(jnp.float32(SPECTRUM))], ids=lambda p: type(p).__name__)
def test_what_a_network_was_made_to_look_for_is_found(parametrisation):
    """By the phases alone where they are given the magnitude of what there is to find."""
    rate = 0.02 if parametrisation == "fourier" else None
    options = dict(parametrisation=parametrisation, steps=120, learning_rate=rate, transformations=None)
    image = jax.jit(lambda objective, key: concepts.visualize(objective, (16, 16, 3), None, key, **options).image)(concepts.channel(NET, LAYER, 2), KEY)
    for tile in (image[:8, :8], image[8:, :8]):
        assert np.corrcoef((tile - tile.mean((0, 1))).ravel(), TEMPLATE.ravel())[0, 1] > 0.9


def test_channels_share_a_program_and_a_run():
    chex.clear_trace_counter()
    traced = chex.assert_max_traces(n=1)(lambda objective, key: concepts.visualize(objective, (16, 16, 3), None, key, steps=3))
    run = jax.jit(traced)
    keys = jax.random.split(KEY, 4)
    single = [run(concepts.channel(NET, LAYER, c), key) for c, key in zip(range(4), keys)]
    together = jax.jit(jax.vmap(lambda c, key: concepts.visualize(concepts.channel(NET, LAYER, c), (16, 16, 3), None, key, steps=3)))(jnp.arange(4), keys)
    chex.assert_trees_all_close(jax.tree.map(lambda *v: jnp.stack(v), *single), together, rtol=1e-4, atol=1e-5)
    assert jnp.ptp(single[2].history) > 0


@pytest.mark.slow
def test_memory_does_not_depend_on_steps_or_views():
    def size(steps, num_samples):
        run = jax.jit(functools.partial(concepts.visualize, shape=(32, 32, 1), steps=steps, num_samples=num_samples, chunk=2))
        return run.lower(Partial(linear, jnp.ones((32, 32, 1))), key=KEY).compile().memory_analysis().temp_size_in_bytes

    assert size(40, 20) < 1.1 * size(4, 4)


def test_a_channel_is_one_of_its_layer():
    x = jnp.asarray(RNG.uniform(size=(16, 16, 3)), jnp.float32)
    tiles = (np.asarray(x) - 0.5).reshape(2, 8, 2, 8, 3).transpose(0, 2, 1, 3, 4).reshape(2, 2, -1)
    values = tiles @ KERNEL[..., 2].ravel() / np.sqrt((tiles**2).sum(-1) + 1e-6)
    np.testing.assert_allclose(concepts.channel(NET, LAYER, 2)(x), values.mean(), rtol=1e-4)
    np.testing.assert_allclose(concepts.channel(NET, LAYER, 2, (0, 1))(x), values[0, 1], rtol=1e-4)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(concepts.channel(NET, LAYER, 2)))  # a number would be a program of its own
    traced = jax.jit(lambda c: concepts.channel(NET, LAYER, c)(x))
    assert np.isnan(traced(4)) and np.isnan(traced(-1)) and np.isfinite(traced(2))
    for wrong, said in ((4, "channel=4 must be one of 4"), (-1, "channel=-1 must be")):
        with pytest.raises(ValueError, match=said):
            concepts.channel(NET, LAYER, wrong)(x)
    with pytest.raises(ValueError, match=r"position=\(2, 0\) must lie in the map \(2, 2\)"):
        concepts.channel(NET, LAYER, 2, (2, 0))(x)
    with pytest.raises(ValueError, match="must be one integer"):
        concepts.channel(NET, LAYER, 1.5)


WRONG = {
    "draws random numbers": dict(key=None),
    r"shape=\(8, 8\) must be \(height, width, channels\)": dict(shape=(8, 8)),
    "width=0 must be a positive integer": dict(shape=(8, 0, 3)),
    "steps=0 must be a positive integer": dict(steps=0),
    "num_samples=0 must be": dict(num_samples=0),
    "parametrisation='wavelet' must be one of 'fourier', 'maco', 'pixel'": dict(parametrisation="wavelet"),
    "parametrisation=.*Fourier.* must be one of .* concepts.Fourier": dict(parametrisation=concepts.Fourier),
    "transformations='none' must be one of 'default'": dict(transformations="none"),
    "squash='tanh' must be one of 'sigmoid', 'clip'": dict(squash="tanh"),
    "colours='natural' knows pictures of 1 or 3 channels, not of 4": dict(shape=(8, 8, 4)),
    r"colours has shape \(2, 2\), but 3 channels need": dict(colours=np.eye(2)),
    "low=1.0 must be below high=1.0": dict(low=1.0),
    r"high has shape \(2,\), which does not broadcast": dict(high=np.float32([1, 2])),
    "learning_rate=0.0 must lie in": dict(learning_rate=0.0),
    r"magnitude has shape \(8, 8, 3\), but .* magnitude_spectrum\(images, size=\(8, 8\)\)": dict(parametrisation=concepts.Maco(np.ones((8, 8, 3)))),
    "target=None explains a scalar": dict(objective=NET),
    r"start has shape \(8, 8, 3\) and parametrisation='maco'": dict(start=np.full((8, 8, 3), 0.5), parametrisation="maco"),
    r"start has shape \(8, 8, 1\) .* must be the picture \(8, 8, 3\)": dict(start=np.full((8, 8, 1), 0.5)),
    r"size=\(8,\) must be": dict(size=(8,)),
}


@pytest.mark.parametrize("said", WRONG)
def test_what_is_wrong_is_said(said):
    given = {"objective": lambda x: x.sum(), "shape": (8, 8, 3), "key": KEY, **WRONG[said]}
    with pytest.raises(ValueError, match=said):
        concepts.visualize(**given)


@pytest.mark.parametrize(
    "make", [lambda: concepts.Fourier(decay=-1.0), lambda: concepts.Views(scale=1.0), lambda: concepts.Views(pad=-0.1), lambda: concepts.Crops(last=0.0)]
)
def test_fields_out_of_range_are_refused(make):
    with pytest.raises(ValueError, match="must lie in"):
        make()


@pytest.mark.parametrize("name", ["fourier", "pixel", "maco"])
def test_pictures_are_single_precision_whatever_the_default_is(name):
    seen = set()

    def objective(x):
        seen.add(x.dtype)
        return x.sum()

    with jax.enable_x64(True):
        made = lambda key: concepts.visualize(objective, (4, 5, 3), None, key, parametrisation=name, steps=2, num_samples=1)
        found = jax.eval_shape(made, jax.eval_shape(lambda: jax.random.key(0)))
    assert seen == {jnp.dtype(jnp.float32)} == {leaf.dtype for leaf in found}
