"""Performance information curves: the size estimate against real WebP files, the curve against its definition."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import stats
from skimage import data, transform

from jxai import fills
from jxai.metrics.information import image_information, performance_information_curve

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(0)
SIZE = 64
NAMES = ("astronaut", "coffee", "chelsea", "rocket", "camera", "moon", "page", "brick", "grass", "clock")
X = transform.resize(data.astronaut(), (16, 16)).astype(np.float32)
A = np.random.default_rng(1).normal(size=(16, 16, 1)).astype(np.float32)
blurred = jax.jit(lambda x, m: fills.remove(x, m, fills.Neighbours(noise=0)))
information = jax.jit(image_information)


def photograph(name):
    image = getattr(data, name)()
    image = image if image.ndim == 3 else np.repeat(image[..., None], 3, -1)
    return transform.resize(image, (SIZE, SIZE), anti_aliasing=True).astype(np.float32)


def webp(x):
    file = io.BytesIO()
    Image.fromarray(np.uint8(np.clip(np.rint(np.asarray(x) * 255), 0, 255))).save(file, format="webp", lossless=True, quality=100)
    return file.tell()


def test_the_estimate_ranks_images_and_blurs_as_lossless_webp_does():
    images, whole, within = [photograph(name) for name in NAMES], [], []
    rng = np.random.default_rng(0)
    for x in images:
        whole.append((float(information(x)), webp(x)))
        steps = [blurred(x, (rng.random((SIZE, SIZE, 1)) < q).astype(np.float32)) for q in (0.01, 0.03, 0.1, 0.3, 0.6, 1.0)]
        within.append(stats.spearmanr([float(information(v)) for v in steps], [webp(v) for v in steps])[0])
    # Near the whole image, sizes hardly grow and even fall.
    assert min(within) > 0.8 and np.mean(within) > 0.94
    ours, theirs = np.transpose(whole)
    assert stats.spearmanr(ours, theirs)[0] > 0.95
    # In bits and bytes, too: within a third of each other.
    assert np.abs(np.log(ours / 8 / theirs)).max() < 0.3


def test_the_estimate_is_the_entropy_of_the_residuals():
    rng = np.random.default_rng(1)
    v = rng.integers(0, 256, (5, 6, 2))
    total = 0.0
    for c in range(2):
        residuals = []
        for i in range(5):
            for j in range(6):
                left, upper, corner = (int(v[a, b, c]) if a >= 0 and b >= 0 else 0 for a, b in ((i, j - 1), (i - 1, j), (i - 1, j - 1)))
                residuals.append((v[i, j, c] - sorted((left, upper, left + upper - corner))[1]) % 256)
        total += 30 * stats.entropy(np.unique(residuals, return_counts=True)[1], base=2)
    assert np.allclose(information((v / 255).astype(np.float32)), total, rtol=1e-5)
    assert information(np.zeros((5, 6, 2), np.float32)) == 0
    # A colour that is the same shade everywhere costs nothing beyond its green.
    grey = rng.random((8, 8, 1)).astype(np.float32)
    assert np.allclose(information(np.repeat(grey, 3, -1)), information(grey), rtol=1e-5)


def scored(x):
    """Class 0 grows with the detail of the upper half."""
    detail = jnp.abs(jnp.diff(x[:8], axis=1)).mean()
    return jnp.stack([60 * detail, jnp.float32(4.5)])


@pytest.mark.parametrize("score", ["probability", pytest.param("accuracy", marks=pytest.mark.slow)])
def test_the_curve_is_its_definition(score):
    """With no seed but the corners and a fixed fill, all points are known."""
    shares, n = (0.1, 0.3, 0.6), 256
    options = dict(shares=shares, seed_share=0.0, fill=0.4, score=score, num_points=11)
    result = jax.tree.map(np.asarray, jax.jit(lambda x, a: performance_information_curve(scored, x, 0, a, KEY, **options))(X, A))
    rank = np.empty(n, int)
    rank[np.argsort(-A.ravel())] = np.arange(n)
    points = []
    for count in (0, *(round(q * n) for q in shares), n):
        keep = (rank < count).reshape(16, 16)
        keep[np.ix_((0, -1), (0, -1))] = True
        image = np.where(keep[..., None], X, np.float32(0.4))
        logits = np.asarray([60 * np.abs(np.diff(image[:8], axis=1)).mean(), 4.5])
        points.append((float(information(image)), 1 / (1 + np.exp(logits[1] - logits[0])) if score == "probability" else float(logits.argmax() == 0)))
    bits, y = (np.maximum.accumulate(np.clip((v - v[0]) / (v[-1] - v[0]), 0, 1)) for v in np.transpose(points))
    expected = np.interp(np.linspace(0, 1, 11), bits, y)
    assert np.allclose(result.y, expected, atol=1e-4) and np.allclose(result.auc, np.trapezoid(expected, dx=0.1), atol=1e-4)
    assert abs(result.y[0]) < 1e-6 and abs(result.y[-1] - 1) < 1e-6 and (np.diff(result.y) >= 0).all()


@jax.jit
def run(x, a, target, key=KEY):
    return performance_information_curve(scored, x, target, a, key, num_points=5)


def test_revealing_what_decides_earns_more_than_revealing_the_rest():
    upper = np.tile(np.where(np.arange(16)[:, None, None] < 8, 1, -1).astype(np.float32), (1, 16, 1))
    good, bad = run(X, upper, 0).auc, run(X, -upper, 0).auc
    assert good > bad + 0.2 and run(X, upper, 0, jax.random.key(5)).auc != good


def test_what_has_no_curve_is_nan():
    spoilt = A.copy()
    spoilt[0, 0] = np.nan
    assert np.isnan(run(X, spoilt, 0).y).all()
    # A flat image has no information to reveal; the other class loses by it; no such class.
    assert np.isnan(run(np.full_like(X, 0.5), A, 0).auc) and np.isnan(run(X, A, 1).auc) and np.isnan(run(X, A, 9).auc)
    assert np.isfinite(run(X, np.zeros_like(A), 0).auc)


def test_bad_input_says_so():
    wrong = [({"score": "logit"}, "score='logit'"), ({"shares": (0.5, 0.1)}, "shares="), ({"seed_share": 2.0}, "seed_share=2")]
    for options, word in [*wrong, ({"shares": (0.5, 1.0)}, "shares=")]:
        with pytest.raises(ValueError, match=word):
            performance_information_curve(scored, X, 0, A, KEY, **options)
    with pytest.raises(ValueError, match="key=None"):
        performance_information_curve(scored, X, 0, A)
    with pytest.raises(ValueError, match="x must be an image"):
        performance_information_curve(lambda v: v, X[0, 0], 0, X[0, 0], KEY)
    with pytest.raises(ValueError, match="x must be an image"):
        image_information(X[0])
    with pytest.raises(ValueError, match="attribution must"):
        performance_information_curve(scored, X, 0, A[0], KEY)
