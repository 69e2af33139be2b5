"""Small models as a stranger would write them: plain functions, nnx, linen and Equinox, for tests of everything that walks a model.

`IMAGE`, `MOVING` and `RECTIFIED` (images, too), `SERIES`, `VECTOR` and `VIDEO` map a name to `factory(seed) -> f`, with `f(x) -> logits [5]` of one example: `[16, 16, 3]`,
`[12, 4]`, `[8]` and `[4, 12, 12, 3]`. Weights are random, biases too, and batch statistics are not the trivial ones.
"""

from . import frameworks, functions, moving, others, rectified
from .layers import SHAPES

__all__ = ["IMAGE", "MOVING", "RECTIFIED", "SERIES", "SHAPES", "VECTOR", "VIDEO"]

IMAGE = {
    factory.__name__: factory
    for factory in (
        functions.plain_cnn, functions.flattened_cnn, functions.residual_net, functions.densenet, functions.unet, functions.shared_weights,
        functions.scanned_layers, functions.rematerialised, functions.jitted_blocks,
        functions.custom_derivatives, functions.many_activations, functions.depthwise, frameworks.nnx_batchnorm, frameworks.linen_cnn,
        frameworks.linen_batched, frameworks.vit_class_token, frameworks.vit_mean, frameworks.equinox_cnn,
    )
}  # fmt: skip
MOVING = {f.__name__: f for f in (moving.reflect_padded, moving.resized, moving.shifted_windows, moving.pyramid)}
RECTIFIED = {f.__name__: f for f in (rectified.learnt_slopes, rectified.pooled_by_powers, rectified.chosen_activations)}
SERIES = {f.__name__: f for f in (moving.recurrent, moving.causal)}
VECTOR = {"mlp": others.mlp, "gated_mlp": others.gated_mlp}
VIDEO = {"video_cnn": others.video_cnn, "framewise_cnn": others.framewise_cnn}
