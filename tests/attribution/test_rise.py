"""RISE: its masks against scikit-image, its expectation on a linear score, and identities between its options."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.transform import resize

from jxai.attribution.rise import rise


def one(x):
    return jnp.float32(1)


def bases(size, grid):
    """`[offset, size, grid]`: how every crop of the enlarged grid depends on the cells (scikit-image as the published code calls it)."""
    cell = -(-size // grid)
    table = np.stack([resize(row, ((grid + 1) * cell,), order=1, mode="reflect", anti_aliasing=False) for row in np.eye(grid)], 1)
    return np.stack([table[o : o + size] for o in range(cell)])


def test_a_mask_is_a_crop_of_an_enlarged_random_grid():
    x = np.ones((7, 5, 3), np.float32)
    rows, columns = bases(7, 3), bases(5, 2)
    offsets = set()
    draw = jax.jit(lambda key: rise(one, x, None, key, num_masks=1, grid=(3, 2), p=0.5)[..., 0] * 0.5)
    for seed in range(12):
        mask = np.asarray(draw(jax.random.key(seed)))
        fits = []
        for a, b in itertools.product(range(len(rows)), range(len(columns))):
            design = np.kron(rows[a], columns[b])
            cell, *_ = np.linalg.lstsq(design, mask.ravel(), rcond=None)
            if np.abs(design @ cell - mask.ravel()).max() < 1e-5 and np.abs(cell * (1 - cell)).max() < 1e-4:
                fits.append((a, b))
        assert fits, "no crop of a grid of 0 and 1 gives this mask"
        if len(fits) == 1:
            offsets.update(fits)
    assert len(offsets) > 3, "the crops must vary"


@pytest.mark.parametrize("p", [pytest.param(0.5, marks=pytest.mark.slow), 0.2])
def test_expectation_on_a_linear_score(p):
    """`E[S_q] = 1/p Σ_r w_r x_r E[M_r M_q]`, `E[M_r M_q] = p² + p(1−p) E_o[Σ_c B_o(r,c) B_o(q,c)]`."""
    size, grid, masks, runs = 9, 3, 64, 96
    w, x = np.float32(np.sin(1 + np.arange(9))), np.float32(np.cos(np.arange(9)))
    basis = bases(size, grid)
    second = p**2 + p * (1 - p) * np.einsum("orc,oqc->rq", basis, basis) / len(basis)
    truth = ((w * x) @ second) / p
    run = jax.jit(lambda k: rise(lambda v: v @ w, x, None, k, num_masks=masks, grid=grid, p=p))
    got = np.stack([run(k) for k in jax.random.split(jax.random.key(0), runs)])
    error = got.std(0, ddof=1) / np.sqrt(runs)
    assert np.all(np.abs(got.mean(0) - truth) < 4.5 * error)
    assert error.max() < 0.05 * np.abs(truth).max()


def test_the_mean_mask_is_p_everywhere():
    got = jax.jit(lambda key: rise(one, np.ones((6, 8, 1), np.float32), None, key, num_masks=4000, grid=3, p=0.3, chunk=500))(jax.random.key(1))
    np.testing.assert_allclose(got, 1, atol=6 * np.sqrt(0.7 / 0.3 / 4000))


def test_coverage_divides_the_same_sum_by_the_masks():
    x, key = np.float32(np.random.default_rng(2).uniform(size=(6, 6, 2))), jax.random.key(3)
    options = {"num_masks": 50, "grid": 2, "p": 0.4, "chunk": 7}

    def f(v):
        return jnp.sum(v**2)

    run = jax.jit(lambda v: (rise(f, v, None, key, **options), rise(one, v, None, key, **options), rise(f, v, None, key, normalization="coverage", **options)))
    total, masks, got = (np.asarray(a) * scale for a, scale in zip(run(x), (50 * 0.4, 50 * 0.4, 1)))
    np.testing.assert_allclose(got, total / (masks + 1e-4), rtol=1e-5)
    assert not np.allclose(masks, 50 * 0.4, rtol=0.01)


def test_fill_of_a_linear_score_shifts_it():
    """`s(Mx + (1−M)b) = s(M(x−b)) + s(b)` for a linear s, mask by mask."""
    x, b, w = np.float32(np.random.default_rng(0).normal(size=(3, 5, 5, 2)))

    def f(v):
        return (w * v).sum()

    def run(g, v, **options):
        return np.asarray(jax.jit(lambda v: rise(g, v, None, jax.random.key(4), num_masks=20, grid=2, **options))(v))

    np.testing.assert_allclose(run(f, x, fill=b), run(f, x - b) + f(b) * run(one, x), atol=1e-4)


def test_all_kept_gives_the_score_everywhere_in_any_rank():
    for shape in [(5,), (4, 4, 3), (3, 4, 4, 2)]:
        x = np.float32(np.random.default_rng(5).uniform(size=shape))
        got = np.asarray(
            jax.jit(lambda x: rise(lambda v: jnp.stack([v.sum(), 2.0]), x, 0, jax.random.key(6), num_masks=3, grid=2, p=1.0, score="probability"))(x)
        )
        truth = 1 / (1 + np.exp(2 - x.sum()))
        np.testing.assert_allclose(got, np.full(got.shape, truth), rtol=1e-5)
        assert got.shape == (shape[:-1] + (1,) if len(shape) > 1 else shape)


def test_targets_share_the_passes():
    seen = []

    def f(x):
        jax.debug.callback(lambda _: seen.append(1), x)
        return jnp.stack([x.sum(), (x**2).sum(), x[0, 0, 0]])

    x = np.float32(np.random.default_rng(7).uniform(size=(6, 6, 2)))
    jax.jit(jax.vmap(lambda t: rise(f, x, t, jax.random.key(8), num_masks=11, grid=3, chunk=1)))(np.arange(3)).block_until_ready()
    jax.effects_barrier()
    assert len(seen) == 11


@pytest.mark.parametrize(
    "options, words",
    [
        ({"p": 0.0}, "p=0.0"),
        ({"p": 1.5}, "p=1.5"),
        ({"grid": 9}, "grid=9"),
        ({"grid": (2, 2, 2)}, "grid="),
        ({"num_masks": 0}, "num_masks=0"),
        ({"normalization": "none"}, "normalization='none'"),
        ({"key": None}, "key=None"),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(ValueError, match=words):
        rise(lambda x: x.sum((0, 1)), np.ones((8, 8, 3), np.float32), 0, **({"key": jax.random.key(0)} | options))
