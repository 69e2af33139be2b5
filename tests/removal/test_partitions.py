"""A label map is a partition: what its labels are called is of no effect, in any method or metric; and segmentations are their authors' own."""

import functools
import inspect
import warnings

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from metrics import metric_cases
from skimage import segmentation, transform

from jxai import attribution, each, masks, metrics
from jxai.segments import XRAI, Segmentation

KEY = jax.random.key(0)
QUARTERS = np.kron([[0, 1], [2, 3]], np.ones((2, 2), int))
CALLED = np.array([0, 400, 900, 1200])[QUARTERS]
X = np.float32(np.random.default_rng(0).uniform(size=(4, 4, 1)))
WEIGHTS = np.random.default_rng(1).normal(size=(16, 3))
NAMED = [(attribution, name) for name in attribution.__all__] + [(metrics, name) for name in metrics.__all__]
NAMED = [(family, name) for family, name in NAMED if "segments" in inspect.signature(getattr(family, name)).parameters]


def f(x):
    return jnp.tanh(x.reshape(-1) @ jnp.float32(WEIGHTS)) * jnp.arange(1.0, 4)


def ask(family, name, segments, **more):
    table = cases if family is attribution else metric_cases
    options = {k: v for k, v in table.options(name, X.shape).items() if k not in ("grid", "segments")}
    given = () if family is attribution else (X * np.float32(WEIGHTS[:, 1].reshape(X.shape)),)
    return getattr(family, name)(f, X, 1, *given, KEY, **{**options, **more}, segments=segments)


@pytest.mark.parametrize(
    ("family", "name"), [pytest.param(*one, marks=() if one[1] in ("kernel_shap", "sensitivity_n", "deletion") else pytest.mark.slow) for one in NAMED]
)
def test_a_programme_does_not_know_what_segments_are_called(family, name):
    programmes = [jax.make_jaxpr(functools.partial(ask, family, name, ids))() for ids in (QUARTERS, CALLED, (CALLED + 7).tolist())]
    shown = [(str(one.jaxpr), [np.asarray(c).tolist() if not jnp.issubdtype(c.dtype, jax.dtypes.prng_key) else None for c in one.consts]) for one in programmes]
    assert shown[0] == shown[1] == shown[2]


def test_a_traced_map_with_labels_of_no_position_counts_its_segments_alone():
    """LIME's kernel and ridge, the sizes of `sensitivity_n`: what they are for four segments, told that there may be sixteen."""

    @jax.jit
    def measure(ids):
        curve = ask(metrics, "sensitivity_n", ids, sizes=10, num_samples=20, num_segments=16)
        maps = [attribution.lime(f, X, 1, jax.random.fold_in(KEY, k), segments=ids, num_segments=16, num_samples=4000, score="logit") for k in range(2)]
        return curve.auc, curve.x, sum(maps) / 2

    few = jax.jit(lambda: ask(metrics, "sensitivity_n", QUARTERS, sizes=10, num_samples=20))()
    area, sizes, weights = measure(jnp.asarray(np.array([1, 5, 9, 15])[QUARTERS]))
    assert np.allclose(area, few.auc, atol=1e-5) and sorted(set(np.asarray(sizes).tolist())) == [0.25, 0.5, 0.75]
    # The ridge regression in expectation, by all sixteen coalitions.
    z = np.array(np.meshgrid(*[[0, 1]] * 4)).reshape(4, -1).T
    y = np.tanh(np.einsum("np,pk->nk", (z[:, QUARTERS] * X[..., 0]).reshape(16, -1), WEIGHTS))[:, 1] * 2
    near = np.exp(-(((1 - np.sqrt(z.sum(1) / 4)) / (0.25 * np.sqrt(2))) ** 2)) * 4000 / 16
    rows = np.c_[z, np.ones(16)]
    expected = np.linalg.solve(rows.T @ (near[:, None] * rows) + np.diag([1, 1, 1, 1, 0]), rows.T @ (near * y))[:4]
    assert np.allclose(np.asarray(weights)[::3, ::3, 0].ravel(), expected, atol=0.02)


def test_each_numbers_every_examples_segments_and_lists_are_arrays():
    xs, ids = np.stack([X, X]), np.stack([QUARTERS, CALLED])
    found = np.asarray(each(attribution.kernel_shap, f, xs, [1, 1], per_example={"segments": ids.tolist()}))
    assert np.array_equal(found[0], found[1])
    assert np.allclose(found[0].reshape(2, 2, 2, 2)[:, 0, :, 0].sum(), np.asarray(f(X) - f(0 * X))[1], atol=1e-5)
    with pytest.raises(ValueError, match=r"x of shape \(4, 4, 1\) has no leading axis of examples"):
        each(attribution.gradient, lambda x: x.reshape(-1) @ jnp.ones((16, 3)), X, 1)
    with pytest.raises(ValueError, match="segments must not be negative"):
        each(attribution.kernel_shap, f, xs, 1, segments=QUARTERS - 1)


def test_dense_numbers_each_map_of_a_stack_in_the_order_of_its_labels():
    labels, most = masks.dense(np.array([[3, 3, 7], [5, 9, 2]]), 1)
    assert labels.tolist() == [[0, 0, 1], [1, 2, 0]] and most == 3 and labels.dtype == np.int32


@pytest.mark.parametrize("size", [8, pytest.param(300, marks=pytest.mark.slow)])
def test_felzenszwalb_is_the_authors_protocol_whatever_the_size_and_the_range(size):
    rng = np.random.default_rng(0)
    x = np.kron(rng.uniform(size=(4, 4, 3)), np.ones((size // 4, size // 4, 1))) + 0.05 * rng.uniform(size=(size, size, 3))
    unit = (x - x.min()) / (x.max() - x.min()) * 2 - 1
    large = transform.resize(unit, (224, 224), order=3, mode="constant", preserve_range=True, anti_aliasing=True)
    few = XRAI[::3]
    theirs = [segmentation.felzenszwalb(large, scale, sigma=0.8, min_size=150, channel_axis=-1) for scale in few]
    theirs = [transform.resize(one, (size, size), order=0, preserve_range=True, mode="constant", anti_aliasing=False) for one in theirs]
    ours = Segmentation("felzenszwalb", few)(np.float32(255 * x))
    assert ours[0].max() > 2 and ours.max() < Segmentation("felzenszwalb", few).limit((size, size))
    for a, b in zip(ours, theirs):
        assert len(set(zip(a.ravel().tolist(), b.ravel().tolist()))) == a.max() + 1 == len(np.unique(b))


def test_one_segment_alone_is_said():
    with pytest.warns(UserWarning, match="finds one segment in the picture"):
        assert not Segmentation("felzenszwalb", (50.0,))(np.zeros((8, 8, 1), np.float32)).any()
    with pytest.warns(UserWarning, match="every map of XRAI on them is flat"), warnings.catch_warnings():
        jax.eval_shape(lambda: attribution.xrai(f, X, 1, segments=np.zeros((4, 4), int), method_options={"steps": 1}))
