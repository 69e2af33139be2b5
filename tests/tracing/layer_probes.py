"""Everyday operations between two layers of a small network, and which of its rectifiers is the last value with positions: −1 the last one, 0 the first,
a word: an error that has it."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.tree_util import Partial
from zoo.layers import avg_pool, max_pool

RNG = np.random.default_rng(0)
C, D, T = 4, 5, 12
PICTURE, ROW = RNG.uniform(size=(8, 8, 3)).astype(np.float32), RNG.uniform(size=(T, 3)).astype(np.float32)


def normal(*shape):
    return (RNG.normal(size=shape) / np.sqrt(np.prod(shape[:-1]))).astype(np.float32)


W = {"first": normal(3, 3, 3, C), "line": normal(3, C), "head": normal(D, 3), "square": normal(C, C), "kernel": normal(3, 3, C, C), "row": normal(3, C, C)}
Q, K, V, MIX, BAND = normal(C, C), normal(C, C), normal(C, C), normal(64, 64), np.eye(8, k=0, dtype=np.float32) / 2 + np.eye(8, k=1, dtype=np.float32) / 2
LAST = {n: normal(n, D) for n in (1, 2, 4, 8, 12, 16, 20, 24, 36)}


def conv(x, kernel, stride=1):
    return lax.conv_general_dilated(x[None], kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))[0]


def head(h, w):
    """A rectifier, pointwise weights, the mean over all else, a dense layer."""
    h = jax.nn.relu(h @ LAST[h.shape[-1]])
    return h.mean(tuple(range(h.ndim - 1))) @ w["head"]


def picture(operation):
    """A convolution, a rectifier, the operation, `head`."""
    return Partial(lambda w, x: head(operation(jax.nn.relu(conv(x, w["first"]))), w), W), PICTURE


def series(operation):
    return Partial(lambda w, x: head(operation(jax.nn.relu(x @ w["line"])), w), W), ROW


def pads(mode, rank=2):
    return lambda h: jnp.pad(h, [(1, 1)] * rank + [(0, 0)], mode=mode)


def resize(method, size=12):
    return lambda h: jax.image.resize(h, (size,) * (h.ndim - 1) + h.shape[-1:], method)


def windows(h, n=4):
    a, b, c = h.shape
    return h.reshape(a // n, n, b // n, n, c).transpose(0, 2, 1, 3, 4).reshape(-1, n * n, c)


def unwindow(h, n=4):
    return h.reshape(8 // n, 8 // n, n, n, -1).transpose(0, 2, 1, 3, 4).reshape(8, 8, -1)


def attend(t, causal=False):
    scores = (t @ Q) @ (t @ K).T
    scores = jnp.where(jnp.tril(jnp.ones(scores.shape, bool)), scores, -1e9) if causal else scores
    return jax.nn.softmax(scores) @ (t @ V)


def normed(h, over):
    return (h - h.mean(over, keepdims=True)) * lax.rsqrt(h.var(over, keepdims=True) + 1e-5)


def recur(h, reverse=False):
    step = lambda s, v: (jnp.tanh(v + s @ W["square"]),) * 2
    return lax.scan(step, jnp.zeros(h.shape[1:]), h, reverse=reverse)[1]


def patches(h):
    return lax.conv_general_dilated_patches(h[None], (2, 2), (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))[0]


@jax.custom_jvp
def ruled(v):
    return jnp.maximum(v, 0.1 * v)


ruled.defjvp(lambda p, t: (ruled(*p), t[0]))

ROWS, FEWER = np.random.default_rng(2).permutation(8), np.array([6, 1, 3])
WARP = np.stack(np.meshgrid(np.linspace(0, 7, 10), np.linspace(0, 7, 10), indexing="ij"))

PICTURES = {
    "nothing": (lambda h: h, -1),
    "zero padding": (pads("constant"), -1),
    "circular padding": (pads("wrap"), -1),
    "reflect padding": (pads("reflect"), -1),
    "symmetric padding": (pads("symmetric"), -1),
    "edge padding": (pads("edge"), -1),
    "linear ramp padding": (pads("linear_ramp"), -1),
    "negative padding": (lambda h: lax.pad(h, 0.0, ((-1, -1, 0), (-1, 0, 0), (0, 0, 0))), -1),
    "interior padding": (lambda h: lax.pad(h, 0.0, ((0, 0, 1), (0, 0, 1), (0, 0, 0))), -1),
    "circular padding and a convolution": (lambda h: conv(pads("wrap")(h), W["kernel"]), -1),
    "crop": (lambda h: h[2:7, 1:], -1),
    "strides": (lambda h: h[::2, 1::3], -1),
    "roll": (lambda h: jnp.roll(h, 3, 0), -1),
    "roll both": (lambda h: jnp.roll(h, (2, -1), (0, 1)), -1),
    "dynamic roll": (lambda h: jnp.roll(h, jnp.int32(3), 0), -1),
    "flip": (lambda h: h[::-1], -1),
    "rot90": (jnp.rot90, -1),
    "transpose": (lambda h: h.transpose(1, 0, 2), -1),
    "channels first": (lambda h: jnp.einsum("hwc,cd->dhw", h, W["square"]).transpose(1, 2, 0), -1),
    "resize bilinear": (resize("bilinear"), -1),
    "resize down": (resize("bilinear", 5), -1),
    "resize without antialias": (lambda h: jax.image.resize(h, (4, 4, C), "linear", antialias=False), -1),
    "resize nearest": (resize("nearest"), -1),
    "resize cubic": (resize("cubic"), -1),
    "resize lanczos": (resize("lanczos3", 20), -1),
    "scale and translate": (lambda h: jax.image.scale_and_translate(h, (10, 10, C), (0, 1), jnp.ones(2), jnp.ones(2), "linear"), -1),
    "repeat": (lambda h: jnp.repeat(jnp.repeat(h, 2, 0), 2, 1), -1),
    "repeat by gather": (lambda h: h[np.repeat(np.arange(8), 2)], -1),
    "tile of channels": (lambda h: jnp.tile(h, (1, 1, 2)), -1),
    "transposed convolution": (lambda h: lax.conv_transpose(h[None], W["kernel"], (2, 2), "SAME")[0], -1),
    "average pooling": (avg_pool, -1),
    "max pooling": (max_pool, -1),
    "max pooling from a finite start": (lambda h: lax.reduce_window(h, -1e30, lax.max, (2, 2, 1), (2, 2, 1), "VALID"), -1),
    "pooling by reshape": (lambda h: h.reshape(4, 2, 4, 2, C).max((1, 3)), -1),
    "strided convolution": (lambda h: conv(h, W["kernel"], 2), -1),
    "dilated convolution": (
        lambda h: lax.conv_general_dilated(h[None], W["kernel"], (1, 1), "SAME", rhs_dilation=(2, 2), dimension_numbers=("NHWC", "HWIO", "NHWC"))[0],
        -1,
    ),
    "vmapped convolution of rows": (
        lambda h: jax.vmap(lambda r: lax.conv_general_dilated(r[None], W["row"], (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"))[0])(h),
        -1,
    ),
    "space to depth": (lambda h: h.reshape(4, 2, 4, 2, C).transpose(0, 2, 1, 3, 4).reshape(4, 4, 4 * C), -1),
    "depth to space": (lambda h: h.reshape(8, 8, 2, 2, 1).transpose(0, 2, 1, 3, 4).reshape(16, 16, 1), -1),
    "window split": (windows, -1),
    "window split and merge": (lambda h: unwindow(windows(h) @ W["square"]), -1),
    "shifted windows": (lambda h: jnp.roll(unwindow(windows(jnp.roll(h, (-2, -2), (0, 1))) @ W["square"]), (2, 2), (0, 1)), -1),
    "window attention": (lambda h: unwindow(jax.vmap(attend)(windows(h))), -1),
    "patches by einsum": (lambda h: jnp.einsum("aibjc,ijcd->abd", h.reshape(4, 2, 4, 2, C), normal(2, 2, C, C)), -1),
    "patches extracted": (patches, -1),
    "tokens": (lambda h: h.reshape(64, C), -1),
    "tokens and a class token": (lambda h: jnp.concatenate([jnp.ones((1, C)), h.reshape(64, C)]), -1),
    "tokens and registers behind": (lambda h: jnp.concatenate([h.reshape(64, C), jnp.ones((3, C))]), -1),
    "attention and a skip": (lambda h: h.reshape(64, C) + attend(h.reshape(64, C)), -1),
    "attention without a skip": (lambda h: attend(h.reshape(64, C)), -1),
    "axial attention": (lambda h: jax.vmap(attend)(h) + jax.vmap(attend, 1, 1)(h), -1),
    "mixer and a skip": (lambda h: h.reshape(64, C) + MIX @ h.reshape(64, C), -1),
    "mixer alone": (lambda h: MIX @ h.reshape(64, C), 0),
    "attention pooling": (lambda h: (jax.nn.softmax(h.reshape(64, C) @ W["square"][:, 0]) @ h.reshape(64, C))[None], 0),
    "cosine transform": (lambda h: jnp.einsum("ij,jwc->iwc", jnp.cos(jnp.pi / 8 * (jnp.arange(8) + 0.5) * jnp.arange(8)[:, None]), h), 0),
    "means by slightly other weights": (lambda h: jnp.einsum("ij,jwc->iwc", 1 + 0.01 * jnp.arange(8)[:, None] * jnp.arange(8), h), 0),
    "windows averaged": (lambda h: windows(h).mean(0), 0),
    "rows by a permutation": (lambda h: h[ROWS], -1),
    "fewer rows": (lambda h: jnp.take(h, FEWER, axis=0), -1),
    "rows and columns by indices": (lambda h: h[FEWER][:, ROWS], -1),
    "pixels by indices": (lambda h: h[FEWER, FEWER], "no grid"),
    "permutation matrix": (lambda h: jnp.einsum("ij,jwc->iwc", np.eye(8, dtype=np.float32)[ROWS], h), -1),
    "band matrix": (lambda h: jnp.einsum("ij,jwc->iwc", BAND, h), -1),
    "given warp": (lambda h: jnp.stack([jax.scipy.ndimage.map_coordinates(h[..., c], WARP, 1) for c in range(C)], -1), -1),
    "warp by the data": (lambda h: jnp.stack([jax.scipy.ndimage.map_coordinates(h[..., c], WARP + h.mean(), 1) for c in range(C)], -1), "gather"),
    "dynamic slice": (lambda h: lax.dynamic_slice(h, (1, 2, 0), (4, 4, C)), -1),
    "dynamic slice by the data": (lambda h: lax.dynamic_slice(h, (jnp.int32(h.sum()), 0, 0), (4, 8, C)), "dynamic_slice"),
    "set a border": (lambda h: h.at[0].set(0.0).at[:, -1].set(1.0), -1),
    "set into zeros": (lambda h: jnp.zeros((10, 10, C)).at[1:-1, 1:-1].set(h), -1),
    "add at": (lambda h: h.at[2:4].add(1.0), -1),
    "update a part": (lambda h: lax.dynamic_update_slice(h, h[:2] * 2, (3, 0, 0)), -1),
    "map over rows": (lambda h: lax.map(lambda r: jnp.tanh(r) @ W["square"], h), -1),
    "scan over rows": (lambda h: recur(h), -1),
    "loop of known length": (lambda h: lax.fori_loop(0, 3, lambda i, v: jnp.tanh(v @ W["square"]), h), -1),
    "loop of unknown length": (lambda h: lax.while_loop(lambda v: v.sum() < -1e9, lambda v: jnp.tanh(v @ W["square"]), h), -1),
    "loop that mixes positions": (lambda h: lax.while_loop(lambda v: v.sum() < -1e9, lambda v: v.transpose(1, 0, 2), h), "while"),
    "cond on a constant": (lambda h: lax.cond(False, lambda v: v[:4], lambda v: v[4:], h), -1),
    "cond on the data": (lambda h: lax.cond(h.sum() > 0, lambda v: v @ W["square"], lambda v: v, h), -1),
    "switch on a constant": (lambda h: lax.switch(1, [lambda v: v[::2], lambda v: v[1::2]], h), -1),
    "checkpoint": (lambda h: jax.checkpoint(lambda v: pads("wrap")(jnp.tanh(v)))(h), -1),
    "jit": (lambda h: jax.jit(lambda v: jnp.roll(v, 1, 0))(h), -1),
    "custom derivative": (ruled, -1),
    "sort of channels": (lambda h: jnp.sort(h, -1), -1),
    "top channels": (lambda h: lax.top_k(h, 2)[0], -1),
    "sort of positions": (lambda h: jnp.sort(h.reshape(64, C), 0), 0),
    "top positions": (lambda h: jnp.sort(h.reshape(64, C), 0)[-8:], 0),
    "cumulative sum": (lambda h: jnp.cumsum(h, 0), -1),
    "cumulative maximum": (lambda h: lax.cummax(h, 1), -1),
    "Fourier filter": (lambda h: jnp.fft.ifft(jnp.fft.fft(h, axis=0) * np.exp(-np.arange(8.0))[:, None, None], axis=0).real, "fft"),
    "Fourier filter and a skip": (lambda h: h + jnp.fft.ifft(jnp.fft.fft(h, axis=0) * np.exp(-np.arange(8.0))[:, None, None], axis=0).real, -1),
    "layer norm": (lambda h: normed(h, -1), -1),
    "instance norm": (lambda h: normed(h, (0, 1)), -1),
    "group norm": (lambda h: normed(h.reshape(8, 8, 2, 2), (0, 1, 3)).reshape(8, 8, C), -1),
    "squeeze and excite": (lambda h: h * jax.nn.sigmoid(h.mean((0, 1)) @ W["square"]), -1),
    "coordinate attention": (lambda h: h * jax.nn.sigmoid(h.mean(0, keepdims=True)) * jax.nn.sigmoid(h.mean(1, keepdims=True)), -1),
    "outer product of pooled rows and columns": (lambda h: h.mean(1, keepdims=True) + h.mean(0, keepdims=True), -1),
    "where": (lambda h: jnp.where(h.mean(-1, keepdims=True) > 0.1, h, 0.1 * h), -1),
    "coordinate channels": (lambda h: jnp.concatenate([h, np.stack(np.mgrid[:8, :8], -1).astype(np.float32), h[..., :2]], -1), -1),
    "two branches": (lambda h: jnp.concatenate([h @ W["square"], jnp.roll(h, 1, 0)], -1), -1),
    "halves joined": (lambda h: jnp.concatenate([h[4:], h[:4]]), -1),
    "rows stacked": (lambda h: jnp.stack([h[n] for n in range(8)]), -1),
    "rows unstacked": (lambda h: jnp.stack(jnp.unstack(h)[::2]), -1),
    "split": (lambda h: jnp.concatenate(jnp.split(h, 2, 1)[::-1], 1), -1),
    "differences": (lambda h: h[1:] - h[:-1], -1),
    "differences by roll": (lambda h: h - jnp.roll(h, 1, 0), -1),
    "symmetrised": (lambda h: h + h[::-1], 0),
    "barrier": (lambda h: lax.optimization_barrier((h, h * 2))[1], -1),
    "half precision": (lambda h: h.astype(jnp.bfloat16).astype(jnp.float32), -1),
    "complex and back": (lambda h: lax.complex(h, h).real, -1),
    "quantised by a codebook": (lambda h: jnp.asarray(Q)[((h[..., None, :] - Q) ** 2).sum(-1).argmin(-1)], -1),
}

SERIES = {
    "nothing": (lambda h: h, -1),
    "convolution": (lambda h: lax.conv_general_dilated(h[None], W["row"], (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"))[0], -1),
    "causal convolution": (lambda h: lax.conv_general_dilated(h[None], W["row"], (1,), ((2, 0),), dimension_numbers=("NWC", "WIO", "NWC"))[0], -1),
    "causal padding": (lambda h: jnp.pad(h, ((2, 0), (0, 0))), -1),
    "edge padding": (pads("edge", 1), -1),
    "circular padding": (pads("wrap", 1), -1),
    "dilated strides": (lambda h: lax.conv_general_dilated(h[None], W["row"], (2,), "SAME", rhs_dilation=(2,), dimension_numbers=("NWC", "WIO", "NWC"))[0], -1),
    "pooling": (lambda h: h.reshape(4, 3, C).mean(1), -1),
    "chunks": (lambda h: h.reshape(4, 3, C), -1),
    "frames": (lambda h: h[np.arange(0, 9, 3)[:, None] + np.arange(6)[None]].mean(1), -1),
    "flip": (lambda h: h[::-1], -1),
    "roll": (lambda h: jnp.roll(h, 4, 0), -1),
    "repeat": (lambda h: jnp.repeat(h, 2, 0), -1),
    "resize": (resize("linear", 7), -1),
    "transpose": (lambda h: (W["square"] @ h.T).T, -1),
    "cumulative sum": (lambda h: jnp.cumsum(h, 0), -1),
    "recurrent": (recur, -1),
    "recurrent, backwards": (lambda h: recur(h, True), -1),
    "recurrent, both ways": (lambda h: jnp.concatenate([recur(h), recur(h, True)], -1), -1),
    "recurrent, last state": (lambda h: recur(h)[-1:], 0),
    "last step": (lambda h: jnp.tanh(h + np.tril(np.ones((T, T), np.float32)) / T @ h)[-1:], 0),
    "last step of a pointwise network": (lambda h: h[-1:], "no value has spatial extent"),
    "first token of attention": (lambda h: (h + attend(h))[:1], 0),
    "causal attention": (lambda h: h + attend(h, True), -1),
    "attention": (attend, -1),
    "sort of time": (lambda h: jnp.sort(h, 0), 0),
    "median over time": (lambda h: jnp.median(h, 0, keepdims=True), 0),
    "steps by indices": (lambda h: h[np.array([11, 3, 5, 7])], -1),
    "Fourier": (lambda h: jnp.abs(jnp.fft.rfft(h, axis=0)), "fft"),
    "embedded by the data": (lambda h: jnp.take(h, jnp.argsort(h[:, 0])[:4], axis=0), "gather"),
}
