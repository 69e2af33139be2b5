"""Certificates of EVA: only the truth passes."""

import dataclasses
import functools

import cases
import jax
import numpy as np
import pytest
from eva_overlaps import attained, held

from jxai.attribution import eva
from jxai.attribution.verified import EvaCertificate, eva_certificate
from jxai.certificates import digests, load, save, verify

pytestmark = pytest.mark.usefixtures("quick_compilation")


SHAPE = (4, 4, 2)


@functools.cache
def certificate(per_group=True):
    f, x = cases.network(SHAPE), cases.example(SHAPE)
    return f, x, eva_certificate(f, x, 1, radius=0.2, clip=(0, 1), grid=2, bound="crown_ibp", per_group=per_group)


@pytest.mark.parametrize("per_group", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_certificates(tmp_path, per_group):
    f, x, made = certificate(per_group)
    assert verify(f, x, made).holds
    options = dict(radius=0.2, clip=(0, 1), grid=2, bound="crown_ibp", per_group=per_group, rounding="outward")
    assert np.allclose(made.attribution, jax.jit(lambda x: eva(f, x, 1, **options))(x), atol=1e-6)
    logits = np.asarray(jax.jit(f)(x))
    assert made.lower == pytest.approx(np.delete(logits, 1).max() - logits[1], abs=1e-6)
    for u in range(5):
        value = attained(f, held(x, 0.2, made.segments, u, clip=(0, 1)), 1, 500, 5)
        assert made.lower - 1e-5 <= value <= np.asarray(made.upper)[u]
    save(tmp_path / "eva.npz", made)
    assert verify(f, x, load(tmp_path / "eva.npz", EvaCertificate)).holds


def test_no_lie_passes():
    f, x, made = certificate()
    upper, lower, radius, labels, pixels = (np.asarray(v) for v in (made.upper, made.lower, made.radius, made.segments, x))

    def holds(f=f, x=x, about=None, **changes):
        changed = dataclasses.replace(made, **changes)
        return verify(f, x, dataclasses.replace(changed, digests=digests(f, x)) if about else changed).holds

    for u in range(5):
        of_u = np.float32(np.arange(5) == u)
        assert not holds(upper=upper - 0.02 * of_u) and holds(upper=upper + 0.02 * of_u)
    assert not holds(lower=lower + np.float32(0.01)) and holds(lower=lower - np.float32(1)) and holds(upper=np.full(5, np.inf, np.float32))
    assert not holds(upper=np.full(5, np.nan, np.float32)) and not holds(upper=upper[::-1])
    other, moved = cases.network(SHAPE, 1), np.where(np.arange(pixels.size).reshape(SHAPE) < 2, pixels - np.float32(0.01), pixels)
    assert not holds(f=other) and not holds(f=other, about=True)
    assert not holds(x=moved) and not holds(x=cases.example(SHAPE, 7))
    assert not holds(radius=radius * np.float32(1.2)) and holds(radius=radius * np.float32(0.8))
    assert not holds(segments=labels[::-1]) and not holds(target=np.int32(2)) and not holds(bound="interval")
    assert not holds(digests=None) and holds(adversary=np.int32(0), lower=np.float32(-1e3))  # the overlap with one of them is no greater
    with pytest.raises(ValueError, match="the certificate's radius"):
        verify(f, cases.example((6, 6, 2)), made)
    with pytest.raises(ValueError, match="on the host"):
        jax.jit(lambda x: eva_certificate(f, x, 1, radius=0.2).upper)(x)
