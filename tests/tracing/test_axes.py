"""Where the entries of values lie: coordinates against closed forms, and the layer that is taken through every operation that moves, joins or hides positions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from layer_probes import LAST, PICTURE, PICTURES, SERIES, W, attend, conv, picture, series
from zoo.layers import avg_pool

from jxai import taps
from jxai.tracing import axes, interpret

RNG = np.random.default_rng(0)
X = RNG.normal(size=(16, 16, 3)).astype(np.float32)


def place_of(fn, x=X):
    """The place of fn(x), and its map."""
    program = interpret.flatten(interpret.trace(fn, x), interpret.everywhere)
    place = axes.places(program).get(program.outputs[0])
    return place, axes.grid(place, program.avals[program.outputs[0]].shape)


def lines(fn, x=X):
    """The coordinates of fn(x) along each position axis of x, without axes that they do not change on."""
    place, _ = place_of(fn, x)
    return [np.squeeze(c).tolist() for c in place.fields[0].coordinates]


def test_coordinates_are_those_of_the_entries():
    row = np.arange(16.0)
    cases = [
        (lambda x: x[3:9:2], [3, 5, 7], row),
        (lambda x: jnp.roll(x, 2, 0)[::-1], np.roll(row, 2)[::-1], row),
        (lambda x: x.reshape(8, 2, 16, 3).mean(1), row[::2] + 0.5, row),
        (lambda x: jnp.repeat(x, 2, 1), row, np.arange(32) / 2 - 0.25),
        (lambda x: x.transpose(2, 1, 0)[None], row, row),
        (lambda x: jnp.pad(x, ((1, 0), (0, 0), (0, 0))), [np.nan, *row], row),
        (lambda x: conv(x, jnp.ones((2, 3, 3, 5)), 2), row[::2] + 0.5, row[::2] + 1),
        (lambda x: jax.lax.reduce_window(x, -1e30, jax.lax.max, (2, 2, 1), (2, 2, 1), "VALID"), row[::2] + 0.5, row[::2] + 0.5),
        (lambda x: jax.image.resize(x, (8, 8, 3), "linear", antialias=False), row[::2] + 0.5, row[::2] + 0.5),
        (lambda x: x[1:] - x[:-1], row[1:] - 0.5, row),
        (lambda x: x[np.array([4, 2, 2])], [4, 2.5, 1.5], row),
        (lambda x: jax.lax.dynamic_slice(x, (14, 0, 0), (4, 16, 3)), [12, 13, 14, 15], row),
        (lambda x: jax.lax.map(lambda v: v * 2, x), row, row),
        (lambda x: jnp.stack(jnp.unstack(x)[::-1]), row[::-1], row),
    ]
    for n, (fn, down, across) in enumerate(cases):
        found = lines(fn)
        assert np.allclose(found[0], down, equal_nan=True) and np.allclose(found[1], across), n


def test_what_reads_all_along_an_axis_has_no_coordinate_there_and_an_attention_matrix_has_two_fields():
    assert place_of(lambda x: x.mean((0, 1)))[0].fields == () == place_of(lambda x: x.reshape(-1) @ jnp.ones((768, 4)))[0].fields
    assert place_of(lambda x: x.mean(0))[0].fields[0].coordinates[0] is None
    matrix, grid = place_of(lambda x: x.reshape(256, 3) @ x.reshape(256, 3).T)
    assert [field.axes for field in matrix.fields] == [{0}, {1}] and grid is None
    mixed, grid = place_of(lambda x: jax.nn.softmax(x.reshape(256, 3) @ x.reshape(256, 3).T) @ x.reshape(256, 3))
    assert [field.axes for field in mixed.fields] == [{0}] and grid.shape == (16, 16)
    hidden, grid = place_of(lambda x: jnp.fft.fft(x, axis=0).real)
    assert hidden.lost == "fft" and not hidden.fields and grid is None


def windows(x, n=4):
    h, w, c = x.shape
    return x.reshape(h // n, n, w // n, n, c).transpose(0, 2, 1, 3, 4).reshape(-1, n * n, c)


SCRAMBLED = {
    "flipped": lambda x: x[::-1, ::-1],
    "channels first": lambda x: x.transpose(2, 0, 1),
    "rows and columns exchanged": lambda x: x.transpose(1, 0, 2),
    "tokens": lambda x: x.reshape(256, 3),
    "tokens behind a class token": lambda x: jnp.concatenate([jnp.ones((2, 3)), x.reshape(256, 3), jnp.zeros((1, 3))]),
    "windows": windows,
    "shifted windows": lambda x: windows(jnp.roll(x, (-2, -2), (0, 1))),
    "shuffled": lambda x: x[np.random.default_rng(1).permutation(16)],
    "set into zeros": lambda x: jnp.zeros((20, 18, 3)).at[2:18, 1:17].set(x),
    "bordered": lambda x: jnp.pad(x, ((2, 1), (0, 3), (0, 0))),
}


@pytest.mark.parametrize("name", SCRAMBLED)
def test_a_map_is_laid_out_as_x_is(name):
    """`to_map` undoes what moved the entries; `channels` numbers each entry by the channel that it is there."""
    f = lambda x: (SCRAMBLED[name](jnp.tanh(x)) * 2).sum()
    layer = next(item for item in reversed(taps.layers(f, X)) if item.primitive == "mul")
    value = np.asarray(SCRAMBLED[name](np.tanh(X)) * 2)
    assert np.allclose(taps.to_map(value, layer), np.tanh(X) * 2, atol=1e-6)
    numbers = np.broadcast_to(taps.channels(layer), value.shape)
    for k in range(3):
        assert np.allclose(taps.to_map(np.where(numbers == k, 0, value), layer)[..., k], 0)
        assert np.allclose(taps.to_map(np.where(numbers == k, 0, value), layer)[..., (k + 1) % 3], np.tanh(X)[..., (k + 1) % 3] * 2, atol=1e-6)


def test_patches_folded_into_channels_are_laid_out_again():
    fold = lambda x: jnp.tanh(x).reshape(8, 2, 8, 2, 3).transpose(0, 2, 1, 3, 4).reshape(64, 12)
    layer = taps.layers(lambda x: fold(x).sum(), X)[-2]
    assert layer.shape == (64, 12) and np.allclose(taps.to_map(np.asarray(fold(X)), layer), np.tanh(X), atol=1e-6)


def test_a_picture_and_its_mirror_image_share_positions():
    """Two copies of each position are two sets of channels, the mirrored one turned back; each channel is numbered as it is laid out."""
    both = lambda x: jnp.stack([jnp.tanh(x), jnp.tanh(x[:, ::-1]) * 2])
    layer = next(item for item in reversed(taps.layers(lambda x: both(x).sum(), X)) if item.shape == (2, 16, 16, 3))
    value = np.asarray(both(X))
    laid = np.asarray(taps.to_map(value, layer))
    assert layer.grid.depth == 2 and np.allclose(laid, np.concatenate([np.tanh(X), 2 * np.tanh(X)], -1), atol=1e-6)
    numbers = np.broadcast_to(taps.channels(layer), value.shape)
    for k in range(6):
        without = np.asarray(taps.to_map(np.where(numbers == k, 0, value), layer))
        assert not without[..., k].any() and np.allclose(np.delete(without, k, -1), np.delete(laid, k, -1))


def check(f, x, expected):
    """The layer that None finds is the expected rectifier, or an error that says why."""
    relus = [item.index for item in taps.layers(f, x) if item.primitive == "relu"]
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=expected):
            taps.find(f, x)
    else:
        found = taps.find(f, x)
        # Where the operation reads across positions, the last value may be the first rectifier's, moved.
        assert found.index == relus[expected] or (expected == 0 and found.primitive in ("reshape", "select_n", "add", "rev")), f"takes {found}"
        assert found.index < relus[1] or expected == -1


@pytest.mark.parametrize("name", PICTURES)
def test_the_layer_taken_in_pictures(name):
    operation, expected = PICTURES[name]
    check(*picture(operation), expected)


@pytest.mark.parametrize("name", SERIES)
def test_the_layer_taken_in_series(name):
    operation, expected = SERIES[name]
    check(*series(operation), expected)


MOVING = """circular padding, reflect padding, edge padding, crop, roll both, flip, rot90, transpose, resize bilinear, resize nearest, repeat, transposed convolution,
average pooling, max pooling, strided convolution, dilated convolution, attention of pixels, set a border, add at, map over rows, scan over rows, loop of known length,
cond on the data, checkpoint, custom derivative, sort of channels, cumulative sum, layer norm, instance norm, squeeze and excite, coordinate attention, where,
two branches joined, rows stacked, split, differences, half precision, depth to space and back"""
OWN = {
    "attention of pixels": lambda h: h + attend(h.reshape(-1, h.shape[-1])).reshape(h.shape),
    "two branches joined": lambda h: jnp.concatenate([h[..., :2], jnp.roll(h, 1, 0)[..., 2:]], -1),
    "rows stacked": lambda h: jnp.stack([h[n] for n in range(len(h))][::-1]),
    "split": lambda h: jnp.concatenate(jnp.array_split(h, 2, 1)[::-1], 1),
    "depth to space and back": lambda h: h.reshape(*h.shape[:2], 2, 2, 1).transpose(0, 2, 1, 3, 4).reshape(2 * h.shape[0], 2 * h.shape[1], 1) * jnp.ones(4),
}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(150))
def test_random_networks_are_read_at_their_last_value_with_positions(seed):
    """Three to five operations, each before a layer and a rectifier of its own; the last rectifier is what the class is reached from."""
    rng = np.random.default_rng(seed)
    names = rng.choice([" ".join(name.split()) for name in MOVING.split(",")], rng.integers(3, 6))

    def f(x):
        h = jax.nn.relu(conv(x, W["first"]))
        for name in names:
            h = jax.nn.relu(OWN.get(name, PICTURES.get(name, (None,))[0])(h) @ W["square"])
            h = avg_pool(h) if h.shape[0] > 40 else h
        return h.mean((0, 1)) @ LAST[4]

    x = np.kron(PICTURE, np.ones((3, 3, 1), np.float32))
    relus = [item.index for item in taps.layers(f, x) if item.primitive == "relu"]
    found = taps.find(f, x)
    assert found.index >= relus[-1], (list(names), found)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), [*(("picture", n) for n in PICTURES), *(("series", n) for n in SERIES)])
def test_the_map_lies_where_x_moves_it(kind, name):
    """By derivatives: the cells of the map, from the first row to the last, are moved by entries of x from the first to the last."""
    operation, expected = (PICTURES if kind == "picture" else SERIES)[name]
    if isinstance(expected, str) or name in ("attention without a skip", "window attention", "max pooling from a finite start"):
        return  # attention alone moves every entry as much as any other, and JAX has no derivative of the last
    f, x = (picture if kind == "picture" else series)(operation)
    layer = taps.find(f, x)
    slopes = jax.jit(jax.jacfwd(lambda x: (taps.to_map(taps.read(f, x, layer.index), layer) ** 2).sum(-1)))(x)
    strength = np.abs(np.asarray(slopes)).sum(-1) ** 2  # [map, positions of x]
    rank = x.ndim - 1
    for axis in range(rank):
        along = np.arange(x.shape[axis]).reshape([-1 if d == axis else 1 for d in range(rank)])
        total = strength.sum(tuple(range(rank, 2 * rank)))
        centre = (strength * along).sum(tuple(range(rank, 2 * rank))) / np.where(total > 0, total, np.nan)
        inner = (
            np.moveaxis(centre, axis, 0)[2:-2] if strength.shape[axis] > 6 else np.moveaxis(centre, axis, 0)[1:-1]
        )  # without the ends, which may be wrapped around
        place, live = np.broadcast_to(np.arange(len(inner)).reshape(-1, *[1] * (rank - 1)), inner.shape), np.isfinite(inner)
        if len(inner) > 1 and live.sum() > 2 and np.ptp(inner[live]) > 1:
            assert np.corrcoef(place[live], inner[live])[0, 1] > 0.3, (axis, inner.round(2))


def test_constants_of_another_type_are_other_constants():
    """What a program computes of constants is kept by what is computed: casts to two types are two values."""

    def value(dtype):
        cast = lambda x: x * jnp.full(x.shape, 2.7).astype(dtype).astype(jnp.float32)
        program = interpret.flatten(interpret.trace(cast, X), interpret.everywhere)
        return program.folded(next(step.inputs[1] for step in program.steps if step.primitive == "mul"))

    assert (value(jnp.int32) == 2).all() and (value(jnp.bfloat16) == np.float32(2.703125)).all()
