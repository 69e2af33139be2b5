"""The corruptions' formulas, `(x [H, W, C] in [0, 1], random, *parameters) -> [H, W, C]`, at parameters that the caller names; the package has ImageNet-C's alone.

Of the published data they differ in the random numbers, and in motion blur, which was ImageMagick's there and is the package's sum over shifted pictures here.
What is written for 32 × 32 pixels takes any other size: what is measured in pixels of the elastic transformation is scaled by it.

Reference: Hendrycks and Dietterich 2019, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", ICLR.
"""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np

Random = np.random.Generator


def gaussian_noise(x: np.ndarray, random: Random, std: float) -> np.ndarray:
    """x + std ε, ε ~ N(0, 1) of every number."""
    return x + random.normal(0, std, x.shape)


def shot_noise(x: np.ndarray, random: Random, photons: float) -> np.ndarray:
    """Poisson(photons · x) / photons of every number."""
    return random.poisson(x * photons) / photons


def impulse_noise(x: np.ndarray, random: Random, share: float) -> np.ndarray:
    """A share of the numbers becomes 0 or 1, by even chance."""
    from skimage.util import random_noise

    return random_noise(x, "s&p", rng=random, amount=share)


def speckle_noise(x: np.ndarray, random: Random, std: float) -> np.ndarray:
    """x + std x ε, ε ~ N(0, 1) of every number."""
    return x + x * random.normal(0, std, x.shape)


def gaussian_blur(x: np.ndarray, random: Random, sigma: float) -> np.ndarray:
    """x by a Gaussian of `sigma` pixels; beyond an edge is the edge."""
    from scipy import ndimage

    return ndimage.gaussian_filter(x, (sigma, sigma, 0), mode="nearest")


def glass_blur(x: np.ndarray, random: Random, sigma: float, most: int, rounds: int) -> np.ndarray:
    """Blurred; every pixel, from the last to the first, takes that of a place at most `most` away, `rounds` times; blurred again."""
    pixels = (gaussian_blur(x, random, sigma) * 255).astype(np.uint8)
    height, width = x.shape[:2]
    moves = random.integers(-most, most, (rounds, height, width, 2))
    for round in moves:
        for row in range(height - most, most, -1):
            for column in range(width - most, most, -1):
                down, right = round[row - 1, column - 1]
                # The published code means to swap, and copies, since what it swaps are views.
                pixels[row, column] = pixels[row + down, column + right]
    return gaussian_blur(pixels / 255, random, sigma)


def defocus_blur(x: np.ndarray, random: Random, radius: float, alias: float) -> np.ndarray:
    """x by a disk of `radius` pixels, its edge softened by `alias`."""
    import cv2
    from imagecorruptions.corruptions import disk

    return cv2.filter2D(x, -1, disk(radius, alias)).reshape(x.shape)


def motion_blur(x: np.ndarray, random: Random, radius: int, sigma: float) -> np.ndarray:
    """The mean of x moved by 0 to 2 radius pixels in a direction within 45° of the rows, weighted by a Gaussian of `sigma`."""
    return _moved(x, radius, sigma, random.uniform(-45, 45))


def zoom_blur(x: np.ndarray, random: Random, largest: float) -> np.ndarray:
    """The mean of x and of x enlarged by 1, 1.01, … below `largest`."""
    factors = np.arange(1, largest, 0.01)
    return (x + sum(_zoomed(x, factor) for factor in factors)) / (len(factors) + 1)


def snow(x: np.ndarray, random: Random, mean: float, std: float, zoom: float, threshold: float, radius: int, sigma: float, weight: float) -> np.ndarray:
    """weight x + (1 − weight) max(x, 1.5 luminance + 0.5) + s + s turned by 180°, s noise N(mean, std) enlarged by `zoom`, what of it is above `threshold`, blurred by motion downwards."""
    layer = _zoomed(random.normal(mean, std, x.shape[:2])[..., None], zoom)
    layer = np.clip(np.where(layer < threshold, 0, layer), 0, 1)
    layer = np.round(_moved(layer, radius, sigma, random.uniform(-135, -45)) * 255) / 255
    whiter = np.maximum(x, (x @ [0.299, 0.587, 0.114])[..., None] * 1.5 + 0.5)
    return weight * x + (1 - weight) * whiter + layer + np.rot90(layer, 2)


