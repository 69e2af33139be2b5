"""What the contract test needs to know of each counterfactual method: a model, an example and small options.

A method that is not listed here is tried with its defaults.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from counterfactual.latent_toys import Colours, Ensemble, linear_generator, linear_model
from flax import nnx
from jax.tree_util import Partial

from jxai import taps
from jxai.counterfactual.piece import ClassFeatures
from jxai.models.vcnet import VCNet
from jxai.uncertainty import fit_gaussian_density

RNG = np.random.default_rng(11)
G, F = linear_generator(6, 4), linear_model(3, 6, scale=2.0)
X = jnp.asarray(RNG.uniform(0.3, 0.7, 6), jnp.float32)
CODES = jnp.asarray(RNG.normal(size=(3, 4)), jnp.float32)
ENSEMBLE = Ensemble(jnp.asarray(RNG.normal(size=(4, 3, 6)), jnp.float32))
LAYER = next(layer.index for layer in taps.layers(F, X) if layer.shape == (3,))
FEATURES = ClassFeatures(jnp.ones((3, 3)), 3 * jnp.eye(3), 0.1 * jnp.ones((3, 3)), LAYER)
SHORT = {"generator": G, "steps": 4}
IMAGE = (4, 3, 1)
EXAMPLES = np.random.default_rng(0).uniform(size=(60, *IMAGE)).astype(np.float32)
PIXELS = jnp.asarray(np.random.default_rng(5).uniform(0.1, 0.9, IMAGE), jnp.float32)


def latent_model(shape, seed):
    return linear_model(3, 6, seed, scale=2.0)


def pixel_model(shape, seed):
    rng = np.random.default_rng(seed)
    return Partial(_logits, jnp.asarray(rng.normal(size=(12, 9)), jnp.float32), jnp.asarray(2 * rng.normal(size=(9, 3)), jnp.float32))


def _logits(w, v, x):
    return jnp.tanh((x.ravel() - 0.5) @ w) @ v


def _first_five(x):
    return x.ravel()[:5]


def labels():
    """The classes of EXAMPLES."""
    return np.asarray(jax.vmap(pixel_model(IMAGE, 0))(EXAMPLES)).argmax(1)


def _latent(options: dict[str, Any], **rest: Any) -> dict[str, Any]:
    return {"options": options, "x": X, "model": latent_model, "keyed": False, **rest}


def _pixels(options: Any, **rest: Any) -> dict[str, Any]:
    return {"options": options, "x": PIXELS, "model": pixel_model, "keyed": False, **rest}


def _density(shape):
    density = fit_gaussian_density(EXAMPLES.reshape(60, 12)[:, :5], None, np.arange(60) % 3, num_classes=3)
    return {"density": density, "features": Partial(_first_five), "steps": 20}


CASES: dict[str, dict[str, Any]] = {
    "clue": _latent({**SHORT, "members": ENSEMBLE, "uncertainty": "epistemic"}, targeted=False),
    "constrained_min_edit": _latent({**SHORT, "layer": LAYER}),
    "deduce": _pixels(_density),
    "delta_clue": _latent({**SHORT, "radius": 0.5}, targeted=False, keyed=True),
    "diffeomorphic": _latent(SHORT),
    "dive": _latent({**SHORT, "num_counterfactuals": 2}, count=2, keyed=True),
    "glam_clue": _latent({"generator": G, "translations": CODES}, targeted=False),
    "growing_spheres": _pixels({"num_samples": 16, "steps": 8}, keyed=True),
    "jsma": _pixels({"steps": 20}),
    "min_edit": _latent(SHORT),
    "nabla_clue": _latent({**SHORT, "num_counterfactuals": 2}, targeted=False, count=2, keyed=True),
    "native_guide": _pixels(lambda shape: {"examples": EXAMPLES, "labels": labels()}),
    "piece": _latent({**SHORT, "features": FEATURES}),
    "prototype": _latent({**SHORT, "prototypes": CODES}),
    "revise": _latent(SHORT),
    "sharpshooter": _latent({"generator": G, "means": CODES, "num_points": 4}),
    "sparse_vce": _pixels({"radius": 1.0, "steps": 10}),
    "steex": _latent({"generator": Colours(6), "segments": np.arange(6, dtype=np.int32).reshape(2, 3), "steps": 4}, x=X.reshape(2, 3, 1)),
    "vcnet": _latent({"network": VCNet(6, 3, rngs=nnx.Rngs(0))}),
    "wachter": _pixels({"steps": 20, "learning_rate": 0.05}),
}
"""What `check_search` is told of each."""
