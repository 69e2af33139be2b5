"""Every clause of the contract of a counterfactual method can fail, with the sentence that says so."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from spoiling import another_type, spoiler, tick

from jxai.counterfactual import Candidate, Search, wachter
from jxai.counterfactual.search import method, wanted
from jxai.scores import need_key, one_of
from jxai.testing import SEARCH_CLAUSES, check_search

pytestmark = pytest.mark.usefixtures("quick_compilation")


def _init(rate, f, x, target, key):
    return x, {"target": wanted(target), "rate": rate}


def _step(rule, f, v, memory):
    score = lambda v: jax.nn.log_softmax(f(v).astype(jnp.float32))[memory["target"]]
    logits = f(v).astype(jnp.float32)
    slope = jax.grad(score)(v)
    move = memory["rate"] * (jnp.sign(slope) if rule == "sign" else slope)
    valid = logits.argmax() == memory["target"]
    return v + move.astype(v.dtype), memory, Candidate(v, None, logits, valid, -logits[memory["target"]], valid)


@method
def climb(*, rate=0.2, rule="slope", steps=4):
    """Climbs the probability of the target.

    Args:
      f: a model. x: an example. target: a class. key: unused.
      rate: of a step. rule: "slope" or "sign". steps: at most.

    Returns:
      A `Counterfactual`.

    Raises:
      ValueError: bad x, target or option.

    Cost: a forward and a backward pass for each step.
    Reference: none.
    """
    one_of("rule", rule, ("slope", "sign"))
    return Search(Partial(_init, jnp.float32(rate)), Partial(_step, rule), steps)


spoiled = spoiler(climb)


def result(**changes):
    """`climb` with fields of its result changed: `field=lambda found, x, key: value`."""

    def change(f, x, target, key, **options):
        found = climb(f, x, target, key, **options)
        return found._replace(**{field: value(found, x, key) for field, value in changes.items()})

    return spoiled(change)


def by_label(f, x, label, key=None):
    return climb(f, x, label, key)


def unclipped(f, x, target, key=None, *, clip=(0.0, 1.0)):
    return climb(f, x, target, key, rate=9.0)


def bare(f, x, target, key=None):
    return climb(f, x, target, key)


def undocumented(f, x, target, key=None):
    """Climbs.

    Args:
      f, x, target, key: as ever.

    Returns:
      A point.

    Raises:
      ValueError: always.
    """


def closures(f, x, target, key=None, *, rate=0.2):
    return climb(f, x, target, key, rate=rate)


closures.search = lambda **options: climb.search(**options)._replace(init=lambda f, x, target, key: _init(1.0, f, x, target, key))


def no_search(f, x, target, key=None):
    return climb(f, x, target, key)


no_search.search = lambda **options: (_init, _step, 3)


def eager_to_leave(f, x, target, key, **options):
    """Moves away from a class that x has already."""
    found = climb(f, x, target, key, **options)
    return found._replace(x=found.x + 0.01)


def any_target(f, x, target, key, **options):
    return climb(f, x, jnp.int32(target) if isinstance(target, int) else target, key, **options)


def any_pixels(f, x, target, key, **options):
    return climb(f, x.astype(jnp.float32), target, key, **options)


def no_target(f, x, target, key, **options):
    return climb(f, x, 0 if target is None else target, key, **options)


def any_name(f, x, target, key, rule="slope", **options):
    return climb(f, x, target, key, rule=rule if rule == "sign" else "slope", **options)


def lists_too_much(f, x, target, key, rule="slope", **options):
    one_of("rule", rule, ("slope", "sign", "rank"))
    assert rule != "rank"
    return climb(f, x, target, key, rule=rule, **options)


def clipped(f, x, target, key, **options):
    return climb(f, x, target if isinstance(target, int) or target is None else jnp.clip(target, 0, 3), key, **options)


def fills_gaps(f, x, target, key, **options):
    return climb(f, jnp.nan_to_num(x), target, key, **options)


def static_model(shape, seed):
    weights = np.random.default_rng(seed).normal(size=(shape[0], 4)).astype(np.float32)
    return Partial(lambda x: x**2 @ weights)


def drawn(key):
    return jax.random.uniform(jax.random.key(0) if key is None else key)


def narrowed(found, x, key):
    return found.logits.astype(x.dtype)


def moved_unless(kind):
    """x' moved by 0.01 unless x is an array of this kind."""
    return lambda found, x, key: found.x if isinstance(x, kind) else found.x + 0.01


def ticked(found, x, key):
    return found.x + 1e-3 * tick()


