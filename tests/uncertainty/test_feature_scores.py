"""Scores of features and of what was fitted on them: against scikit-learn, SciPy, and NumPy in float64 written from the published codes."""

from __future__ import annotations

import functools

import jax
import numpy as np
import pytest
import scipy.special
import scipy.stats
from sklearn.covariance import EmpiricalCovariance
from sklearn.metrics import pairwise_distances_argmin_min
from sklearn.neighbors import NearestNeighbors

from jxai import uncertainty
from jxai.uncertainty import Head, formulas, rows

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
N, D, K = 300, 8, 4
LABELS = RNG.integers(0, K, N)
CENTRES = 2 * RNG.normal(size=(K, D))
H = np.maximum(CENTRES[LABELS] + RNG.normal(size=(N, D)) @ RNG.normal(size=(D, D)) + 1, 0).astype(np.float32)
MEANS = np.stack([H[LABELS == c].mean(0) for c in range(K)])
W, B = (0.2 * MEANS.T).astype(np.float32), (-0.1 * (MEANS**2).sum(1)).astype(np.float32)
HEAD = Head(W, B)
Z = H @ W + B
X = np.concatenate([H[:10], 3 * RNG.normal(size=(10, D))]).astype(np.float32)
LOGITS = X @ W + B
OPTIONS = {"knn": {"num_neighbours": 7}, "nn_guide": {"num_neighbours": 6}, "relation": {"power": 2.0}, "nci": {"alpha": 1e-2}}
FIT_OPTIONS = {"vim": {"dimension": 5}, "nn_guide": {"fraction": 0.4}}
NAMES = ("fdbd", "kl_matching", "knn", "mahalanobis", "nci", "nn_guide", "relation", "relative_mahalanobis", "she", "vim")

h, z, x, logits, w, b = (v.astype(np.float64) for v in (H, Z, X, LOGITS, W, B))
mu = h.mean(0)
predicted, guessed = z.argmax(1), logits.argmax(1)
unit = lambda v: v / np.linalg.norm(v, axis=1, keepdims=True)


def class_distances(labels):
    """Squared distances from the means of the classes, as OpenOOD's MDS has them."""
    means = np.stack([h[labels == c].mean(0) for c in np.unique(labels)])
    precision = EmpiricalCovariance().fit(h - means[np.unique(labels, return_inverse=True)[1]]).precision_
    return np.stack([np.einsum("ni,ij,nj->n", x - m, precision, x - m) for m in means], 1)


def openood(name):
    """OpenOOD's score with its sign turned."""
    if name == "mahalanobis":
        return class_distances(LABELS).min(1)
    if name == "relative_mahalanobis":
        return class_distances(LABELS).min(1) - class_distances(np.zeros(N, int))[:, 0]
    if name == "knn":
        return NearestNeighbors(n_neighbors=7).fit(unit(h) + 1e-10).kneighbors(unit(x) + 1e-10)[0][:, -1] ** 2
    if name == "nn_guide":
        kept = int(0.4 * N)
        bank = (unit(h[:kept]) + 1e-10) * scipy.special.logsumexp(z[:kept], 1)[:, None]
        return -np.sort((unit(x) + 1e-10) @ bank.T, 1)[:, -6:].mean(1) * scipy.special.logsumexp(logits, 1)
    if name == "relation":
        related = np.maximum(unit(x) @ unit(h).T, 0) * (scipy.special.softmax(logits, 1) @ scipy.special.softmax(z, 1).T)
        return -np.where(related > 0.03, related**2, 0).sum(1)
    if name == "vim":
        origin = -np.linalg.pinv(w.T) @ b
        values, vectors = np.linalg.eig(EmpiricalCovariance(assume_centered=True).fit(h - origin).covariance_)
        residual = vectors.T[np.argsort(-values)[5:]].T
        alpha = z.max(1).mean() / np.linalg.norm((h - origin) @ residual, axis=1).mean()
        return alpha * np.linalg.norm((x - origin) @ residual, axis=1) - scipy.special.logsumexp(logits, 1)
    if name == "kl_matching":
        p = scipy.special.softmax(z, 1)
        templates = np.stack([p[predicted == c].mean(0) if (predicted == c).any() else np.eye(K)[c] for c in range(K)])
        return pairwise_distances_argmin_min(scipy.special.softmax(logits, 1), templates, metric=scipy.stats.entropy)[1]
    if name == "she":
        means = np.stack([h[(LABELS == c) & (predicted == c)].mean(0) for c in range(K)])
        return -(x * means[guessed]).sum(1)
    if name == "fdbd":
        slopes = np.linalg.norm(w.T[:, None] - w.T[None], axis=2) + np.eye(K)
        return -(np.abs(logits - logits.max(1, keepdims=True)) / slopes[guessed]).sum(1) / np.linalg.norm(x - mu, axis=1)
    if name == "nci":
        return -(w.T[guessed] * (x - mu)).sum(1) / np.linalg.norm(x - mu, axis=1) - 1e-2 * np.abs(x).sum(1)
    raise KeyError(name)


