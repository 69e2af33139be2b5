"""Every routine keeps the contract of its kind: the checks of `jxai.testing` over every `__all__`.

What a routine is told to be tried with stands in the tables that are imported here; one that is in none is tried with its defaults. Quick are the
clauses that one program shows, and for every fifth routine one of the dearer ones in turn, so that each is tried; slow is everything on everything.
"""

import cases
import pytest
from counterfactual import search_cases
from metrics import metric_cases
from uncertainty import score_cases

from jxai import attribution, counterfactual, metrics, uncertainty
from jxai.metrics import compare
from jxai.testing import (
    COMPARISON_CLAUSES,
    METHOD_CLAUSES,
    METRIC_CLAUSES,
    SCORE_CLAUSES,
    SEARCH_CLAUSES,
    SHAPES,
    check_comparison,
    check_method,
    check_metric,
    check_score,
    check_search,
)
from jxai.uncertainty import scores

pytestmark = pytest.mark.usefixtures("quick_compilation")

DEAR = ("eager", "names", "batched", "half", "float16", "bfloat16", "scalar", "gradient", "chunk", "one channel", "shared")
"""Clauses that take programs of their own; the first two are the dearest: an eager run compiles every operation by itself."""


def quick(clauses, name, names):
    """The cheap clauses, and for every fifth name one of the dear ones."""
    turn, rest = divmod(list(names).index(name), 5)
    dear = [clause for clause in DEAR[2:] if clause in clauses]
    return [clause for clause in clauses if clause not in DEAR or (rest == 0 and clause == dear[turn % len(dear)])]


def kinds(table, names):
    """Pairs of a name and a kind of input that it takes."""
    return [(name, kind) for name in names for kind in table.CASES.get(name, table.UNKNOWN).shapes]


@pytest.mark.parametrize("name", attribution.__all__)
def test_method(name):
    shapes = cases.CASES.get(name, cases.UNKNOWN).shapes[:1]
    check_method(getattr(attribution, name), shapes=shapes, clauses=quick(METHOD_CLAUSES, name, attribution.__all__), **cases.said(name))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), kinds(cases, attribution.__all__))
def test_method_on_every_kind_of_input(name, kind):
    first = kind == cases.CASES.get(name, cases.UNKNOWN).shapes[0]
    check_method(getattr(attribution, name), shapes=(kind,), clauses=set(METHOD_CLAUSES) - (set() if first else {"eager"}), **cases.said(name))


@pytest.mark.parametrize("name", metrics.__all__)
def test_metric(name):
    kind = metric_cases.main_kind(name)
    check_metric(getattr(metrics, name), shapes=(kind,), clauses=quick(METRIC_CLAUSES, name, metrics.__all__), **metric_cases.said(name, kind))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), kinds(metric_cases, metrics.__all__))
def test_metric_on_every_kind_of_input(name, kind):
    # Of so few entries as a vector has, a number may be the same whatever is drawn and whatever the weights.
    clauses = set(METRIC_CLAUSES) - (set() if kind == metric_cases.main_kind(name) else {"key", "weights", "eager"})
    check_metric(getattr(metrics, name), shapes=(kind,), clauses=clauses, **metric_cases.said(name, kind))


@pytest.mark.parametrize("name", compare.__all__)
def test_comparison(name):
    check_comparison(getattr(compare, name), shape=(5, 5, 2), clauses=set(COMPARISON_CLAUSES) - set(DEAR))


@pytest.mark.slow
@pytest.mark.parametrize("name", compare.__all__)
@pytest.mark.parametrize("kind", SHAPES)
def test_comparison_on_every_kind_of_input(name, kind):
    check_comparison(getattr(compare, name), shape=kind)


@pytest.mark.parametrize("name", counterfactual.METHODS)
def test_search(name):
    check_search(getattr(counterfactual, name), clauses=set(SEARCH_CLAUSES) - set(DEAR), **search_cases.CASES.get(name, {}))


@pytest.mark.slow
@pytest.mark.parametrize("name", counterfactual.METHODS)
def test_search_by_every_clause(name):
    check_search(getattr(counterfactual, name), **search_cases.CASES.get(name, {}))


def test_no_table_has_a_name_that_is_gone():
    assert not set(cases.CASES) - set(attribution.__all__)
    assert not set(metric_cases.CASES) - set(metrics.__all__)
    assert not set(search_cases.CASES) - set(counterfactual.METHODS)
    assert not set(score_cases.CASES) - set(scores.__all__)


def test_a_routine_that_is_in_no_table_is_tried_with_its_defaults_or_named():
    assert kinds(cases, ["new"]) == kinds(metric_cases, ["new"]) == [("new", kind) for kind in SHAPES]
    check_method(attribution.gradient, shapes=("vector",), clauses=quick(METHOD_CLAUSES, "gradient", attribution.__all__), **cases.said("new"))
    check_metric(metrics.entropy, shapes=("vector",), clauses=("result", "key", "bad maps"), **metric_cases.said("new", "vector"))
    with pytest.raises(AssertionError, match="clue has no default for generator, and the check was given no generator"):
        check_search(counterfactual.clue, **search_cases.CASES.get("new", {}))


@pytest.mark.parametrize("name", scores.__all__)
def test_score(name):
    check_score(getattr(uncertainty, name), clauses=quick(SCORE_CLAUSES, name, scores.__all__), **score_cases.said(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", scores.__all__)
def test_score_of_every_clause(name):
    check_score(getattr(uncertainty, name), **score_cases.said(name))