BROKEN = [
    ("signature", by_label, {}, "takes (f, x, label, key, …) where the contract has (f, x, target, key, *, options)"),
    ("documentation", undocumented, {}, "has no line Cost:"),
    ("documentation", bare, {}, "has no section Args:"),
    ("search", bare, {}, "has no search(**options)"),
    ("search", no_search, {}, "returns a tuple, not a Search(init, step, steps)"),
    ("search", closures, {}, "has a search that is compiled anew whenever it is made"),
    ("result", spoiled(lambda *a, **o: climb(*a, **o).x), {}, "returns a ndarray: a search returns a Counterfactual"),
    ("result", result(x=lambda found, x, key: found.x[None]), {}, "returns x' of shape (1, 6) for x of shape (6,)"),
    ("result", result(x=lambda found, x, key: found.x.astype(jnp.bfloat16)), {}, "returns x' of bfloat16 for x of float32"),
    ("result", result(x=lambda found, x, key: found.x * jnp.nan), {}, "returns x' with NaN or infinity"),
    ("result", unclipped, {}, "outside clip=(0.0, 1.0)"),
    ("result", result(valid=lambda found, x, key: found.valid.astype(int)), {}, "returns valid of int32 and shape (), not bool"),
    ("result", result(steps=lambda found, x, key: found.steps * 1.0), {}, "returns steps of float32 and shape (), not int32"),
    ("result", result(steps=lambda found, x, key: found.steps + 9), {}, "of at most 4"),
    ("result", result(logits=lambda found, x, key: found.logits + 1), {}, "returns logits that are not f(x')"),
    (
        "result",
        result(valid=lambda found, x, key: ~found.valid),
        {"options": {"steps": 1, "rate": 0.0}},
        "says that x' is valid, but f takes it for another class",
    ),
    ("weights", climb, {"model": static_model}, "is compiled anew for new weights"),
    ("weights", result(x=ticked), {}, "returns another x' for the same arguments"),
    ("stays", spoiled(eager_to_leave), {}, "searches for the class that x already has"),
    ("failure", spoiled(clipped), {}, "for a traced target="),
    ("failure", spoiled(fills_gaps), {}, "must return a result that is not valid, after 0 steps, for x with NaN"),
    ("key", climb, {"keyed": True}, "is said to be keyed=True, but its result does not depend on the key"),
    ("key", result(x=lambda found, x, key: found.x + drawn(key)), {}, "takes key=None, although it draws random numbers without a word"),
    ("key", spoiled(lambda f, x, target, key, **o: climb(f, x, target, need_key(key, "it"), **o)), {}, "does not depend on the key, but fails without one"),
    ("errors", spoiled(any_pixels), {}, "takes integer pixels as x without a word"),
    ("errors", spoiled(another_type(climb)), {}, "must raise a ValueError for integer pixels as x, not TypeError"),
    ("errors", spoiled(any_target), {}, "takes target=4 of 4 classes without a word"),
    ("errors", spoiled(no_target), {}, "takes target=None without a word"),
    ("errors", spoiled(any_name), {}, "takes rule='no such value' without a word"),
    ("names", spoiled(lists_too_much), {}, "lists rule='rank', but raises AssertionError"),
    ("eager", result(x=moved_unless(jax.core.Tracer)), {}, "returns another x' under jit than without it"),
    ("batched", result(x=lambda found, x, key: found.x + 0.1), {}, "returns another x' in jxai.counterfactual.run, under vmap, than in a loop"),
    ("half", result(x=lambda found, x, key: found.x.astype(jnp.float32)), {}, "returns x' of float32 for x of bfloat16"),
    ("half", result(logits=narrowed), {}, "returns logits of bfloat16 for x of bfloat16"),
]


@pytest.mark.parametrize(("clause", "search", "said", "sentence"), BROKEN, ids=[f"{row[0]}-{n}" for n, row in enumerate(BROKEN)])
def test_a_search_that_breaks_a_clause_is_caught_by_it(clause, search, said, sentence):
    if clause == "batched":
        search.search = climb.search
    with pytest.raises(AssertionError) as error:
        check_search(search, clauses=(clause,), **said)
    assert sentence in str(error.value), error.value


def test_every_clause_is_broken_once():
    assert {row[0] for row in BROKEN} == set(SEARCH_CLAUSES)


def test_good_searches_pass():
    check_search(climb)
    check_search(wachter, shape=(2, 2, 1), options={"steps": 5}, clauses=("signature", "documentation", "search", "result", "stays", "failure", "key"))
