"""EIC, AIC and URC against the loop of the published code, written in NumPy: pixels of x become the blurred or grey image's, one at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.special import log_softmax, softmax

from jxai import fills
from jxai.metrics.uncertain import aic, eic, urc
from jxai.testing import pointwise

pytestmark = pytest.mark.usefixtures("quick_compilation")

SHAPE = (5, 4, 2)
RNG = np.random.default_rng(4)
X = RNG.uniform(size=SHAPE).astype(np.float32)
A = RNG.normal(size=SHAPE).astype(np.float32)
F = pointwise(SHAPE)
KEY = jax.random.key(0)


def logits(v):
    """The network in NumPy."""
    first, second = (np.asarray(F.args[0][name]["kernel"], np.float64) for name in ("first", "second"))
    return np.maximum(v @ first, 0).ravel() @ second


def published(a, reference):
    """Entropies and predictions as the pixels that contribute most are replaced, from x on."""
    v, seen = np.float64(X), []
    for place in [None, *np.argsort(-a.sum(-1).ravel())]:
        if place is not None:
            v[np.unravel_index(place, SHAPE[:2])] = reference[np.unravel_index(place, SHAPE[:2])]
        seen.append(logits(v))
    rows = np.stack(seen)
    return -(softmax(rows, 1) * log_softmax(rows, 1)).sum(1), rows.argmax(1)


@pytest.mark.parametrize("how", ["blur", "grey"])
def test_they_are_those_of_the_published_code(how):
    fill = fills.Blur(1.5) if how == "blur" else 0.5
    h, said = published(A, gaussian_filter(X, (1.5, 1.5, 0)) if how == "blur" else np.full(SHAPE, 0.5))
    label = int(said[0])
    e, a, u = jax.jit(lambda x: [metric(F, x, label, A, fill=fill) for metric in (eic, aic, urc)])(X)
    np.testing.assert_allclose(e.y, (h / h[-1])[::-1], rtol=1e-4)
    np.testing.assert_array_equal(a.y, (said == label)[::-1])
    np.testing.assert_allclose(u.y, np.maximum.accumulate(1 - h / h[0]), atol=1e-5)
    for curve in (e, a, u):
        np.testing.assert_allclose(curve.x, np.linspace(0, 1, 21), rtol=1e-6)
        np.testing.assert_allclose(curve.auc, np.trapezoid(curve.y, curve.x), rtol=1e-5)
    assert 0 < u.auc < 1 and u.y[0] == 0 and (np.diff(u.y) >= 0).all()


def test_an_uncertainty_itself_may_be_measured():
    """Of a sum, what goes first is what weighs most: here `y_k` is known."""
    s = lambda v: v.sum() + 1.0
    u = jax.jit(lambda x: urc(s, x, None, x, fill=0.0))(X)
    gone = np.concatenate([[0], np.cumsum(np.sort(X.sum(-1).ravel())[::-1])])
    np.testing.assert_allclose(u.y, gone / (X.sum() + 1), rtol=1e-5)
    right, wrong = (jax.jit(lambda a: eic(s, X, None, a, fill=0.0).auc)(a) for a in (X, -X))
    assert right < wrong


def test_ties_are_ordered_by_the_key():
    """The published code adds noise of 1e-100, which leaves equal values other than 0 in the order of their places."""
    flat = np.full(SHAPE, 0.7, np.float32)
    assert np.array_equal(flat[..., 0].astype(np.float64) + RNG.normal(scale=1e-100, size=SHAPE[:2]), flat[..., 0])
    run = jax.jit(lambda key: eic(F, X, None, flat, key, fill=0.5).y)
    assert not np.allclose(run(KEY), run(jax.random.key(1)))
    assert np.array_equal(run(KEY), run(KEY))


def test_what_is_sure_already_has_no_curve():
    sure = lambda v: jnp.stack([200.0 + 0 * v.sum(), v.sum()])
    assert np.isnan(urc(sure, X, None, A, steps=2, fill=0.5).auc) and np.isnan(eic(sure, X, None, A, steps=2, fill=0.5).auc)


@pytest.mark.parametrize(
    ("metric", "given", "word"),
    [
        (eic, dict(f=lambda v: v.sum(-1).ravel()[:1]), "two classes or more"),
        (urc, dict(f=lambda v: jax.nn.softmax(F(v))), "must be logits, but it is probabilities"),
        (urc, dict(f=lambda v: v.sum(), target=1), "must be a vector of logits"),
        (aic, dict(target=None), "needs a target class"),
        (eic, dict(steps=0), "steps=0"),
        (eic, dict(fill=np.zeros(3)), "fill has shape"),
    ],
)
def test_bad_arguments(metric, given, word):
    with pytest.raises(ValueError, match=word):
        metric(**dict(f=F, x=X, target=1, attribution=A, fill=0.5, steps=2) | given)
