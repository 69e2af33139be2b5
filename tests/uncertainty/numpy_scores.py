"""What formulas of scores are made of, in NumPy and float64."""

import numpy as np


def softmax(z):
    z = np.asarray(z, np.float64)
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def rest(p):
    """1 − p, from the others."""
    return np.stack([np.delete(p, k, -1).sum(-1) for k in range(p.shape[-1])], -1)


def logsumexp(z):
    z = np.asarray(z, np.float64)
    return z.max(-1) + np.log(np.exp(z - z.max(-1, keepdims=True)).sum(-1))
