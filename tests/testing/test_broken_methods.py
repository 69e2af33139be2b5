"""Every clause of the contract of a method can fail: a method that breaks it alone is caught by it, with the sentence that says so."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from spoiling import alone, another_type, documented, spoiler, tick, two_lines

from jxai.attribution import gradient, rise
from jxai.scores import check_example, check_target, need_key, objective, one_of, positive
from jxai.testing import METHOD_CLAUSES, check_method

pytestmark = pytest.mark.usefixtures("quick_compilation")


def good(f, x, target, key=None, *, score="logit", chunk=None):
    """The gradient.

    Args:
      f: a model. x: an example. target: a class, or `None`. key: unused.
      score: "logit" or "probability". chunk: unused.

    Returns:
      x's shape.

    Raises:
      ValueError: bad x, target or option.

    Cost: one forward and one backward pass.
    Reference: none.
    """
    if chunk is not None:
        positive(chunk=chunk)
    return gradient(f, x, target, key, score=score)


spoiled = spoiler(good)


def result(change):
    """`good` with its attribution changed."""
    return spoiled(lambda f, x, target, key, **options: change(good(f, x, target, key, **options), x))


def by_label(f, x, label, key=None):
    return good(f, x, label, key)


def without_key(f, x, target, key):
    return good(f, x, target, key)


def by_position(f, x, target, key=None, score="logit"):
    return good(f, x, target, key, score=score)


def without_default(f, x, target, key=None, *, score):
    return good(f, x, target, key, score=score)


def clipped(f, x, target, key, **options):
    return good(f, x, target if isinstance(target, int) or target is None else jnp.clip(target, 0, 3), key, **options)


def noisy(f, x, target, key, **options):
    return good(f, x, target, key, **options) + jax.random.normal(jax.random.key(0) if key is None else key, x.shape)


def greedy_for_keys(f, x, target, key, **options):
    return good(f, x, target, need_key(key, "method"), **options)


def any_pixels(f, x, target, key, **options):
    return good(f, x.astype(jnp.float32) if x.dtype == jnp.uint8 else x, target, key, **options)


def any_target(f, x, target, key, **options):
    return good(f, x, jnp.int32(target) if isinstance(target, int) else target, key, **options)


def any_chunk(f, x, target, key, chunk=None, **options):
    return good(f, x, target, key, **options)


def any_name(f, x, target, key, score="logit", chunk=None):
    return good(f, x, target, key, chunk=chunk, score=score if score == "probability" else "logit")


def lists_too_much(f, x, target, key, score="logit", chunk=None):
    one_of("score", score, ("logit", "probability", "rank"))
    assert score != "rank"
    return good(f, x, target, key, chunk=chunk, score=score)


def none_is_another(f, x, target, key, **options):
    return (2 if target is None else 1) * good(f, x, target, key, **options)


def times_chunk(f, x, target, key, chunk=None, **options):
    return (chunk or 1) * good(f, x, target, key, chunk=chunk, **options)


def looks_twice(f, x, target, key, **options):
    return good(f, x, target, key, **options) + 0 * f(x).sum()


def by_target(f, x, target, key, **options):
    """A black box that looks elsewhere for every target."""
    check_example(x)
    check_target(target, 4)
    return jnp.full_like(x, objective(f, x, target)(x * (1 + target)))


def twice_when_eager(a, x):
    return a if isinstance(x, jax.core.Tracer) else 2 * a


def counted(a, x):
    return a + tick()


def branches(a, x):
    return a if x.sum() > 0 else -a


def static_model(shape, seed):
    weights = np.random.default_rng(seed).normal(size=(shape[0], 4))
    return Partial(lambda x: x**2 @ weights)


BROKEN = [
    ("signature", by_label, {}, "takes (f, x, label, key, …) where the contract has (f, x, target, key, *, options)"),
    ("signature", without_key, {}, "must have the default key=None"),
    ("signature", by_position, {}, "takes score by position: options are keyword-only"),
    ("signature", without_default, {}, "has no default for score"),
    ("documentation", documented(good, "Raises:", ""), {}, "has no section Raises:"),
    ("documentation", documented(good, "Cost:", "It costs"), {}, "has no line Cost:"),
    ("documentation", documented(good, "chunk: unused", ""), {}, "does not document chunk under Args:"),
    ("attribution", result(lambda a, x: a[..., None]), {}, "returns shape (6, 1) for x of shape (6,): an attribution has x's rank and broadcasts against x"),
    ("attribution", result(lambda a, x: a.sum()), {}, "returns shape () for x of shape (6,)"),
    ("attribution", result(lambda a, x: (a, x)), {}, "returns a tuple"),
    ("attribution", result(lambda a, x: a.astype(jnp.float16)), {}, "returns float16 for x of float32"),
    ("attribution", result(lambda a, x: a / 0), {}, "returns NaN or infinity"),
    ("attribution", result(lambda a, x: a * 0), {}, "returns nothing but zeros"),
    ("attribution", result(branches), {}, "fails under jit for arrays of shape (6,): TracerBoolConversionError"),
    ("weights", good, {"model": static_model}, "is compiled anew for new weights"),
    ("weights", result(lambda a, x: x), {}, "does not look at the model"),
    ("weights", result(counted), {}, "returns another attribution for the same arguments"),
    ("target", spoiled(clipped), {}, "gives numbers for a traced target=4 of 4 classes: it must give NaN"),
    ("target", good, {"blind": True}, "is said to be blind=True, but its result depends on the target"),
    ("key", good, {"keyed": True}, "is said to be keyed=True, but its result does not depend on the key"),
    ("key", spoiled(noisy), {"keyed": False}, "is said to be keyed=False, but its result depends on the key"),
    ("key", spoiled(noisy), {}, "takes key=None, although it draws random numbers without a word"),
    ("key", spoiled(greedy_for_keys), {}, "does not depend on the key, but fails without one"),
    ("errors", spoiled(any_pixels), {}, "takes integer pixels as x without a word"),
    ("errors", spoiled(any_target), {}, "takes target=4 of 4 classes without a word"),
    ("errors", spoiled(two_lines(good)), {}, "must say in one line what is wrong with integer pixels as x"),
    ("errors", spoiled(another_type(good)), {}, "must raise a ValueError for integer pixels as x, not TypeError"),
    ("errors", spoiled(any_chunk), {}, "takes chunk=0 without a word"),
    ("errors", spoiled(any_name), {}, "takes score='no such value' without a word"),
    ("names", spoiled(lists_too_much), {}, "lists score='rank', but raises AssertionError"),
    ("eager", result(twice_when_eager), {}, "returns another attribution under jit than without it"),
    ("batched", result(lambda a, x: alone(a)), {}, "returns another attribution under vmap (jxai.each) than in a loop"),
    ("float16", result(lambda a, x: a * jnp.asarray(1e5, x.dtype) / jnp.asarray(1e5, x.dtype)), {}, "returns NaN or infinity for x of float16"),
    ("float16", result(lambda a, x: a.astype(x.dtype)), {}, "returns float16 for x of float16"),
    ("bfloat16", result(lambda a, x: a if x.dtype == jnp.float32 else -a), {}, "correlates by -1.00 with the attribution in float32"),
    ("scalar", spoiled(none_is_another), {}, "explains x -> f(x)[2] with target=None otherwise than f with target=2"),
    ("gradient", result(lambda a, x: jax.lax.stop_gradient(a)), {}, "has no derivative by the weights"),
    ("gradient", result(lambda a, x: a + jnp.sqrt((a - jax.lax.stop_gradient(a)) ** 2)), {}, "has a derivative by the weights that is not finite"),
    ("chunk", spoiled(times_chunk), {}, "returns another attribution with chunk=3"),
    ("passes", spoiled(looks_twice), {"passes": 1}, "makes 2 forward passes, not passes=1 as stated"),
    ("shared", spoiled(by_target), {"black_box": True}, "makes 4 forward passes for 4 targets under vmap and 1 for one"),
]


@pytest.mark.parametrize(("clause", "method", "said", "sentence"), BROKEN, ids=[f"{row[0]}-{n}" for n, row in enumerate(BROKEN)])
def test_a_method_that_breaks_a_clause_is_caught_by_it(clause, method, said, sentence):
    with pytest.raises(AssertionError) as error:
        check_method(method, shapes=("vector",), clauses=(clause,), **said)
    assert sentence in str(error.value), error.value


def test_every_clause_is_broken_once():
    assert {row[0] for row in BROKEN} == set(METHOD_CLAUSES)


def test_a_good_method_passes_and_what_may_be_said_of_it():
    check_method(good, shapes=("vector",), passes=1)
    check_method(
        rise, shapes=((4, 4, 1),), options=lambda shape: {"num_masks": 5, "grid": shape[0] // 2}, keyed=True, black_box=True, clauses=("key", "shared")
    )


def test_an_unknown_clause_or_kind_is_named():
    with pytest.raises(ValueError, match="clauses='speed' must be among 'signature', "):
        check_method(good, clauses=("speed",))
    with pytest.raises(ValueError, match="shapes='sound' must be among 'vector', "):
        check_method(good, shapes=("sound",))
