"""Sanity checks: an attribution must change where the weights of the model, or the class that it explains, are others.

The random networks come from `weights_key`, or from the metric's own key where that is None. Under `jax.vmap` and `jxai.each` every
example has its own key, hence its own random networks, and convolutions with one kernel per example, which are slow;
with one `weights_key`, all examples share the networks. A stochastic method gets the metric's own key each time it explains:
pass the key that made the given attribution, and the method's sampling error is not taken for a change. A map that is not finite
gives NaN; what a constant one gives is up to the similarity (rank correlations: 0).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jxai import loops
from jxai.callables import plainly
from jxai.metrics import compare, statistics
from jxai.metrics.common import curve, nan_unless_finite
from jxai.metrics.explaining import explainer, neighbours
from jxai.metrics.parameters import layers, randomized
from jxai.removal.scales import span
from jxai.scores import need_key, num_classes, one_of, positive, wide, within
from jxai.typing import Array, Curve, Method, Model

__all__ = [
    "efficient_parameter_randomization",
    "parameter_randomization",
    "random_logit",
    "smooth_parameter_randomization",
]

ORDERS = ("cascading", "independent")
DIRECTIONS = ("top_down", "bottom_up")
BINS = ("square_root", "sturges", "rice")
_WEIGHTS, _CLASS = 2**31 - 2, 2**31 - 3

Similarity = str | Callable[[Array, Array], Array]


@plainly
def parameter_randomization(
    f: Model,
    x: Array,
    target: int | Array | None,
    attribution: Array,
    key: Array | None = None,
    *,
    order: str = "cascading",
    direction: str = "top_down",
    randomize: str = "permutation",
    similarity: Similarity = "spearman",
    absolute: bool = False,
    weights_key: Array | None = None,
    method: Method | None = None,
    method_options: dict[str, Any] | None = None,
) -> Curve:
    """Model parameter randomisation test: the similarity of the attribution and those of ever more random networks.

    Layers are the floating-point leaves of f that share a parent, in order of use. Memory is that of two more copies of the weights.

    Args:
      f: a model `x -> logits [K]` with weights as leaves. x: one example. target: a class, or None.
      attribution: of the shape that `method` returns. key: for `method`, and where `weights_key` is None for the weights.
      order: `"cascading"`: layers are randomised one after the other and stay so; `"independent"`: each alone.
      direction: from the logits `"top_down"` (the paper's), or from the input `"bottom_up"`.
      randomize: `"permutation"`: the entries of a leaf change places, so that variances stay positive; `"normal"`: new ones of the
        leaf's mean and standard deviation (for models without variances among their weights).
      similarity: `"spearman"`, `"pearson"`, `"kendall"`, `"ssim"`, `"top_k_overlap"`, or a function of two maps.
      absolute: compares magnitudes; the paper reports both.
      weights_key: one key for the networks of all examples.
      method, method_options: what made the attribution (it must be named), and its options.

    Returns:
      x: the share of layers done, `1/L … 1`. y: the similarity. auc: the area. High: the method does not see the weights.

    Raises:
      ValueError: no key or method, f without weights, a bad option, bad x, target or attribution, or of another shape than the method's.

    Range: [−1, 1].
    Direction: lower is better.
    Cost: one explanation for each layer.
    Reference: Adebayo et al. 2018, "Sanity Checks for Saliency Maps", NeurIPS.
    """
    explain = explainer(f, x, target, attribution, key, method, method_options)
    alike = _similar(similarity, attribution, absolute)
    networks = _networks("parameter_randomization", f, x, key, weights_key, randomize, order, direction)
    return _over(networks, lambda g: alike(explain(g, x, target)), attribution)


@plainly
def smooth_parameter_randomization(
    f: Model,
    x: Array,
    target: int | Array | None,
    attribution: Array,
    key: Array | None = None,
    *,
    num_samples: int = 50,
    sigma: float | Array = 0.1,
    order: str = "cascading",
    direction: str = "bottom_up",
    randomize: str = "permutation",
    similarity: Similarity = "spearman",
    absolute: bool = False,
    weights_key: Array | None = None,
    method: Method | None = None,
    method_options: dict[str, Any] | None = None,
    chunk: int | None = None,
) -> Curve:
    """Smooth MPRT: `parameter_randomization` of attributions that are averaged over noisy copies of x.

    The original's map is averaged as well, so that like is compared with like: the given attribution only says which shape to
    expect (and gives NaN where it is not finite). All networks see the same noise.

    Args:
      f: a model `x -> logits [K]` with weights as leaves. x: one example. target: a class, or None.
      attribution: of the shape that `method` returns. key: for the noise, `method`, and the weights where `weights_key` is None.
      num_samples: noisy copies (Quantus's 50). sigma: their noise, > 0, as a share of `max x − min x` (Quantus's 0.1); of a series `[T, C]` of each
        channel's own; for a vector an array of its shape, in units of its features.
      order, randomize, similarity, absolute, weights_key, method, method_options: as in `parameter_randomization`.
      direction: `"bottom_up"` from the input (Quantus's default here), or `"top_down"` from the logits.
      chunk: noisy copies at once (None: `jxai.loops.at_once`).

    Returns:
      A `Curve`, as of `parameter_randomization`.

    Raises:
      ValueError: no key or method, f without weights, a bad option, bad x, target or attribution, or of another shape than the method's.

    Range: [−1, 1].
    Direction: lower is better.
    Cost: `num_samples` explanations, and as many for each layer.
    Reference: Hedström et al. 2023, "Sanity Checks Revisited: An Exploration to Repair the Model Parameter Randomisation Test", NeurIPS Workshop XAI in Action.
    """
    need_key(key, "smooth_parameter_randomization")
    explain = explainer(f, x, target, attribution, key, method, method_options)
    within(0, math.inf, sigma=sigma)
    own = x.ndim == 1 and jnp.shape(sigma) == x.shape
    level = sigma if own else sigma * span(x, "sigma as an array of x's shape: the noise of each feature in its own unit")
    noisy = neighbours("smooth_parameter_randomization", x, key, "normal", level, num_samples)

    def smooth(g: Model) -> Array:
        return loops.means(lambda i: explain(g, noisy(i), target), num_samples, loops.at_once(x, chunk))

    alike = _similar(similarity, smooth(f), absolute)
    networks = _networks("smooth_parameter_randomization", f, x, key, weights_key, randomize, order, direction)
    return _over(networks, lambda g: alike(smooth(g)), attribution)


@plainly
def efficient_parameter_randomization(
    f: Model,
    x: Array,
    target: int | Array | None,
    attribution: Array,
    key: Array | None = None,
    *,
    bins: int | str = 100,
    randomize: str = "permutation",
    weights_key: Array | None = None,
    method: Method | None = None,
    method_options: dict[str, Any] | None = None,
) -> Array:
    """Efficient MPRT: the relative rise of the map's complexity with all weights random, `(H(â) − H(a)) / H(a)`.

    H is the entropy of the histogram of a map's signed values, in bins of equal width over the map's own range.

    Args:
      f: a model `x -> logits [K]` with weights as leaves. x: one example. target: a class, or None.
      attribution: a, of the shape that `method` returns. key: for `method`, and where `weights_key` is None for the weights.
      bins: their number (Quantus's 100), or a rule for n values: `"square_root"` ⌈√n⌉, `"sturges"` ⌈log₂ n + 1⌉, `"rice"` ⌈2 ∛n⌉.
      randomize, weights_key, method, method_options: as in `parameter_randomization`.

    Returns:
      float32. Of a constant map, whose entropy is 0, the entropy `H(â)` itself in bits.

    Raises:
      ValueError: no key or method, f without weights, a bad option, bad x, target or attribution, or of another shape than the method's.

    Range: [−1, ∞).
    Direction: higher is better.
    Cost: one explanation.
    Reference: Hedström et al. 2023, "Sanity Checks Revisited: An Exploration to Repair the Model Parameter Randomisation Test", NeurIPS Workshop XAI in Action.
    """
    explain = explainer(f, x, target, attribution, key, method, method_options)
    count = _bins(bins, attribution.size)
    groups = layers(f, x)
    network = randomized(f, groups, _weights_key("efficient_parameter_randomization", key, weights_key), randomize)
    again = explain(network(jnp.ones(len(groups), bool)), x, target)
    before, after = (_histogram_entropy(a, count) for a in (wide(attribution), again))
    rise = jnp.where(before > 0, (after - before) / jnp.where(before > 0, before, 1), after)
    return nan_unless_finite(nan_unless_finite(rise, attribution), again).astype(jnp.float32)


@plainly
def random_logit(
    f: Model,
    x: Array,
    target: int | Array | None,
    attribution: Array,
    key: Array | None = None,
    *,
    similarity: Similarity = "ssim",
    absolute: bool = False,
    method: Method | None = None,
    method_options: dict[str, Any] | None = None,
) -> Array:
    """Random logit test: the similarity of the attribution and that of another class, drawn at random.

    Args:
      f: a model `x -> logits [K]`, K ≥ 2. x: one example. target: the class that the attribution explains.
      attribution: of the shape that `method` returns. key: for the class, and for `method`.
      similarity, absolute, method, method_options: as in `parameter_randomization`; the paper's is SSIM. (The authors' code scales each map to
        [0, 1] and takes the larger of its SSIM with the other and with the other's negative: a map that only changes its sign passes for the same. Here
        a sign counts, unless `absolute`.)

    Returns:
      float32; high where the method does not see the class.

    Raises:
      ValueError: no key or method, `target=None`, a one-class model, a bad option, bad x, target or attribution, or of another shape than
        the method's.

    Range: [−1, 1].
    Direction: lower is better.
    Cost: one explanation.
    Reference: Sixt et al. 2020, "When Explanations Lie: Why Many Modified BP Attributions Fail", ICML.
    """
    need_key(key, "random_logit")
    if target is None:
        raise ValueError("target=None must be a class, for there to be another")
    explain = explainer(f, x, target, attribution, key, method, method_options)
    alike = _similar(similarity, attribution, absolute)
    classes = num_classes(f, x)
    other = jax.random.randint(jax.random.fold_in(key, _CLASS), (), 0, classes - 1)
    other = other + (other >= target)
    known = (jnp.asarray(target) >= 0) & (jnp.asarray(target) < classes)
    return nan_unless_finite(jnp.where(known, alike(explain(f, x, other)), jnp.nan), attribution).astype(jnp.float32)


def _networks(name, f, x, key, weights_key, randomize: str, order: str, direction: str) -> tuple[Callable[[Array], Model], int]:
    """`i -> the network at step i`, and the number of steps."""
    one_of("order", order, ORDERS)
    one_of("direction", direction, DIRECTIONS)
    groups = layers(f, x)
    network = randomized(f, groups, _weights_key(name, key, weights_key), randomize)
    place = jnp.arange(len(groups)) if direction == "bottom_up" else jnp.arange(len(groups))[::-1]
    return lambda i: network(place <= i if order == "cascading" else place == i), len(groups)


def _over(networks: tuple[Callable[[Array], Model], int], measure: Callable[[Model], Array], attribution: Array) -> Curve:
    """The curve of a measure over the networks, one at a time: with weights of their own, they gain nothing from a batch."""
    network, num = networks
    y = loops.map(lambda i: measure(network(i)), jnp.arange(num))
    return curve(jnp.arange(1, num + 1) / num, nan_unless_finite(y, attribution).astype(jnp.float32))


def _similar(similarity: Similarity, attribution: Array, absolute: bool) -> Callable[[Array], Array]:
    """`b -> the similarity of the attribution and b`; whatever needs the attribution alone is computed once."""
    size = jnp.abs if absolute else lambda a: a
    a = size(wide(jnp.asarray(attribution)))
    if callable(similarity):
        return lambda b: similarity(a, size(b))
    fn = getattr(compare, one_of("similarity", similarity, compare.__all__))
    if similarity != "spearman":
        return lambda b: fn(a, size(b))
    ranked = statistics.ranks(a)
    return lambda b: nan_unless_finite(statistics.pearson(ranked, statistics.ranks(size(b))), b)


def _weights_key(name: str, key: Array | None, weights_key: Array | None) -> Array:
    return jax.random.fold_in(need_key(key, name), _WEIGHTS) if weights_key is None else weights_key


def _bins(bins: int | str, n: int) -> int:
    """The number of bins for n values."""
    if isinstance(bins, str):
        one_of("bins", bins, BINS)
        return {"square_root": math.ceil(math.sqrt(n)), "sturges": math.ceil(math.log2(n) + 1), "rice": math.ceil(2 * n ** (1 / 3))}[bins]
    positive(bins=bins)
    return int(bins)


def _histogram_entropy(a: Array, bins: int) -> Array:
    """In bits."""
    low, span = a.min(), a.max() - a.min()
    inside = jnp.clip(jnp.floor((a - low) / jnp.where(span > 0, span, 1) * bins), 0, bins - 1)
    share = jnp.zeros(bins).at[inside.ravel().astype(jnp.int32)].add(1) / a.size
    return jnp.maximum(-(share * jnp.log(jnp.where(share > 0, share, 1))).sum(), 0) / math.log(2)