def frost(x: np.ndarray, random: Random, weight: float, frosted: float) -> np.ndarray:
    """weight x + frosted t, t a piece of one of five photographs of frost."""
    import cv2

    texture = _texture(int(random.integers(5)))
    height, width = x.shape[:2]
    scale = max(0.2, (height + 1) / texture.shape[0], (width + 1) / texture.shape[1])
    texture = cv2.resize(texture, (0, 0), fx=scale, fy=scale)
    top, left = random.integers(0, texture.shape[0] - height), random.integers(0, texture.shape[1] - width)
    return weight * x + frosted * texture[top : top + height, left : left + width] / 255


def fog(x: np.ndarray, random: Random, strength: float, decay: float) -> np.ndarray:
    """(x + strength p) max(x) / (max(x) + strength), p a plasma fractal whose steps decay by `decay`."""
    from imagecorruptions.corruptions import plasma_fractal

    height, width = x.shape[:2]
    size = 1 << (max(height, width) - 1).bit_length()
    brightest = x.max()
    return (x + strength * plasma_fractal(size, decay)[:height, :width, None]) * brightest / (brightest + strength)


def brightness(x: np.ndarray, random: Random, added: float) -> np.ndarray:
    """The value in HSV + added, cut to [0, 1]."""
    return _in_hsv(x, 2, lambda value: value + added)


def contrast(x: np.ndarray, random: Random, factor: float) -> np.ndarray:
    """(x − m) factor + m, m the mean of each channel."""
    mean = x.mean((0, 1), keepdims=True)
    return (x - mean) * factor + mean


def saturate(x: np.ndarray, random: Random, factor: float, added: float) -> np.ndarray:
    """factor × the saturation in HSV + added, cut to [0, 1]."""
    return _in_hsv(x, 1, lambda saturation: saturation * factor + added)


def jpeg_compression(x: np.ndarray, random: Random, quality: int) -> np.ndarray:
    """x written as JPEG of this `quality` (of 100), and read."""
    file = io.BytesIO()
    _image(x).save(file, "JPEG", quality=quality)
    return np.asarray(_pillow().open(file)) / 255


def pixelate(x: np.ndarray, random: Random, scale: float) -> np.ndarray:
    """x made smaller to `scale` of its sides and larger again, both by means over boxes."""
    height, width = x.shape[:2]
    box = _pillow().Resampling.BOX
    small = _image(x).resize((max(1, int(width * scale)), max(1, int(height * scale))), box)
    return np.asarray(small.resize((width, height), box)) / 255


def elastic_transform(x: np.ndarray, random: Random, alpha: float, sigma: float, affine: float) -> np.ndarray:
    """x by a random affine map that moves three corners by at most `affine`, then moved at every pixel by `alpha` × even noise in [−1, 1] smoothed by `sigma`."""
    import cv2
    from scipy import ndimage

    height, width = x.shape[:2]
    scale = min(height, width) / 32
    middle, centre, side = height // 2, width // 2, min(height, width) // 3
    corners = np.asarray([[middle + side, centre + side], [middle + side, centre - side], [middle - side, centre - side]], np.float32)
    moved = corners + random.uniform(-affine * scale, affine * scale, corners.shape).astype(np.float32)
    x = cv2.warpAffine(x.astype(np.float32), cv2.getAffineTransform(corners, moved), (width, height), borderMode=cv2.BORDER_REFLECT_101)
    right, down = (ndimage.gaussian_filter(random.uniform(-1, 1, (height, width)), sigma * scale, mode="reflect", truncate=3) * alpha * scale for _ in "xy")
    rows, columns = np.mgrid[:height, :width]
    return np.stack([ndimage.map_coordinates(channel, (rows + down, columns + right), order=1, mode="reflect") for channel in np.moveaxis(x, -1, 0)], -1)