PAPER = {"knn": np.sqrt, "fdbd": lambda v: v / (K - 1)}
"""What the paper's form makes of OpenOOD's, where it is another."""


@functools.cache
def fitted(name):
    return getattr(uncertainty, f"fit_{name}")(H, Z, LABELS, HEAD, **FIT_OPTIONS.get(name, {}))


def of(name, fit, logits=LOGITS, features=X, **options):
    formula = getattr(formulas, name)
    return np.asarray(jax.jit(jax.vmap(lambda z, h: formula(z, h, fit, **options)))(logits, features))


@pytest.mark.parametrize("name", NAMES)
def test_both_conventions_are_those_of_independent_code(name):
    theirs = openood(name)
    for convention, truth in (("openood", theirs), ("paper", PAPER.get(name, lambda v: v)(theirs))):
        ours = of(name, fitted(name), convention=convention, **OPTIONS.get(name, {}))
        assert np.abs(ours - truth).max() <= 1e-4 * np.abs(truth).max()
        np.testing.assert_array_equal(np.argsort(ours), np.argsort(truth))
    with pytest.raises(ValueError, match="convention='theirs' must be one of 'paper', 'openood'"):
        getattr(formulas, name)(LOGITS[0], X[0], fitted(name), convention="theirs")


def test_fdbd_by_the_norm():
    np.testing.assert_allclose(
        of("fdbd", fitted("fdbd"), divisor="norm"), openood("fdbd") / 3 * np.linalg.norm(x - mu, axis=1) / np.linalg.norm(x, axis=1), rtol=1e-4
    )


def test_gaussian_density_is_scipys_with_and_without_the_prior():
    # Without dead units, of which SciPy's density does not exist.
    features = H + RNG.normal(size=H.shape).astype(np.float32)
    density = uncertainty.fit_gaussian_density(features, Z, LABELS)
    groups = [features[LABELS == c].astype(np.float64) for c in range(K)]
    by_class = np.stack([scipy.stats.multivariate_normal(g.mean(0), np.cov(g.T, bias=True)).logpdf(x) for g in groups], 1)
    np.testing.assert_allclose(of("gaussian_density", density), -scipy.special.logsumexp(by_class, 1), rtol=1e-4, atol=1e-3)
    weighed = by_class + np.log(np.bincount(LABELS) / N)
    np.testing.assert_allclose(of("gaussian_density", density, prior=True), -scipy.special.logsumexp(weighed, 1), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", [*NAMES, "gaussian_density"])
def test_a_fit_does_not_depend_on_the_block_of_rows(name, monkeypatch):
    options = FIT_OPTIONS.get(name, {})
    whole = getattr(uncertainty, f"fit_{name}")(H, Z, LABELS, HEAD, **options)
    monkeypatch.setattr(rows, "ROWS", 7)
    parts = getattr(uncertainty, f"fit_{name}")(H, Z, LABELS, HEAD, **options)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(parts)):
        # Eigenvectors may turn their sign.
        np.testing.assert_allclose(np.abs(a), np.abs(b), rtol=1e-5, atol=1e-6)
