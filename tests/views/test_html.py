"""Views of results: HTML that parses, with the values in it, escaped, of batches and of traced values, too."""

import html.parser

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jxai import evaluate
from jxai.attribution.verified import eva_certificate
from jxai.bounds import certify
from jxai.certificates import verify
from jxai.counterfactual import Counterfactual
from jxai.sufficiency import DisjointPair, OverlappingPair, SufficientSubset
from jxai.sufficiency.minimal import MinimalExplanation
from jxai.views import html as views

VOID = {"img"}


class Parser(html.parser.HTMLParser):
    """Cells, captions and pictures; fails where tags do not close."""

    def __init__(self, text):
        super().__init__()
        self.open, self.cells, self.rows, self.pictures = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.pictures.append(dict(attributes)["src"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.cells.append(data)
        if self.open[-1] in ("th", "td"):
            self.rows.append(data)

    def said(self):
        """What the table says, by name."""
        return dict(zip(self.rows[::2], self.rows[1::2]))


X = jnp.linspace(0, 1, 27).reshape(3, 3, 3)
SEGMENTS = jnp.arange(9).reshape(3, 3)
f = jax.tree_util.Partial(lambda w, v: v.reshape(-1) @ w, jnp.asarray(np.random.default_rng(0).normal(size=(27, 3)).astype(np.float32)))
HELD = jnp.arange(9) < 4


def results():
    curve = jnp.asarray([0.9, 0.6])
    subset = SufficientSubset(jnp.int32(2), HELD, SEGMENTS, 0 * X, jnp.float32(0.5), curve[-1], jnp.zeros(9, int), curve, "probability", None)
    both = jnp.asarray([0, 1]), jnp.stack([HELD, ~HELD]), SEGMENTS, jnp.stack([X, X]), jnp.float32(0.8), 0.5 * jnp.ones((2, 2)), jnp.ones(2)
    one = jnp.asarray([0, 1]), HELD, SEGMENTS, X, jnp.float32(0.8), 0.5 * jnp.ones(2), jnp.ones(2)
    free = MinimalExplanation(jnp.int32(0), HELD, SEGMENTS, 0 * X, jnp.arange(9), jnp.zeros(10), jnp.float32(1), jnp.inf, None, "crown", "outward", None)
    return {
        "Counterfactual": Counterfactual(X, None, jnp.asarray([0.0, 2.0, 1.0]), jnp.asarray(True), jnp.int32(17)),
        "RobustnessCertificate": certify(f, X, 0.01, method="interval"),
        "SufficientSubset": subset,
        "DisjointPair": DisjointPair(*both, "logit", None),
        "OverlappingPair": OverlappingPair(*one, "logit", None),
        "MinimalExplanation": free,
        "EvaCertificate": eva_certificate(f, X, 1, radius=0.1, grid=3, bound="interval"),
    }


EXPECTED = {
    "Counterfactual": ({"valid": "yes", "steps": "17", "class": "1", "logits": "0, 2, 1", "x": "float32 [3, 3, 3], 0 to 1"}, 1),
    "RobustnessCertificate": ({"region": "Box of p = inf", "method": "interval, rounded outward"}, 0),
    "SufficientSubset": ({"held": "4 of 9", "probability": "0.6", "threshold": "0.5", "says nothing of x": "no"}, 1),
    "DisjointPair": ({"holds": "no", "labels": "0, 1", "δ": "0.8", "segments removed": "4, 5"}, 2),
    "OverlappingPair": ({"segments removed": "4", "shares left": "0.5, 0.5"}, 1),
    "MinimalExplanation": ({"held": "4 of 9", "margin": "1", "p": "inf"}, 1),
    "EvaCertificate": ({"target": "1", "adversary": "none"}, 1),
}


@pytest.fixture(scope="module")
def made():
    return results()


@pytest.mark.parametrize("name", EXPECTED)
def test_a_result_shows_its_values(made, name):
    text = made[name]._repr_html_()
    parsed, (values, pictures) = Parser(text), EXPECTED[name]
    assert parsed.cells[0] == name and values.items() <= parsed.said().items()
    if pytest.importorskip("PIL"):
        assert len(parsed.pictures) == pictures and all(source.startswith("data:image/png;base64,") for source in parsed.pictures)
    assert len(text) < 8000


@pytest.mark.parametrize("name", ["Counterfactual", "RobustnessCertificate", "SufficientSubset", "OverlappingPair"])
def test_a_batch_and_a_trace_have_views_too(made, name):
    batch = jax.tree.map(lambda v: jnp.stack([v, v]), made[name])
    assert Parser(batch._repr_html_()).rows
    seen = []

    def look(result):
        seen.append(result._repr_html_())
        return 0

    jax.jit(look)(made[name])
    jax.vmap(lambda result: look(result) + jnp.zeros(()))(batch)
    for text in seen:
        assert "traced" in text and not Parser(text).pictures


def test_a_verdict_and_what_is_escaped(made):
    verdict = verify(f, X, made["RobustnessCertificate"])
    assert Parser(verdict._repr_html_()).cells[0] == ("holds" if verdict.holds else "does not hold")
    assert "1, must exceed 0" in Parser(verdict._repr_html_()).cells
    text = views.table("<script>", {"a&b": "x<y", "bad\udce9": np.asarray([np.nan, 1.0])})
    assert "<script>" not in text and {"<script>", "a&b", "x<y", "nan, 1"} <= set(Parser(text).cells)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "none"),
        (np.float32(0.5), "0.5"),
        (jnp.asarray([True, False]), "1 of 2"),
        (np.zeros((2, 0)), "float64, empty"),
        (np.asarray([np.nan] * 9 + [2.0]), "float64 [10], 2 to 2, 9 not finite"),
        (np.asarray(["a"]), "<U1 [1]"),
    ],
)
def test_values_in_words(given, words):
    assert views.value(given) == words


def test_a_key_is_told_by_its_type():
    assert views.value(jax.random.split(jax.random.key(0), 3)) == "key<fry> [3]"


def test_a_run_shows_its_means(tmp_path):
    from jxai import data

    x = np.random.default_rng(0).uniform(size=(5, 3, 3, 3)).astype(np.float32)
    run = evaluate.run(f, data.Arrays(x), ["gradient"], ["sparseness"], tmp_path / "a<b")
    parsed, table = Parser(run._repr_html_()), run.table()
    assert {"run a<b", "5 done, 0 of them failed", "gradient", f"{table['score/gradient/sparseness'].mean():.4g}"} <= set(parsed.cells)
    del run.config["methods"]  # as a run of certificates or counterfactuals
    assert Parser(run._repr_html_()).said()["valid"] == "5 of 5"