def spatter(x: np.ndarray, random: Random, mean: float, std: float, sigma: float, threshold: float, weight: float, mud: int) -> np.ndarray:
    """Drops where N(mean, std) smoothed by `sigma` is above `threshold`: of water, added as light by `weight`, or (`mud`) of mud, laid over x with edges smoothed by `weight`."""
    from scipy import ndimage

    liquid = ndimage.gaussian_filter(random.normal(mean, std, x.shape[:2]), sigma, mode="nearest")
    liquid[liquid < threshold] = 0
    if not mud:
        drops = _drops((liquid * 255).astype(np.uint8))
        peak = drops.max()
        return x if peak == 0 else x + (weight * drops / peak)[..., None] * np.asarray([175, 238, 238]) / 255
    covered = ndimage.gaussian_filter((liquid > threshold).astype(np.float32), weight, mode="nearest")[..., None]
    covered[covered < 0.8] = 0
    return x * (1 - covered) + covered * np.asarray([63, 42, 20]) / 255


def _moved(x: np.ndarray, radius: int, sigma: float, angle: float) -> np.ndarray:
    """The weighted mean of x along half a line; what moves in from beyond an edge is the edge."""
    weights = np.exp(-(np.arange(2 * radius + 1) ** 2) / (2 * sigma**2))
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    rows, columns = np.arange(x.shape[0]), np.arange(x.shape[1])
    total = np.zeros(x.shape)
    for i, weight in enumerate(weights / weights.sum()):
        down, right = math.ceil(i * sine - 0.5), math.ceil(i * cosine - 0.5)
        total += weight * x[np.clip(rows + down, 0, len(rows) - 1)][:, np.clip(columns + right, 0, len(columns) - 1)]
    return total


def _zoomed(x: np.ndarray, factor: float) -> np.ndarray:
    """The middle of x, as large as x."""
    from scipy import ndimage

    sizes = [math.ceil(size / factor) for size in x.shape[:2]]
    top, left = ((size - part) // 2 for size, part in zip(x.shape, sizes))
    larger = ndimage.zoom(x[top : top + sizes[0], left : left + sizes[1]], (factor, factor, 1), order=1)
    top, left = ((part - size) // 2 for size, part in zip(x.shape[:2], larger.shape))
    return larger[top : top + x.shape[0], left : left + x.shape[1]]


def _in_hsv(x: np.ndarray, channel: int, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    from skimage import color

    hsv = color.rgb2hsv(x)
    hsv[..., channel] = np.clip(change(hsv[..., channel]), 0, 1)
    return color.hsv2rgb(hsv)


def _drops(liquid: np.ndarray) -> np.ndarray:
    """Where water lies and how it is lit, `[H, W]`."""
    import cv2

    distance = cv2.distanceTransform(255 - cv2.Canny(liquid, 50, 150), cv2.DIST_L2, 5)
    distance = cv2.threshold(distance, 20, 20, cv2.THRESH_TRUNC)[1]
    distance = cv2.equalizeHist(cv2.blur(distance, (3, 3)).astype(np.uint8))
    lit = cv2.filter2D(distance, cv2.CV_8U, np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]))
    return liquid * cv2.blur(lit, (3, 3)).astype(np.float32)


@functools.cache
def _texture(index: int) -> np.ndarray:
    """A photograph of frost that comes with the package, `[h, w, 3]` uint8."""
    import importlib.resources

    name = f"frost{index + 1}.{'png' if index < 3 else 'jpg'}"
    with (importlib.resources.files("imagecorruptions") / "frost" / name).open("rb") as file:
        return np.asarray(_pillow().open(file).convert("RGB"))


def _image(x: np.ndarray) -> Any:
    return _pillow().fromarray((x * 255).round().astype(np.uint8))


def _pillow() -> Any:
    from PIL import Image

    return Image
