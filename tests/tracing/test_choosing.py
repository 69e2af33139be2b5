"""The layer that is meant where none is named: not the picture itself, not an output's own map, not one that nothing but a step of reaches the class."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.tree_util import Partial
from layer_probes import PICTURE, ROW, W, conv, normal, picture, windows

from jxai import taps
from jxai.attribution import ablation_cam, grad_cam, hires_cam, score_cam

LOGITS = normal(4, 5)
MASK = np.zeros((8, 8, 1), np.float32)
MASK[2:5, 3:6] = 1


def features(w, x):
    return jax.nn.relu(conv(jax.nn.relu(conv(x, w["first"])), w["kernel"]))


def segmented(target):
    return Partial(lambda w, x: target(features(w, x) @ LOGITS), W)


TARGETS = {
    "a class's mean": lambda m: m[..., 2].mean(),
    "a class in a region": lambda m: m[2:5, 3:6, 2].sum(),
    "a masked class": lambda m: (m * MASK).sum((0, 1)),
    "a region": lambda m: m[2:5, 3:6].mean((0, 1)),
    "a resized class": lambda m: jax.image.resize(m, (16, 16, 5), "bilinear")[4:10, 6:12, 2].sum(),
    "a class's sigmoid": lambda m: jax.nn.sigmoid(m[..., :1]).mean(),
}


@pytest.mark.parametrize("name", TARGETS)
def test_an_outputs_own_map_is_not_the_layer(name):
    """A segmentation is explained by what its last weights read, not by the map of the very logits that are asked about."""
    found = taps.find(segmented(TARGETS[name]), PICTURE)
    assert found.primitive == "relu" and found.shape == (8, 8, 4) and found.index > 5


def test_what_weights_read_of_a_crop_is_no_outputs_own_map():
    f = Partial(lambda w, x: conv(features(w, x)[1:7, 2:], w["kernel"]).mean((0, 1)), W)
    assert taps.find(f, PICTURE).shape == (6, 6, 4)


def test_one_pixels_class_is_reached_through_what_its_last_window_reads():
    found = taps.find(segmented(lambda m: m[3, 4]), PICTURE)
    a, head = taps.split(segmented(lambda m: m[3, 4]), PICTURE, found.index)[1:]
    reads = np.abs(taps.to_map(jax.grad(lambda v: head(v)[2])(a), found)).sum(-1) > 0
    assert reads[2:5, 3:6].sum() == reads.sum() > 1


def test_a_classifier_by_averaged_class_maps_is_read_at_them():
    f = segmented(lambda m: jax.nn.relu(m).mean((0, 1)))
    assert taps.find(f, PICTURE).shape == (8, 8, 5)
    assert taps.find(lambda x: f(x)[2], PICTURE).shape == (8, 8, 5)  # the same function, the class chosen by composition
    # Their sum is the class's logit: the map says how much each position gives.
    cam = hires_cam(f, PICTURE, 2)
    assert np.allclose(cam.sum(), f(PICTURE)[2], atol=1e-5)


FLAT, KEY = normal(192, 5), jax.random.key(0)


WITHOUT = {
    "dense": lambda x: jax.nn.relu(x.ravel() @ FLAT),
    "scaled": lambda x: ((x - 0.5) / 0.25).ravel() @ FLAT,
    "standardised": lambda x: ((x - x.mean((0, 1))) * jax.lax.rsqrt(x.var((0, 1)) + 1e-5)).ravel() @ FLAT,
    "grey": lambda x: (x @ np.float32([0.3, 0.6, 0.1])).ravel() @ FLAT[:64],
    "gamma": lambda x: jnp.log1p(jnp.clip(x, 0, 1) ** 2.2).ravel() @ FLAT,
    "pooled": lambda x: x.reshape(4, 2, 4, 2, 3).mean((1, 3)).ravel() @ FLAT[:48],
    "resized": lambda x: jax.image.resize(x, (4, 4, 3), "bilinear").ravel() @ FLAT[:48],
    "in windows": lambda x: windows(x).ravel() @ FLAT,
    "random weights": lambda x: x.ravel() @ jax.random.normal(KEY, (192, 5)),
}


@pytest.mark.parametrize("name", WITHOUT)
def test_a_network_without_positions_has_no_layer(name):
    """The picture itself, prepared, moved or resampled, is none."""
    with pytest.raises(ValueError, match="layer=None: no value has spatial extent over x"):
        grad_cam(WITHOUT[name], PICTURE, 1)


def test_what_a_flag_chose_is_followed():
    def f(x, train=False):
        h = jax.lax.cond(train, lambda v: 0.5 * v, lambda v: jax.nn.relu(conv(v, W["first"]))[..., :3], x)
        return h.mean((0, 1)) @ LOGITS[:3]

    assert taps.find(f, PICTURE).shape == (8, 8, 3)


def test_a_person_says_which_axes_are_positions():
    hidden = lambda h: jnp.abs(jnp.fft.fft(h, axis=0))
    f, x = picture(hidden)
    with pytest.raises(ValueError, match=r"cannot be followed through 'fft' after layer 4 .*as in layer='\d+@0,1'"):
        grad_cam(f, x, 1)
    last = [item for item in taps.layers(f, x) if item.primitive == "relu"][-1]
    with pytest.raises(ValueError, match="no spatial extent: its positions cannot be followed through 'fft'"):
        grad_cam(f, x, 1, layer=last.index)
    a, head = taps.split(f, x, last.index)[1:]
    g = jax.grad(lambda v: head(v)[1])(a)
    assert np.allclose(grad_cam(f, x, 1, layer=f"{last.index}@0,1")[..., 0], jax.nn.relu((a * g.mean((0, 1))).sum(-1)), atol=1e-6)
    tokens, x = picture(lambda h: hidden(h).reshape(64, 4))
    last = [item for item in taps.layers(tokens, x) if item.primitive == "relu"][-1]
    assert np.allclose(grad_cam(tokens, x, 1, layer=f"{last.index}@0:8x8"), grad_cam(f, x, 1, layer=f"{last.index - 1}@0,1"), atol=1e-5)
    for wrong, word in (
        ("@0", "must be 2, one for each"),
        ("@0,7", "different axes of a value"),
        ("@0:9x9", "fit into one axis"),
        ("@0:64", "must have 2 axes"),
    ):
        with pytest.raises(ValueError, match=word):
            grad_cam(tokens, x, 1, layer=f"{last.index}{wrong}")
    assert "kernel" in taps.find(segmented(TARGETS["a region"]), x, "kernel@1,2").name


def test_a_recurrent_network_is_read_at_its_states():
    class Series(nnx.Module):
        def __init__(self, rngs):
            self.cell, self.out = nnx.Linear(7, 4, rngs=rngs), nnx.Linear(4, 2, rngs=rngs)

        def __call__(self, x):
            step = lambda s, v: (jnp.tanh(self.cell(jnp.concatenate([s, v]))),) * 2
            return self.out(jax.lax.scan(step, jnp.zeros(4), x)[1].mean(0))

    layer = taps.find(Series(nnx.Rngs(0)), ROW)
    assert layer.primitive == "scan_stack" and layer.shape == (12, 4)


def test_every_channel_of_windows_is_ablated_by_itself():
    """`ablation_cam` over windows is that over the picture that they are cut from."""
    cut, whole = (
        Partial(lambda w, x, g=g: jnp.tanh(g(jax.nn.relu(conv(x, w["first"])))).mean(tuple(range(g(x).ndim - 1))) @ LOGITS, W) for g in (windows, lambda h: h)
    )
    assert np.allclose(ablation_cam(cut, PICTURE, 1), ablation_cam(whole, PICTURE, 1), atol=1e-5)


def test_where_a_model_crops_its_map_lies_over_what_it_reads():
    """Of a picture of which the model reads the middle, the map is that of the middle, and 0 around it; a border that strides leave out is none."""
    inner, x = Partial(lambda w, x: features(w, x).mean((0, 1)) @ LOGITS, W), np.kron(PICTURE, np.ones((2, 2, 1), np.float32))
    cropped = Partial(lambda w, x: inner(x[3:11, 6:14]), W)
    for method in (grad_cam, ablation_cam, score_cam):
        whole = np.array(method(cropped, x, 1))
        assert np.allclose(whole[3:11, 6:14], method(inner, x[3:11, 6:14], 1), atol=1e-6)
        whole[3:11, 6:14] = 0
        assert not whole.any()
    strided = Partial(lambda w, x: jax.nn.relu(conv(x[:15, :15], w["first"], 3)).mean((0, 1)) @ LOGITS, W)
    assert np.abs(hires_cam(strided, x, 1)[-1]).max() > 0


def test_an_nnx_recurrent_network_is_read_at_its_states_and_one_in_a_closure_is_an_error():
    class Series(nnx.Module):
        def __init__(self, rngs):
            self.rnn, self.out = nnx.RNN(nnx.SimpleCell(3, 4, rngs=rngs)), nnx.Linear(4, 2, rngs=rngs)

        def __call__(self, x):
            return self.out(self.rnn(x[None])[0].mean(0))

    f = Series(nnx.Rngs(0))
    assert taps.find(f, ROW).shape == (12, 4) and grad_cam(f, ROW, 1).shape == (12, 1)
    with pytest.raises(ValueError, match="hand on the module itself"):
        taps.find(lambda x: f(x), ROW)
