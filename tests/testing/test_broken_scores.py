"""Every clause of the contract of an uncertainty score can fail, with the sentence that says so; two scores that keep it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from spoiling import alone, another_type, documented, spoiler, tick

from jxai.scores import check_example, need_key, one_of, wide
from jxai.testing import SCORE_CLAUSES, check_score, example

pytestmark = pytest.mark.usefixtures("quick_compilation")


def entropy(f, x, key=None, *, unit="nat"):
    """The entropy of the class probabilities, `−Σ p log p`.

    Args:
      f: a model `x -> logits [K]`. x: one example. key: unused. unit: "nat" or "bit".

    Returns:
      float32.

    Raises:
      ValueError: bad x or unit.

    Range: [0, ∞).
    Cost: one forward pass.
    Reference: Shannon 1948, "A Mathematical Theory of Communication", Bell System Technical Journal.
    """
    one_of("unit", unit, ("nat", "bit"))
    check_example(x)
    log_p = jax.nn.log_softmax(wide(f(x)))
    return -(jnp.exp(log_p) * log_p).sum() / (jnp.log(2.0) if unit == "bit" else 1.0)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Centre:
    """What `fit_centre` returns."""

    logits: jax.Array


def fit_centre(logits):
    """The mean of the logits of many examples."""
    return Centre(jnp.asarray(np.mean(logits, 0)))


def distance(f, x, key=None, *, fitted=None):
    """How far the logits lie from those of the data, `‖f(x) − fitted.logits‖`.

    Args:
      f: a model `x -> logits [K]`. x: one example. key: unused. fitted: of `fit_centre`.

    Returns:
      float32.

    Raises:
      ValueError: bad x.

    Range: [0, ∞).
    Cost: one forward pass.
    Reference: none.
    """
    check_example(x)
    return jnp.sqrt(((wide(f(x)) - fitted.logits) ** 2).sum())


spoiled, further = spoiler(entropy), spoiler(distance)
CENTRE = fit_centre(np.zeros((3, 4), np.float32))


def result(change):
    """`entropy` with its result changed."""
    return spoiled(lambda f, x, key, **options: change(entropy(f, x, key, **options), x))


def of_target(f, x, target, key=None):
    return entropy(f, x, key)


def always_fitted(f, x, key=None, *, fitted):
    return distance(f, x, key, fitted=fitted)


def any_name(f, x, key, unit="nat"):
    return entropy(f, x, key, unit=unit if unit == "bit" else "nat")


def noisy(f, x, key, **options):
    return entropy(f, x, key, **options) + jax.random.uniform(jax.random.key(0) if key is None else key)


def static_model(shape, seed):
    weights = np.random.default_rng(seed).normal(size=(shape[0], 4)).astype(np.float32)
    return Partial(lambda x: x**2 @ weights)


def counted(v, x):
    return v + tick()


BROKEN = [
    ("signature", of_target, {}, "takes (f, x, target, …) where the contract has (f, x, key, *, options)"),
    ("signature", always_fitted, {"fitted": CENTRE, "options": {"fitted": None}}, "must have the default fitted=None"),
    ("signature", entropy, {"fitted": CENTRE}, "has no option fitted"),
    ("documentation", documented(entropy, "Range:", "From"), {}, "has no line Range:"),
    ("result", result(lambda v, x: v[None]), {}, "returns shape (1,): a score of one example is a scalar"),
    ("result", result(lambda v, x: v.astype(jnp.float16)), {}, "returns float16"),
    ("result", result(lambda v, x: v / 0), {}, "returns NaN or infinity for a finite x"),
    ("result", result(lambda v, x: -v), {}, "outside the range [0, inf] that its docstring states"),
    ("weights", entropy, {"model": static_model}, "is compiled anew for new weights"),
    ("weights", result(lambda v, x: x.sum()), {}, "returns the same for other weights"),
    ("weights", result(counted), {}, "returns another score for the same arguments"),
    ("fitted", distance, {"fitted": (CENTRE.logits,)}, "is fitted by a tuple: what fit_NAME returns is a registered dataclass"),
    ("fitted", further(lambda f, x, key, fitted: entropy(f, x)), {"fitted": CENTRE}, "returns the same for another fit"),
    ("key", entropy, {"keyed": True}, "is said to be keyed=True, but its result does not depend on the key"),
    ("key", spoiled(noisy), {}, "takes key=None, although it draws random numbers without a word"),
    ("key", spoiled(lambda f, x, key, **o: entropy(f, x, need_key(key, "it"), **o)), {}, "does not depend on the key, but fails without one"),
    ("direction", result(lambda v, x: 2 - v), {}, "for one that is sure: a score is higher where it is less certain"),
    ("errors", spoiled(lambda f, x, key, **o: entropy(f, x * 1.0, key, **o)), {}, "takes integer pixels as x without a word"),
    ("errors", spoiled(another_type(entropy)), {}, "must raise a ValueError for integer pixels as x, not TypeError"),
    ("errors", spoiled(any_name), {}, "takes unit='no such value' without a word"),
    ("eager", result(lambda v, x: v if isinstance(x, jax.core.Tracer) else 2 * v), {}, "returns another score under jit than without it"),
    ("batched", result(lambda v, x: alone(v)), {}, "returns another score under vmap than in a loop"),
    ("half", result(lambda v, x: v.astype(x.dtype)), {}, "returns float16 for x of float16"),
    ("half", result(lambda v, x: v * (1.0 if x.dtype == jnp.float32 else jnp.inf)), {}, "returns NaN or infinity for x of float16"),
]


@pytest.mark.parametrize(("clause", "score", "said", "sentence"), BROKEN, ids=[f"{row[0]}-{n}" for n, row in enumerate(BROKEN)])
def test_a_score_that_breaks_a_clause_is_caught_by_it(clause, score, said, sentence):
    with pytest.raises(AssertionError) as error:
        check_score(score, clauses=(clause,), **said)
    assert sentence in str(error.value), error.value


def test_every_clause_is_broken_once():
    assert {row[0] for row in BROKEN} == set(SCORE_CLAUSES)


def test_good_scores_pass():
    check_score(entropy)
    near, far = (Partial(jnp.multiply, jnp.float32(scale)) for scale in (0.1, 10.0))
    check_score(
        distance, shape=(4,), model=lambda shape, seed: Partial(jnp.multiply, jnp.float32(1 + seed)), fitted=CENTRE, clauses=("signature", "fitted", "key")
    )
    check_score(distance, shape=(4,), fitted=CENTRE, certain=(near, example((4,))), uncertain=(far, example((4,))), clauses=("direction",))
