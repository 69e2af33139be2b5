"""What an answer does not show by itself is said where values are concrete: a fill that has the class, a derivative that sees nothing."""

import functools
import inspect
import warnings

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from metrics import metric_cases

from jxai import attribution, fills, metrics
from jxai.removal import doubts
from jxai.testing import example, network

X = np.float32([[0.9, 0.2], [0.6, 0.7]])[..., None]
KEY = jax.random.key(0)


def dark(x):
    """Class 0 where there is no light, as of radiographs."""
    return jnp.stack([1 - x.mean(), x.mean()])


def steps(x):
    return (x > 0.5).sum() * 1.0


def said(call):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        call()
    return [str(one.message) for one in found if issubclass(one.category, UserWarning)]


def test_a_fill_that_has_the_class_already_is_said_and_another_is_not():
    say = lambda target, fill, score="logit", **o: said(lambda: doubts.kept_by_fill("deletion", dark, X, target, fill, score=score, **o))
    (text,) = say(0, 0.0)
    assert text.startswith("deletion: x with everything replaced (fill=0.0) is of class 0 already") and "target=0" in text
    assert not say(1, 0.0) and not say(0, 1.0) and not say(0, 0.5) and not say(None, 0.0)
    assert not said(lambda: jax.eval_shape(lambda: doubts.kept_by_fill("deletion", dark, X, 0, 0.0, score="logit")))
    assert "(fill=Uniform)" in say(0, fills.Uniform(0.0, 0.1), key=KEY)[0] and not say(0, fills.Uniform(0.0, 0.1))
    (text,) = said(lambda: attribution.feature_ablation(dark, X, 0, grid=2))
    assert text.startswith("feature_ablation: ")
    # Labels of which several may hold, and one logit, are had above 0: none of them is had for being the likeliest.
    assert "of class 1 already" in say(1, 1.0, score="sigmoid")[0] and say(0, 0.5, score="sigmoid") and not say(0, 1.0, score="sigmoid")
    findings = lambda x: jnp.stack([x.sum() - 3, x.sum() - 4])
    assert not said(lambda: attribution.feature_ablation(findings, X, 0, grid=2, score="sigmoid")) and said(
        lambda: attribution.feature_ablation(findings, X, 0, grid=2)
    )
    one = lambda sign: said(lambda: attribution.feature_ablation(lambda x: sign * (x.sum() + 1)[None], X, 0, grid=2))
    assert one(1) and not one(-1)


def test_a_warning_points_at_the_line_that_asked_and_not_at_what_traces_it():
    xrai = functools.partial(attribution.xrai, dark, X, 1, segments=np.zeros((2, 2), int), method_options={"steps": 1})
    for call in (lambda: jax.eval_shape(lambda: xrai()), lambda: jax.eval_shape(xrai)):
        with pytest.warns(UserWarning, match="segments are one") as found:
            call()
        assert found[0].filename == __file__


def test_what_a_fill_solves_is_solved_in_one_program(monkeypatch):
    """Eagerly, each step of a solver would be a program of its own: seconds for every call of `road`."""
    seen = []
    monkeypatch.setattr(fills.Blur, "__call__", lambda self, x, m, key: seen.append(x) or 0 * x)
    assert said(lambda: doubts.kept_by_fill("road", dark, X, 0, fills.Blur(), score="logit"))
    assert isinstance(seen[0], jax.core.Tracer)


QUICK = {"deletion", "integrated_gradients", "average_drop"}
TAKERS = [(family, name) for family in (attribution, metrics) for name in family.__all__]
TAKERS = [(*one, option) for one in TAKERS for option in ("fill", "baseline") if option in inspect.signature(getattr(*one)).parameters]


@pytest.mark.parametrize(("family", "name", "option"), [pytest.param(*one, marks=() if one[1] in QUICK else pytest.mark.slow) for one in TAKERS])
def test_every_method_and_metric_that_removes_asks_whether_it_does(family, name, option, monkeypatch):
    asked = []
    monkeypatch.setattr(doubts, "concrete", lambda *given: asked.append(given))
    table = cases if family is attribution else metric_cases
    shape = (6, 6, 1)
    x, f = example(shape), network(shape)
    given = () if family is attribution else (x,)
    jax.eval_shape(lambda: getattr(family, name)(f, x, 0, *given, KEY, **table.options(name, shape, **{option: 0.25})))
    assert any(len(one) == 5 and one[2:4] == (0, 0.25) for one in asked)


@pytest.mark.parametrize(
    "method", ["gradient", "integrated_gradients", pytest.param("input_x_gradient", marks=pytest.mark.slow), pytest.param("smoothgrad", marks=pytest.mark.slow)]
)
def test_a_map_without_slopes_of_a_score_that_moves_is_said(method):
    explain = lambda f, **o: getattr(attribution, method)(f, X, None, KEY)
    assert any("the map is 0 everywhere, yet the score moves from 3 at x to 0 elsewhere" in text for text in said(lambda: explain(steps)))
    assert not said(lambda: explain(lambda x: 0 * x.sum() + 2)) and not said(lambda: explain(lambda x: x.sum()))


def test_a_map_that_a_rule_empties_is_not_taken_for_a_score_without_slopes():
    """Guided backpropagation stops all that speaks against a class: its map of evidence against it is 0, and the derivative is not."""
    against, dead = (lambda x: 9 - jax.nn.relu(x).sum()), (lambda x: steps(x) + jax.nn.relu(x - 5).sum())
    smooth = lambda f: attribution.smoothgrad(f, X, None, KEY, num_samples=2, method=attribution.guided_backprop)
    assert not said(lambda: attribution.guided_backprop(against, X, None)) and not said(lambda: smooth(against))
    (text,) = said(lambda: attribution.guided_backprop(dead, X, None))
    assert text.startswith("guided_backprop: the map is 0 everywhere, yet the score moves from 3 at x to 0 elsewhere: its derivative is 0 there")
    assert any(text.startswith("smoothgrad: ") for text in said(lambda: smooth(dead)))
