"""Corruptions: the package's own where they are ImageNet-C's, and its formulas at other parameters; a picture depends on its pixels and its seed alone."""

import json
import os
import random
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jxai import data
from jxai.data.corruptions import cifar10c
from jxai.data.corruptions.names import CIFAR10C
from jxai.identity.values import described

TOLD = Path(os.environ.get("JXAI_DATA", Path(__file__).parents[2] / ".." / "shared")) / "extra" / "cifar10c_parameters.json"
package = pytest.importorskip("imagecorruptions")


def _photograph(size):
    from skimage import data as pictures

    return np.asarray(Image.fromarray(pictures.coffee()).resize((size, size)))


LARGE, SMALL = _photograph(64), _photograph(32)


def test_the_names_are_the_packages():
    assert list(data.CORRUPTIONS) == package.get_corruption_names("all")


@pytest.mark.skipif(not TOLD.is_file(), reason="the table of CIFAR-10-C's parameters is not here: name its folder by JXAI_DATA")
def test_the_parameters_are_those_of_the_specification():
    told = json.loads(TOLD.read_text())
    assert {name: [list(v) for v in values] for name, values in CIFAR10C.items()} == {n: v["values"] for n, v in told.items() if n != "_about"}


@pytest.mark.parametrize("name", [n for n in data.CORRUPTIONS if n not in ("impulse_noise", "glass_blur")])
def test_of_a_large_picture_it_is_the_packages_at_that_seed(name):
    made = data.corrupt(LARGE, name, 3, seed=(5, 7))
    words = np.random.SeedSequence([zlib.crc32(name.encode()), 5, 7]).generate_state(4)
    np.random.seed(words)  # noqa: NPY002
    assert np.array_equal(made, package.corrupt(LARGE, 3, name))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("gaussian_blur", (3,)),
        ("defocus_blur", (6, 0.5)),
        ("contrast", (0.2,)),
        ("brightness", (0.3,)),
        ("saturate", (2, 0)),
        ("jpeg_compression", (15,)),
    ],
)
def test_our_formulas_at_the_packages_parameters_are_the_package(name, parameters):
    ours = 255 * np.clip(getattr(cifar10c, name)(LARGE / 255, np.random.default_rng(0), *parameters), 0, 1)
    assert np.abs(ours - package.corrupt(LARGE, 3, name)).max() <= 1 + 1e-6  # the package's is truncated


def test_motion_is_blurred_as_the_package_does_inside_the_edges():
    angle = np.random.default_rng(0).uniform(-45, 45)
    theirs = package.corruptions._motion_blur(LARGE / 255, radius=8, sigma=2, angle=angle)
    assert np.allclose(cifar10c.motion_blur(LARGE / 255, np.random.default_rng(0), 8, 2), theirs, atol=1e-6)


@pytest.mark.parametrize(("name", "std"), [("gaussian_noise", 0.08), ("speckle_noise", 0.12 / 2), ("shot_noise", np.sqrt(0.5 / 100))])
@pytest.mark.parametrize("channels", [1, 3])
def test_noise_is_as_strong_as_its_parameter_says(name, std, channels):
    grey = np.full((32, 32, channels), 128, np.uint8)
    made = np.stack([data.corrupt(grey, name, 3, seed=i) for i in range(20)])
    assert np.std(made / 255) == pytest.approx(std, rel=0.03)


@pytest.mark.parametrize("name", ["impulse_noise", "frost", "elastic_transform", "spatter"])
@pytest.mark.parametrize("picture", [SMALL, LARGE, SMALL[..., :1], SMALL[:8, :11, :1]], ids=["small", "large", "grey", "tiny"])
def test_a_picture_depends_on_its_seed_alone(name, picture):
    state = np.random.get_state()  # noqa: NPY002
    first = data.corrupt(picture, name, 2, seed=(0, 3))
    assert described(state) == described(np.random.get_state())  # noqa: NPY002
    np.random.rand(5), random.random()  # noqa: NPY002
    assert first.shape == picture.shape and first.dtype == np.uint8 and np.array_equal(first, data.corrupt(picture, name, 2, seed=(0, 3)))
    assert not np.array_equal(first, data.corrupt(picture, name, 2, seed=(0, 4)))


