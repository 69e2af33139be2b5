"""jxai: the explanation library for JAX. Pure functions of one example that compose with jit, vmap, grad and shard_map."""

from jxai import attribution, bounds, fills, masks, metrics, sufficiency, taps
from jxai.batching import device_mesh, each
from jxai.callables import Batched, Linen

__version__ = "0.1.0"

__all__ = ["Batched", "Linen", "attribution", "bounds", "device_mesh", "each", "fills", "masks", "metrics", "sufficiency", "taps"]
