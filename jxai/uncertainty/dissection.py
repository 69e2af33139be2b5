"""Dissector as a score of a model: it reads several layers."""

from __future__ import annotations

from jxai.callables import plainly
from jxai.typing import Array, Model
from jxai.uncertainty import formulas
from jxai.uncertainty.formulas.dissector import Dissector
from jxai.uncertainty.heads import answers

__all__ = ["dissector"]


@plainly
def dissector(
    f: Model,
    x: Array,
    key: Array | None = None,
    *,
    fitted: Dissector | None = None,
    layers: tuple[int | str | None, ...] = (None,),
    growth: str = "linear",
) -> Array:
    """Dissector's profile of validity, negative: how well the layers' own predictions support the network's, later layers the more.

    `−Σ_l w_l v_l / Σ_l w_l`, `v_l = p_l(c) / (p_l(c) + max_{j ≠ c} p_l(j))`, c the predicted class, p_l the softmax regression of layer l = 1 … L.

    Args:
      f: a model `x -> logits [K]`. x: one example, floating point. key: nothing is drawn.
      fitted: from `fit_dissector`, of the features of these layers.
      layers: which, from the first to the last, each as `jxai.uncertainty.features` takes it: None is what the last linear map is applied to.
      growth: of w_l: `"linear"` l, `"logarithmic"` 1 + log l, `"exponential"` exp(l).

    Returns:
      `[]`, float32 or wider.

    Raises:
      ValueError: a bad model, x or layer, another number of layers than was fitted, an unknown growth.

    Range: [−1, 0]; −1/2 where every layer's two likeliest classes tie.
    Cost: 1 forward pass under `jit`.
    Reference: Wang, Xu, Xu, Ma and Lu 2020, "DISSECTOR: Input Validation for Deep Learning Applications by Crossing-layer Dissection", ICSE.
    """
    if not isinstance(layers, (tuple, list)) or not layers:
        raise ValueError(f"{layers=} must be a tuple of layers")
    read = [answers(f, x, layer) for layer in layers]
    return formulas.dissector(read[0].logits, tuple(one.features for one in read), fitted, growth=growth)
