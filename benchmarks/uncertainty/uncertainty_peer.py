"""pytorch-ood's detectors on rows of logits and features, fitted to the same arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jxai.uncertainty import Head


def calls(head: Head, features: np.ndarray, logits: np.ndarray, labels: np.ndarray, x: np.ndarray, z: np.ndarray) -> dict[str, Callable[[], Any]]:
    """Calls by the name of ours, each returning `[n]` uncertainties.

    Args:
      head: the network's. features, logits, labels: of the training examples. x, z: features and logits of those that are scored.

    Raises:
      ImportError: pytorch-ood is not installed.
    """
    try:
        import torch
        from pytorch_ood import detector as peers
    except ImportError as error:
        raise ImportError("pip install --no-deps pytorch-ood, beside PyTorch") from error
    known, new, answers, own = (torch.from_numpy(np.array(v)) for v in (features, x, z, labels.astype(np.int64)))
    linear = torch.nn.Linear(*head.weights.shape)
    linear.weight.data, linear.bias.data = torch.from_numpy(np.array(head.weights.T)), torch.from_numpy(np.array(head.bias))
    linear.requires_grad_(False)
    last = torch.nn.Sequential(torch.nn.Flatten(), linear)

    def maps(detector: Any, fit: bool = False) -> Callable[[], Any]:
        if fit:
            detector.fit_feature_maps(known[:, :, None, None], own)
        return lambda: detector.predict_feature_maps(new[:, :, None, None].clone())

    def rows(detector: Any) -> Callable[[], Any]:
        detector.fit_features(known, own)
        return lambda: detector.predict_features(new)

    matching = peers.KLMatching(None)
    matching.fit_logits(torch.from_numpy(np.array(logits)), own)
    return {
        "max_softmax": lambda: peers.MaxSoftmax.score(answers),
        "max_logit": lambda: peers.MaxLogit.score(answers),
        "energy": lambda: peers.EnergyBased.score(answers),
        "entropy": lambda: peers.Entropy.score(answers),
        "gen": lambda: peers.GEN.score(answers),
        "ash": maps(peers.ASH(None, last, variant="ash-b", percentile=0.9)),
        "scale": maps(peers.SCALE(None, last, percentile=0.85)),
        "react": maps(peers.ReAct(None, last), fit=True),
        "dice": rows(peers.DICE(None, linear.weight, linear.bias, p=0.9)),
        "knn": rows(peers.KNN(None, k=50)),
        "vim": rows(peers.ViM(None, features.shape[1] // 2, linear.weight, linear.bias)),
        "kl_matching": lambda: matching.predict_logits(answers),
        "she": rows(peers.SHE(None, linear)),
        "fdbd": rows(peers.fDBD(None, linear)),
        "nci": rows(peers.NCI(None, linear, alpha=1e-4)),
        "nn_guide": rows(peers.NNGuide(None, linear, k=10)),
        "relative_mahalanobis": rows(peers.RMD(None)),
    }
