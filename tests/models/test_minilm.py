"""The sentence encoder: its vectors are sentence-transformers', and what it knows of SST-2."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jxai import data, models
from jxai.tracing import interpret
from jxai.tracing.attention import attentions
from jxai.tracing.normalisations import normalisations

PUBLISHED = {  # the first four of 384 numbers, by sentence-transformers 6.2 and PyTorch 2.14
    "The cat sits on the mat.": (0.13417704, -0.03290033, -0.02480378, 0.04143901),
    "A dog doesn't run (in the park)!": (0.09545449, -0.01854616, 0.08291025, 0.02619699),
    "Café naïve — 東京 is unaffable.": (0.1381011, 0.01893532, 0.07297546, -0.00554367),
}


@pytest.fixture(scope="module")
def encoder():
    try:
        return models.minilm()
    except ImportError as missing:
        pytest.skip(str(missing))


@jax.jit
def padded(model, x, mask):
    tokens = model.tokens(x, mask)
    return model(x, mask), jnp.where(mask[:, None], tokens, 0).sum(0) / mask.sum()


def vectors(model, tokenizer, text, size=16):
    """The embedding, and the mean of the tokens' vectors, padded to one length."""
    ids = tokenizer(text).ids
    size *= -(-len(ids) // size)
    mask = np.arange(size) < len(ids)
    return padded(model, model.embed(np.where(mask, np.resize(ids, size), 0)), mask)


def test_vectors_are_the_published_ones(encoder):
    found = np.stack([vectors(*encoder, text)[0] for text in PUBLISHED])
    np.testing.assert_allclose(found[:, :4], list(PUBLISHED.values()), atol=1e-5)
    np.testing.assert_allclose(found @ found.T, [[1, 0.096237, -0.0742255], [0.096237, 1, 0.2141839], [-0.0742255, 0.2141839, 1]], atol=1e-5)


@pytest.mark.slow
def test_padding_changes_nothing(encoder):
    model, tokenizer = encoder
    text = next(iter(PUBLISHED))
    alone = jax.jit(lambda f, x: f(x))(model, model.embed(tokenizer(text).ids))
    np.testing.assert_allclose(vectors(model, tokenizer, text, 32)[0], alone, atol=1e-6)


def test_words_are_those_of_the_text(encoder):
    tokens = encoder[1]("Café is unaffable, isn't it?")
    assert tokens.words == ("Café", "is", "unaffable", ",", "isn", "'", "t", "it", "?")
    assert tokens.pieces[:6] == ("[CLS]", "cafe", "is", "una", "##ffa", "##ble")
    by_word = tokens.by_word(np.where(np.array(tokens.pieces) == "##ffa", 2.0, 1.0))
    assert list(by_word) == [1, 1, 4, 1, 1, 1, 1, 1, 1]
    assert list(tokens.by_word(np.arange(13.0), mean=True))[1:4] == [2, 4, 6]
    with pytest.raises(ValueError, match="text='' has no words"):
        encoder[1]("")
    with pytest.raises(ValueError, match="text is of 302 tokens, of which the model knows 256"):
        encoder[1]("word " * 300)


def test_attention_and_norms_are_found_in_it():
    """Random weights, one layer: what is found hangs on none."""
    abstract = jax.eval_shape(lambda: models.MiniLM(1, rngs=nnx.Rngs(0)))
    model = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), abstract)
    program = interpret.flatten(interpret.trace(model, jnp.zeros((5, 384))), interpret.everywhere)
    (found,) = attentions(program)
    assert (found.queries, found.keys, found.heads) == ((1,), (2,), (0,))
    norms = normalisations(program)
    assert [one.centred for one in norms] == [True, True, True, False]  # three LayerNorms, and the vector's own norm
    with pytest.raises(ValueError, match=r"x must be embeddings of 1 to 512 tokens, \[T, 384\], got shape \(5, 3\)"):
        jax.eval_shape(model, jax.ShapeDtypeStruct((5, 3), jnp.float32))


@pytest.mark.slow
def test_a_linear_head_on_it_tells_good_from_bad(encoder):
    """A published figure of 78.8 % of 250 test sentences, by a head on 500; here by logistic regression on the first ones, measured 77.6 %."""
    from sklearn.linear_model import LogisticRegression

    try:
        (texts, labels), (held, truth) = data.sst2("train"), data.sst2("test")
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
    means = [np.stack([vectors(*encoder, text)[1] for text in some]) for some in (texts[:500], held[:250])]
    head = LogisticRegression(C=0.1, max_iter=5000).fit(means[0], labels[:500])
    assert head.score(means[1], truth[:250]) >= 0.75
