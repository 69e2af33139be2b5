"""Relevance by channel, and what one place of a channel saw: by hand, by conservation and by what lies outside of its field."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from concept_runs import DENSE, KERNEL, hidden, model

from jxai import concepts, data, taps
from jxai.concepts.channels import by_channel

pytestmark = pytest.mark.usefixtures("quick_compilation")

X = np.float32(data.Digits()[4].pixels) / 255
EPSILON = {"composite": "epsilon", "epsilon": 1e-9}


def test_channel_relevance_by_hand():
    """Below the sum over positions each entry has its own part of the logit."""
    wanted = (hidden(X) * DENSE[:, 4]).sum((0, 1))
    found = concepts.channel_relevance(model(), X, 4, **EPSILON)
    assert np.allclose(found, wanted, rtol=1e-4)
    assert np.isclose(found.sum(), model()(X)[4], rtol=1e-4)
    shares = concepts.channel_relevance(model(), X, 4, normalise=True, **EPSILON)
    assert np.allclose(shares, wanted / np.abs(wanted).sum(), rtol=1e-4)
    largest = concepts.channel_relevance(model(), X, 4, reduction="max", **EPSILON)
    assert np.allclose(largest, (hidden(X) * DENSE[:, 4]).max((0, 1)), rtol=1e-4)


@pytest.mark.slow
def test_classes_by_vmap():
    every = jax.vmap(lambda target: concepts.channel_relevance(model(), X, target, **EPSILON))(jnp.arange(10))
    for target in range(10):
        assert np.allclose(every[target], concepts.channel_relevance(model(), X, target, **EPSILON), rtol=1e-4, atol=1e-5)


def test_the_class_token_counts_and_windows_are_undone():
    """Tokens with a class token in front; and a value whose positions are folded into its channels."""
    x = jnp.asarray(np.random.default_rng(0).uniform(size=(4, 4, 3)).astype(np.float32))

    def tokens(x):
        patches = x.reshape(2, 2, 2, 2, 3).transpose(0, 2, 1, 3, 4).reshape(4, 12)
        return jnp.tanh(jnp.concatenate([jnp.full((1, 12), 0.5), patches]))[0]

    layer = next(one for one in taps.layers(tokens, x) if one.primitive == "tanh")
    value = taps.read(tokens, x, layer.index)
    found = by_channel(value, layer)
    # 2 × 2 patches whose pixels are positions of their own: 3 channels; the class token's entries are channels of the first inner place.
    mapped = taps.to_map(value, layer)
    assert np.isclose(found.value.sum(), value.sum(), rtol=1e-6)
    assert np.array_equal(found.position, mapped.reshape(-1, mapped.shape[-1]).argmax(0))
    numbers = np.broadcast_to(taps.channels(layer), value.shape)
    assert np.allclose(found.value, np.bincount(numbers.ravel(), np.asarray(value).ravel()), rtol=1e-5)


def test_a_layer_without_positions_has_its_last_axis():
    found = concepts.channel_relevance(model(), X, 4, "[1]", **EPSILON)
    assert found.shape == (10,) and np.isclose(found[4], model()(X)[4], rtol=1e-5) and np.allclose(np.delete(found, 4), 0)


def test_what_a_place_saw_by_hand():
    """By the ε rule the map of a place is kernel × pixels where it is live, 0 elsewhere and outside of its field."""
    channel, position = 3, int(hidden(X)[..., 3].argmax())
    found = concepts.reference_map(model(), X, None, channel, position, **EPSILON)
    row, column = divmod(position, 8)
    padded, wanted = np.pad(X[..., 0], 1), np.zeros((10, 10))
    wanted[row : row + 3, column : column + 3] = padded[row : row + 3, column : column + 3] * KERNEL[..., 0, channel]
    assert np.allclose(found.map[..., 0], wanted[1:-1, 1:-1], atol=1e-5)
    assert found.field.tolist() == [[max(row - 1, 0), min(row + 2, 8)], [max(column - 1, 0), min(column + 2, 8)]]
    assert np.isclose(found.map.sum(), hidden(X)[row, column, channel], rtol=1e-4)


def test_relevance_started_at_every_place_adds_up_to_the_whole_map():
    f, target = model(), 4
    every = jax.jit(
        jax.vmap(jax.vmap(lambda c, p: concepts.reference_map(f, X, None, c, p, start="relevance", target=target, **EPSILON), (None, 0)), (0, None))
    )
    found = every(jnp.arange(6), jnp.arange(64))
    whole = concepts.channel_relevance(f, X, target, **EPSILON)
    assert np.allclose(found.map.sum((1, 2, 3, 4)), whole, rtol=1e-3, atol=1e-4)
    outside = np.ones((64, 8, 8), bool)
    for position in range(64):
        (top, bottom), (left, right) = np.asarray(found.field[0, position])
        outside[position, top:bottom, left:right] = False
    assert not np.asarray(found.map)[:, outside].any() and np.asarray(found.map).any()


def test_the_crop_is_the_shortest_span_that_holds_the_share():
    map_ = np.zeros((8, 6, 1), np.float32)
    map_[2:5, 1] = [[-1.0], [8.0], [1.0]]
    found = concepts.ReferenceMap(map_, np.asarray([[1, 7], [0, 6]]))
    assert concepts.crop(found, 0.8) == ((3, 4), (1, 2)) and concepts.crop(found, 0.85) == ((2, 4), (1, 2)) and concepts.crop(found, 1.0) == ((2, 5), (1, 2))
    assert concepts.crop(found._replace(map=0 * map_)) == ((1, 7), (0, 6))
    for share in (0, 1.1):
        with pytest.raises(ValueError, match=f"share={share} must be in"):
            concepts.crop(found, share)
    with pytest.raises(ValueError, match=r"found\.map must be finite"):
        concepts.crop(found._replace(map=np.full((8, 6, 1), np.nan)))


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((None, 6, 0), {}, r"channel=6 must be in \[0, 6\)"),
        ((None, 0, 64), {}, r"position=64 must be in \[0, 64\)"),
        ((None, 0, -1), {}, r"position=-1 must be in \[0, 64\)"),
        ((None, 1.5, 0), {}, r"channel=1.5 must be one integer in \[0, 6\)"),
        ((None, 0, 0), {"start": "gradient"}, r"start='gradient' must be one of 'activation', 'relevance'"),
        (("nowhere", 0, 0), {}, r"layer='nowhere' is part of no layer's name"),
    ],
)
def test_bad_input(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        concepts.reference_map(model(), X, *arguments, **options)


def test_a_traced_place_out_of_range_gives_nan():
    found = jax.jit(lambda p: concepts.reference_map(model(), X, None, 0, p, **EPSILON).map)(jnp.asarray(64))
    assert np.isnan(found).all()


def test_pixels_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="must be finite"):
        concepts.channel_relevance(model(), np.full_like(X, np.nan), 4)


def test_a_convolution_is_its_value_with_the_bias():
    """As a layer, what a convolution gives is what leaves it after its bias: the map and what the bias took are that value."""
    kernel, bias = jnp.asarray(KERNEL), jnp.linspace(-0.5, 0.5, 6)

    def net(w, x):
        h = jax.lax.conv_general_dilated(x[None], w[0], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")) + w[1]
        return jnp.tanh(h[0]).mean((0, 1))

    f = jax.tree_util.Partial(net, [kernel, bias])
    convolved, added = (taps.read(f, X, layer)[0, 4, 4, 5] for layer in ("[0]", "[1]"))
    for layer in ("[0]", "[1]"):
        found = concepts.reference_map(f, X, layer, 5, 36, **EPSILON)
        # The bias keeps its share of the value that leaves the layer: value · (z − b) / z.
        assert np.isclose(found.map.sum(), convolved, rtol=1e-4) and not np.isclose(convolved, added)


def test_a_portrait_refuses_what_is_not_there():
    digits, none = data.Digits(), np.zeros((6, 1), int)
    found = concepts.References(none, np.zeros((6, 1)), none)
    cases = [
        ({"channels": [1, 6]}, r"channels=\[1, 6\] must be in \[0, 6\)"),
        ({"channels": []}, r"channels=\[\] must be in \[0, 6\)"),
        ({"top": 0}, "top=0 must be a positive integer"),
        ({"found": concepts.References(none[:5], none[:5], none[:5])}, "found must hold references of the layer's 6 channels, got those of 5"),
        ({"by": "gradient"}, "by='gradient' must be one of"),
    ]
    for change, message in cases:
        with pytest.raises(ValueError, match=message):
            concepts.portrait(model(), X, 4, None, **{"found": found, "source": digits, **EPSILON, **change})
    with pytest.raises(ValueError, match=r"channels=\[7\] must be in \[0, 6\)"):
        concepts.reference_crops(model(), None, found, digits, [7])
