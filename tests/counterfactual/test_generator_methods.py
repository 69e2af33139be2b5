"""What all methods that go through a generator share: the contract of a counterfactual, and what becomes of bad data under a trace."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from latent_toys import Colours, Ensemble, linear_generator, linear_model

from jxai import taps
from jxai.counterfactual import diffeomorphic, revise
from jxai.counterfactual.clue import clue, delta_clue, nabla_clue
from jxai.counterfactual.dive import dive
from jxai.counterfactual.glam import glam_clue
from jxai.counterfactual.piece import ClassFeatures, constrained_min_edit, min_edit, piece
from jxai.counterfactual.prototype import prototype
from jxai.counterfactual.sharpshooter import sharpshooter
from jxai.counterfactual.steex import steex
from jxai.counterfactual.vcnet import vcnet
from jxai.metrics.documented import line
from jxai.models.vcnet import VCNet

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(11)
G, F = linear_generator(6, 4), linear_model(3, 6, scale=2.0)
W, BIAS = np.asarray(F.weights), np.asarray(F.bias)


def said(x):
    """F in NumPy, of examples `[…, 6]` or `[…, 2, 3, 1]`."""
    x = np.asarray(x, np.float32)
    return (x.reshape(*x.shape[:-3], 6) if x.shape[-1] == 1 else x) @ W.T + BIAS


X = RNG.uniform(0.3, 0.7, 6).astype(np.float32)
TARGET = int(said(X).argmin())
KEY = jax.random.key(0)
CODES = RNG.normal(size=(3, 4)).astype(np.float32)
LAYER = next(layer.index for layer in taps.layers(F, X) if layer.shape == (3,))
FEATURES = ClassFeatures(*np.float32([np.ones((3, 3)), 3 * np.eye(3), 0.1 * np.ones((3, 3))]), LAYER)
SHORT = {"generator": G, "steps": 4}
# Six pixels, each a part; a network with the shape of x.
CASES = {
    diffeomorphic: SHORT,
    revise: SHORT,
    prototype: {**SHORT, "prototypes": CODES},
    dive: {**SHORT, "num_counterfactuals": 2},
    sharpshooter: {"generator": G, "means": CODES, "num_points": 4},
    piece: {**SHORT, "features": FEATURES},
    min_edit: SHORT,
    constrained_min_edit: {**SHORT, "layer": LAYER},
    steex: {"generator": Colours(6), "segments": np.arange(6, dtype=np.int32).reshape(2, 3), "steps": 4},
    vcnet: {"network": VCNet(6, 3, rngs=nnx.Rngs(0))},
}
UNTARGETED = {
    clue: {**SHORT, "members": Ensemble(RNG.normal(size=(4, 3, 6)).astype(np.float32)), "uncertainty": "epistemic"},
    delta_clue: {**SHORT, "radius": 0.5},
    nabla_clue: {**SHORT, "num_counterfactuals": 2},
    glam_clue: {"generator": G, "translations": CODES},
}
NAMES = {method.__name__: method for method in (*CASES, *UNTARGETED)}


def example(method):
    return X.reshape(2, 3, 1) if method is steex else X


@pytest.fixture(scope="module")
def compiled():
    """Each method as one program of model, example and target."""
    made = {}

    def get(method):
        if method not in made:
            own = CASES.get(method) or UNTARGETED[method]
            made[method] = jax.jit(lambda f, x, target: method(f, x, target, KEY, **own))
        return made[method]

    return get


@pytest.mark.parametrize("name", NAMES)
def test_the_result_is_what_the_model_says_of_it(name, compiled):
    method, target = NAMES[name], TARGET if NAMES[name] in CASES else None
    x, count = example(method), 2 if NAMES[name] in (dive, nabla_clue) else None
    found = compiled(method)(F, x, target)
    assert (
        found.x.shape == ((count,) if count else ()) + x.shape
        and found.x.dtype == x.dtype
        and np.asarray(found.x).min() >= 0
        and np.asarray(found.x).max() <= 1
    )
    assert np.allclose(found.logits, said(found.x), atol=1e-3) and found.valid.shape == ((count,) if count else ())
    assert found.steps.dtype == jnp.int32 and 0 <= found.steps <= 4
    if target is not None:
        assert not (np.asarray(found.valid) & (np.asarray(found.logits).argmax(-1) != target)).any()


@pytest.mark.parametrize("name", [method.__name__ for method in CASES])
def test_what_is_of_the_class_stays_and_bad_targets_become_data(name, compiled):
    method = NAMES[name]
    x, go = example(method), compiled(method)
    own = int(said(x).argmax())
    kept = go(F, x, own)
    assert np.array_equal(np.broadcast_to(x, kept.x.shape), kept.x) and np.asarray(kept.valid).all() and int(kept.steps) == 0
    for target in (-1, 3):
        lost = go(F, x, target)
        assert not np.asarray(lost.valid).any() and int(lost.steps) == 0 and np.isfinite(lost.x).all()
    with pytest.raises(ValueError, match="target=3 must be a class"):
        method(F, x, 3, KEY, **CASES[method])


@pytest.mark.parametrize("name", NAMES)
def test_new_weights_compile_nothing_anew_and_options_are_keywords(name, compiled):
    method, target = NAMES[name], TARGET if NAMES[name] in CASES else None
    go, other = compiled(method), linear_model(3, 6, seed=1, scale=2.0)
    go(F, example(method), target)
    before = go._cache_size()
    go(other, example(method), target)
    assert go._cache_size() == before
    assert line(method, "Cost") and line(method, "Reference")
    signature = inspect.signature(method)
    assert list(signature.parameters)[:4] == ["f", "x", "target", "key"]
    assert all(p.kind is p.KEYWORD_ONLY for p in list(signature.parameters.values())[4:])


@pytest.mark.parametrize("name", NAMES)
def test_bad_pixels(name, compiled):
    method, target = NAMES[name], TARGET if NAMES[name] in CASES else None
    spoilt = example(method).copy()
    spoilt[0] = np.nan
    lost = compiled(method)(F, spoilt, target)
    assert not np.asarray(lost.valid).any() and int(lost.steps) == 0


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in ("diffeomorphic", "vcnet") else pytest.mark.slow) for name in NAMES])
def test_half_precision(name, compiled):
    method, target = NAMES[name], TARGET if NAMES[name] in CASES else None
    found = compiled(method)(F, example(method).astype(jnp.bfloat16), target)
    assert found.x.dtype == jnp.bfloat16 and found.logits.dtype == jnp.float32 and np.isfinite(np.asarray(found.x, np.float32)).all()
