"""Every clause of the contracts of metrics and of comparisons can fail, with the sentence that says so."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from spoiling import alone, another_type, documented, spoiler, tick, two_lines

from jxai.metrics import pointing_game
from jxai.metrics.common import by_position, curve, nan_unless_finite
from jxai.metrics.compare import pearson
from jxai.scores import need_key, objective, one_of, positive
from jxai.testing import COMPARISON_CLAUSES, METRIC_CLAUSES, check_comparison, check_metric, mask

pytestmark = pytest.mark.usefixtures("quick_compilation")


def good(f, x, target, attribution, key=None, *, score="logit", chunk=None):
    """The score times the share of the map that is positive.

    Args:
      f: a model. x: an example. target: a class. attribution: its map. key: unused.
      score: "logit" or "probability". chunk: unused.

    Returns:
      float32; 0 for an empty map.

    Raises:
      ValueError: bad x, target, attribution or option.

    Range: (−∞, ∞).
    Direction: higher is better.
    Cost: one forward pass.
    Reference: none.
    """
    if chunk is not None:
        positive(chunk=chunk)
    s, a = objective(f, x, target, score), by_position(attribution, x)
    share = jnp.maximum(a, 0).sum() / jnp.maximum(jnp.abs(a).sum(), 1e-6)
    return nan_unless_finite((s(x) * share).astype(jnp.float32), attribution)


spoiled = spoiler(good)


def result(change):
    """`good` with its result changed."""
    return spoiled(lambda f, x, target, attribution, key, **options: change(good(f, x, target, attribution, key, **options), attribution))


def keyed(change):
    """`good` with noise, of a key that `change` gives."""
    return spoiled(lambda f, x, target, attribution, key, **options: good(f, x, target, attribution, key, **options) + jax.random.normal(change(key)))


def without_map(f, x, target, key=None):
    return good(f, x, target, x, key)


def by_position_only(f, x, target, attribution, key=None, score="logit"):
    return good(f, x, target, attribution, key, score=score)


def clipped(f, x, target, attribution, key, **options):
    return good(f, x, target if isinstance(target, int) else jnp.clip(target, 0, 3), attribution, key, **options)


def any_pixels(f, x, target, attribution, key, **options):
    return good(f, x.astype(jnp.float32), target, attribution, key, **options)


def any_map(f, x, target, attribution, key, **options):
    return good(f, x, target, jnp.resize(attribution, x.shape).astype(jnp.float32), key, **options)


def any_integer_map(f, x, target, attribution, key, **options):
    return good(f, x, target, attribution * 1.0, key, **options)


def lists_too_much(f, x, target, attribution, key, score="logit", chunk=None):
    one_of("score", score, ("logit", "probability", "rank"))
    assert score != "rank"
    return good(f, x, target, attribution, key, chunk=chunk, score=score)


def by_channel(f, x, target, attribution, key, **options):
    return good(f, x, target, attribution, key, **options) * attribution.shape[-1]


def first_channel(f, x, target, attribution, key, **options):
    return good(f, x, target, attribution, key, **options) + attribution[..., 0].sum()


def looks_twice(f, x, target, attribution, key, **options):
    return good(f, x, target, attribution, key, **options) + 0 * f(x).sum()


def times_chunk(f, x, target, attribution, key, chunk=None, **options):
    return good(f, x, target, attribution, key, chunk=chunk, **options) * (chunk or 1)


def static_model(shape, seed):
    weights = np.random.default_rng(seed).normal(size=(np.prod(shape), 4))
    return Partial(lambda x: x.ravel() ** 2 @ weights)


def twice_when_eager(v, a):
    return v if isinstance(v, jax.core.Tracer) else 2 * v


def counted(v, a):
    return v + tick()


BROKEN = [
    ("signature", without_map, {}, "takes (f, x, target, key, …) where the contract has (f, x, target, attribution, key, *, options)"),
    ("signature", by_position_only, {}, "takes score by position"),
    ("signature", pointing_game, {}, "has no default for mask, and the check was given no mask in options="),
    ("documentation", documented(good, "Range:", "From"), {}, "has no line Range:"),
    ("documentation", documented(good, "higher is better", "up"), {}, "Direction: 'up' must begin with one of"),
    ("documentation", documented(good, "attribution: its map", "the map"), {}, "does not document attribution under Args:"),
    ("result", result(lambda v, a: v[None]), {}, "returns shape (1,) for x of shape (6,): a metric is a scalar or a Curve"),
    ("result", result(lambda v, a: (v, v)), {}, "returns a tuple for x of shape (6,): a metric is a scalar or a Curve"),
    ("result", result(lambda v, a: v.astype(jnp.float16)), {}, "returns float16"),
    ("result", result(lambda v, a: v / 0), {}, "returns NaN or infinity"),
    ("result", result(lambda v, a: curve(jnp.asarray([0.0, 1, 0.5]), v * jnp.ones(3))), {}, "returns a curve of which x does not ascend"),
    ("result", result(lambda v, a: curve(jnp.arange(3.0), v * jnp.ones(3))._replace(y=v[None])), {}, "returns a curve of unequal lengths"),
    ("result", good, {"curve": True}, "is said to be curve=True, but returns shape ()"),
    ("result", documented(good, "(−∞, ∞)", "[−1, −0.5]"), {}, "outside the range [-1, -0.5] that its docstring states"),
    ("weights", good, {"model": static_model}, "is compiled anew for new weights"),
    ("weights", result(lambda v, a: a.sum()), {}, "returns the same for other weights and targets"),
    ("weights", good, {"blind": True}, "is said to be blind=True, but its result depends on f or the target"),
    ("weights", result(counted), {}, "returns another number for the same arguments"),
    ("target", spoiled(clipped), {}, "gives a number for a traced target=4 of 4 classes"),
    ("key", good, {"keyed": True}, "is said to be keyed=True, but its result does not depend on the key"),
    ("key", keyed(lambda key: jax.random.key(0) if key is None else key), {}, "takes key=None, although it draws random numbers without a word"),
    ("key", spoiled(lambda f, x, t, a, key, **o: good(f, x, t, a, need_key(key, "it"), **o)), {}, "does not depend on the key, but fails without one"),
    ("bad maps", result(lambda v, a: jnp.nan_to_num(v)), {}, "gives a number for a map with an entry of nan"),
    ("bad maps", result(lambda v, a: v / jnp.abs(a).sum()), {}, "gives NaN or infinity for a map that is 0.0 everywhere"),
    ("errors", spoiled(any_pixels), {}, "takes integer pixels as x without a word"),
    ("errors", spoiled(two_lines(good)), {}, "must say in one line what is wrong with integer pixels as x"),
    ("errors", spoiled(another_type(good)), {}, "must raise a ValueError for integer pixels as x, not TypeError"),
    ("errors", spoiled(any_map), {}, "takes a map of shape () for x of shape (6,) without a word"),
    ("errors", spoiled(any_integer_map), {}, "takes a map of integers without a word"),
    ("names", spoiled(lists_too_much), {}, "lists score='rank', but raises AssertionError"),
    ("channels", spoiled(first_channel), {"shapes": ((2, 2, 3),)}, "judges a map otherwise whose channels are in another order"),
    ("one channel", spoiled(by_channel), {"shapes": ((2, 2, 3),)}, "judges a map with one channel otherwise than one whose channels have the same sums"),
    ("eager", result(twice_when_eager), {}, "returns another number under jit than without it"),
    ("batched", result(lambda v, a: alone(v)), {}, "returns another number under vmap (jxai.each) than in a loop"),
    ("float16", result(lambda v, a: v.astype(a.dtype)), {}, "returns float16 for x of float16: a metric is float32 whatever x is"),
    ("bfloat16", result(lambda v, a: jnp.where(a.dtype == jnp.float32, v, jnp.inf)), {}, "returns NaN or infinity for x of bfloat16"),
    ("chunk", spoiled(times_chunk), {}, "returns another number with chunk=2"),
    ("passes", spoiled(looks_twice), {"passes": 1}, "makes 2 forward passes, not 1 as stated"),
    ("passes", good, {"blind": True}, "makes 1 forward passes, not 0 as stated"),
]


@pytest.mark.parametrize(("clause", "metric", "said", "sentence"), BROKEN, ids=[f"{row[0]}-{n}" for n, row in enumerate(BROKEN)])
def test_a_metric_that_breaks_a_clause_is_caught_by_it(clause, metric, said, sentence):
    with pytest.raises(AssertionError) as error:
        check_metric(metric, clauses=(clause,), **{"shapes": ("vector",), **said})
    assert sentence in str(error.value), error.value


def test_every_clause_is_broken_once():
    assert {row[0] for row in BROKEN} == set(METRIC_CLAUSES)
    assert {row[0] for row in UNLIKE} == set(COMPARISON_CLAUSES)


def test_good_metrics_pass():
    check_metric(good, shapes=("vector",), passes=1)
    check_metric(pointing_game, options=lambda shape: {"mask": mask(shape)}, shapes=((3, 3, 1),), blind=True, clauses=("signature", "result", "passes"))


def alike(a, b, *, score="cosine"):
    """The cosine of two maps.

    Args:
      a, b: two maps of one shape, floating point. score: "cosine" or "square", its square.

    Returns:
      float32; 0 where a map is 0.

    Raises:
      ValueError: maps of unequal shapes, or that are not floating point.

    Range: [−1, 1].
    Direction: none.
    Cost: no passes.
    Reference: none.
    """
    one_of("score", score, ("cosine", "square"))
    pearson(a, b)
    u, v = (jnp.ravel(m).astype(jnp.float32) for m in (a, b))
    cosine = u @ v / jnp.maximum(jnp.sqrt((u @ u) * (v @ v)), 1e-9)
    return nan_unless_finite(jnp.clip(cosine, -1, 1), u * v) ** (2 if score == "square" else 1)


unlike = spoiler(alike)


def compared(change):
    """`alike` with its result changed."""
    return unlike(lambda a, b, **options: change(alike(a, b, **options), a, b))


def with_model(f, a, b):
    return alike(a, b)


def any_maps(a, b, **options):
    return alike(jnp.resize(a, b.shape), b, **options)


UNLIKE = [
    ("signature", with_model, "takes (f, a, …) where the contract has (a, b, *, options)"),
    ("documentation", documented(alike, "Direction: none.", ""), "has no line Direction:"),
    ("result", compared(lambda v, a, b: v[None]), "returns shape (1,): a comparison of two maps is one scalar"),
    ("result", compared(lambda v, a, b: v.astype(jnp.float16)), "returns float16"),
    ("result", compared(lambda v, a, b: v + jnp.inf), "returns NaN or infinity for two maps that are finite"),
    ("result", compared(lambda v, a, b: v + 2), "outside the range [-1, 1] that its docstring states"),
    ("result", compared(lambda v, a, b: v / 2), "returns 0.5 for a map and itself, which is no end of the range"),
    (
        "result",
        compared(lambda v, a, b: jnp.where((a == b).all(), v, v * jnp.abs(a).sum() / jnp.abs(a).max() / a.size)),
        "another number for (b, a) than for (a, b)",
    ),
    ("result", compared(lambda v, a, b: jnp.where(jnp.isfinite(v), 1.0, v)), "returns the same for other maps"),
    ("bad maps", compared(lambda v, a, b: jnp.nan_to_num(v)), "gives a number for a map with an entry of nan"),
    ("bad maps", compared(lambda v, a, b: v / jnp.std(a)), "gives NaN or infinity where a map is constant"),
    ("errors", unlike(any_maps), "takes maps of unequal shapes without a word"),
    ("errors", unlike(lambda a, b, **options: alike(a * 1.0, b, **options)), "takes a map of integers without a word"),
    ("eager", compared(lambda v, a, b: twice_when_eager(v, a)), "returns another number under jit than without it"),
    ("batched", compared(lambda v, a, b: alone(v)), "returns another number under vmap than in a loop"),
    ("half", compared(lambda v, a, b: v.astype(a.dtype)), "returns float16 for maps of float16"),
    ("half", compared(lambda v, a, b: v if a.dtype == jnp.float32 else v + 1e-2), "returns another number for maps of float16"),
]


@pytest.mark.parametrize(("clause", "compare", "sentence"), UNLIKE, ids=[f"{row[0]}-{n}" for n, row in enumerate(UNLIKE)])
def test_a_comparison_that_breaks_a_clause_is_caught_by_it(clause, compare, sentence):
    with pytest.raises(AssertionError) as error:
        check_comparison(compare, shape=(3, 3, 1), clauses=(clause,))
    assert sentence in str(error.value), error.value


def test_a_good_comparison_passes():
    check_comparison(alike, shape=(3, 3, 1))