@pytest.mark.slow
@pytest.mark.parametrize("parameters", ["imagenet-c", "cifar-10-c"])
@pytest.mark.parametrize("name", data.CORRUPTIONS)
def test_all_of_them_in_any_order_and_from_threads(name, parameters):
    seeds = range(6)
    make = lambda seed: data.corrupt(LARGE, name, 1 + seed % 5, seed=seed, parameters=parameters)
    alone, found = [make(seed) for seed in seeds], {}
    threads = [threading.Thread(target=lambda s=s: found.update({s: make(s)})) for s in reversed(seeds)]
    [t.start() for t in threads], [t.join() for t in threads]
    assert all(np.array_equal(alone[s], found[s]) for s in seeds)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, 5, 8, 28])
@pytest.mark.parametrize("name", data.CORRUPTIONS)
def test_any_size_has_cifars(name, size):
    picture = _photograph(64)[:size, : size + 1]
    assert all(data.corrupt(picture, name, s).shape == picture.shape for s in (1, 3, 5))


def test_severities_grow():
    off = [np.abs(data.corrupt(SMALL, "gaussian_noise", s).astype(int) - SMALL).mean() for s in (1, 2, 3, 4, 5)]
    large = [np.abs(data.corrupt(SMALL, "gaussian_noise", s, parameters="imagenet-c").astype(int) - SMALL).mean() for s in (1, 2, 3, 4, 5)]
    assert off == sorted(off) and large == sorted(large) and off[4] < large[1]


def test_a_source_keeps_all_but_the_pixels():
    digits = data.source("digits")
    noisy = data.source("digits+gaussian_noise:3")
    assert len(noisy) == len(digits) and noisy.class_names == digits.class_names and np.array_equal(noisy.labels(), digits.labels())
    a, b = digits[11], noisy[11]
    assert (a.label, a.name) == (b.label, b.name) and np.array_equal(a.mask, b.mask)
    assert np.array_equal(b.pixels, data.corrupt(a.pixels, "gaussian_noise", 3, seed=(0, 11))) and np.array_equal(b.pixels, noisy[11].pixels)
    assert not np.array_equal(noisy[11].pixels - a.pixels, noisy[12].pixels - digits[12].pixels)


def test_names_and_digests_tell_sources_from_each_other():
    digits = data.source("digits")
    made = [data.corrupted(digits, "fog", 2), data.corrupted(digits, "fog", 3), data.corrupted(digits, "snow", 2), data.corrupted(digits, "fog", 2, seed=1)]
    made += [data.corrupted(digits, "fog", 2, parameters="cifar-10-c"), data.source("digits+fog:2+contrast:1")]
    assert len({source.name for source in made}) == len(made) and made[-1].name == "digits+fog:2+contrast:1"
    assert made[0].digest([1]) != made[0].digest([2]) != digits.digest([2])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: data.source("digits+mist:3"), "no corruption 'mist'; there are gaussian_noise"),
        (lambda: data.source("digits+fog"), r"fog needs a severity from 1 to 5, as \+fog:3; got ''"),
        (lambda: data.source("digits+fog:6"), "got '6'"),
        (lambda: data.corrupt(SMALL, "fog", 0), "severity=0 of fog must be"),
        (lambda: data.corrupt(SMALL, "fog", True), "severity=True"),
        (lambda: data.corrupt(SMALL, "mist", 1), "corruption='mist' must be one of 'gaussian_noise'"),
        (lambda: data.corrupt(SMALL / 255, "fog", 1), r"fog is of pixels .* got float64 \(32, 32, 3\)"),
        (lambda: data.corrupt(SMALL[..., :2], "fog", 1), r"got uint8 \(32, 32, 2\)"),
        (lambda: data.corrupt(SMALL[:30], "fog", 1, parameters="imagenet-c"), "needs pictures of at least 32 pixels a side"),
        (lambda: data.corrupt(SMALL, "fog", 1, parameters="mnist-c"), "parameters='mnist-c' must be one of"),
    ],
)
def test_what_is_wrong_is_said(call, message):
    with pytest.raises(ValueError, match=message):
        call()
