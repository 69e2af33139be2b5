"""Scores beside those of pytorch-ood on the same arrays, where it is installed; what it defines otherwise is said."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jxai import uncertainty
from jxai.uncertainty import formulas

torch = pytest.importorskip("torch", reason="needs PyTorch and pytorch-ood")
detectors = pytest.importorskip("pytorch_ood.detector", reason="needs pytorch-ood")

N, D, K = 200, 24, 6
_DRAWN = np.random.default_rng(5)
_LABELS = np.arange(N) % K
WEIGHTS, BIAS = _DRAWN.normal(size=(D, K)).astype(np.float32), _DRAWN.normal(size=K).astype(np.float32)
FEATURES = np.maximum(WEIGHTS.T[_LABELS] * 0.3 + _DRAWN.normal(0.3, 1, (N, D)), 0).astype(np.float32)
NEW = np.maximum(_DRAWN.normal(0.2, 1.2, (50, D)), 0).astype(np.float32)
LOGITS, NEW_LOGITS = FEATURES @ WEIGHTS + BIAS, NEW @ WEIGHTS + BIAS
HEAD = uncertainty.Head(jnp.asarray(WEIGHTS), jnp.asarray(BIAS))
ARRAYS = (FEATURES, LOGITS, _LABELS, HEAD)
T = {name: torch.from_numpy(value) for name, value in {"z": FEATURES, "l": LOGITS, "new": NEW, "new_l": NEW_LOGITS, "w": WEIGHTS.T.copy(), "b": BIAS}.items()}
Y = torch.from_numpy(_LABELS)
PREDICTED = torch.from_numpy(LOGITS.argmax(1))


def linear():
    layer = torch.nn.Linear(D, K)
    layer.weight.data, layer.bias.data = T["w"], T["b"]
    return layer


def ours(name, fitted=None, **options):
    return np.asarray(jax.jit(jax.vmap(lambda z, h: getattr(formulas, name)(z, h, fitted, **options)))(NEW_LOGITS, NEW))


def fit(name, **options):
    return getattr(uncertainty, f"fit_{name}")(*ARRAYS, **options)


def maps(detector, fitted=False):
    """A detector of maps, shown features as maps of one position."""
    if fitted:
        detector.fit_feature_maps(T["z"][:, :, None, None], Y)
    return detector.predict_feature_maps(T["new"][:, :, None, None])


def of_maps(name, **options):
    head = torch.nn.Sequential(torch.nn.Flatten(), linear())
    return getattr(detectors, name)(backbone=None, head=head, **options)


def of_features(detector):
    detector.fit_features(T["z"], Y)
    return detector.predict_features(T["new"])


def classified():
    """The latents of examples that are classified rightly, which SHE is fitted to."""
    right = LOGITS.argmax(1) == _LABELS
    detector = detectors.SHE(None, linear())
    detector.fit_features(T["z"][torch.from_numpy(right)], Y[torch.from_numpy(right)])
    return detector.predict_features(T["new"])


def matched():
    detector = detectors.KLMatching(None)
    detector.fit_logits(T["l"], PREDICTED)
    return detector.predict_logits(T["new_l"])


PAIRS = {
    "max_softmax": (lambda: ours("max_softmax"), lambda: detectors.MaxSoftmax.score(T["new_l"])),
    "max_logit": (lambda: ours("max_logit"), lambda: detectors.MaxLogit.score(T["new_l"])),
    "energy": (lambda: ours("energy", temperature=2.0), lambda: detectors.EnergyBased.score(T["new_l"], t=2.0)),
    "entropy": (lambda: ours("entropy"), lambda: detectors.Entropy.score(T["new_l"])),
    "gen": (lambda: ours("gen", gamma=0.5, num_top=4) / 4, lambda: detectors.GEN.score(T["new_l"], gamma=0.5, M=4)),  # a mean there
    "ash b": (lambda: ours("ash", HEAD), lambda: maps(of_maps("ASH", variant="ash-b", percentile=0.9))),
    "ash p": (lambda: ours("ash", HEAD, variant="p", percentile=65.0), lambda: maps(of_maps("ASH", variant="ash-p"))),
    "ash s": (lambda: ours("ash", HEAD, variant="s", percentile=65.0), lambda: maps(of_maps("ASH"))),
    "scale": (lambda: ours("scale", HEAD), lambda: maps(of_maps("SCALE", percentile=0.85))),
    "react": (lambda: ours("react", fit("react")), lambda: maps(of_maps("ReAct"), fitted=True)),
    "vra": (  # clipped, by the percentiles of each unit
        lambda: ours("vra", fit("vra", low=20.0, units="each"), convention="openood"),
        lambda: maps(of_maps("VRA", lower_percentile=0.2, upper_percentile=0.9), fitted=True),
    ),
    "dice": (lambda: ours("dice", fit("dice", percentile=70.0)), lambda: of_features(detectors.DICE(None, T["w"], T["b"], p=0.7))),
    "grad_norm": (lambda: ours("grad_norm"), lambda: detectors.GradNorm(linear(), param_filter=lambda name: name == "weight").predict(T["new"])),
    "knn": (lambda: ours("knn", fit("knn"), num_neighbours=5), lambda: of_features(detectors.KNN(None, k=5))),
    "vim": (lambda: ours("vim", fit("vim", dimension=10)), lambda: of_features(detectors.ViM(None, 10, T["w"], T["b"]))),
    "kl_matching": (lambda: ours("kl_matching", fit("kl_matching")), matched),
    "she": (lambda: ours("she", fit("she")), classified),
    "fdbd": (lambda: ours("fdbd", fit("fdbd")), lambda: of_features(detectors.fDBD(None, linear()))),
    "nci": (lambda: ours("nci", fit("nci"), alpha=0.01), lambda: of_features(detectors.NCI(None, linear(), alpha=0.01))),
    "relative_mahalanobis": (
        lambda: ours("relative_mahalanobis", fit("relative_mahalanobis")) / N,
        lambda: of_features(detectors.RMD(None)),
    ),  # its covariances are sums
}


@pytest.mark.parametrize("name", PAIRS)
def test_the_score_is_that_of_pytorch_ood(name):
    mine, theirs = PAIRS[name]
    expected = theirs().detach().numpy()
    np.testing.assert_allclose(mine(), expected, rtol=2e-4, atol=2e-4 * np.abs(expected).max())


def test_odin_is_that_of_pytorch_ood_but_for_the_step_where_nothing_changes():
    weights = torch.nn.Linear(D, K)
    weights.weight.data, weights.bias.data = T["w"], T["b"]
    std = [0.5] * D
    expected = detectors.ODIN(weights, eps=0.05, temperature=3.0, norm_std=std).predict(T["new"])
    f = jax.tree_util.Partial(lambda w, b, x: x @ w + b, jnp.asarray(WEIGHTS), jnp.asarray(BIAS))
    mine = jax.jit(jax.vmap(lambda x: uncertainty.odin(f, x, noise=0.05, temperature=3.0, std=jnp.asarray(std))))(NEW)
    np.testing.assert_allclose(mine, expected.detach().numpy(), rtol=1e-5)


def test_rank_feat_is_that_of_pytorch_ood():
    a = np.maximum(_DRAWN.normal(0.2, 1, (10, 5, 6, D)), 0).astype(np.float32)
    head = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), linear())
    expected = detectors.RankFeat(backbone=None, head=head).predict_feature_maps(torch.from_numpy(a).permute(0, 3, 1, 2).contiguous())
    mine = jax.jit(jax.vmap(lambda m: formulas.rank_feat(jnp.zeros(K), m, HEAD)))(a)
    np.testing.assert_allclose(mine, expected.detach().numpy(), rtol=2e-4)
