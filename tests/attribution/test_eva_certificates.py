"""Certificates of EVA: only the truth passes."""

import dataclasses

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from eva_overlaps import IMAGE, KEY, attained, held

from jxai.attribution import eva
from jxai.attribution.verified import EvaCertificate, eva_certificate
from jxai.certificates import digests, load, save, verify

pytestmark = pytest.mark.usefixtures("quick_compilation")


def certificate(per_group=True):
    f, x = cases.network(IMAGE), cases.example(IMAGE)
    return f, x, eva_certificate(f, x, 1, radius=0.2, clip=(0, 1), grid=2, bound="crown_ibp", per_group=per_group)


@pytest.mark.parametrize("per_group", [True, False])
def test_certificates(tmp_path, per_group):
    f, x, made = certificate(per_group)
    assert verify(f, x, made).holds
    assert np.allclose(made.attribution, eva(f, x, 1, radius=0.2, clip=(0, 1), grid=2, bound="crown_ibp", per_group=per_group, rounding="outward"), atol=1e-6)
    assert made.lower == pytest.approx(float(jnp.delete(f(x), 1).max() - f(x)[1]), abs=1e-6)
    for u in range(5):
        value = attained(f, held(x, 0.2, made.segments, u, clip=(0, 1)), 1, 500, KEY)
        assert made.lower - 1e-5 <= value <= made.upper[u]
    save(tmp_path / "eva.npz", made)
    assert verify(f, x, load(tmp_path / "eva.npz", EvaCertificate)).holds


def test_no_lie_passes():
    f, x, made = certificate()

    def holds(f=f, x=x, about=None, **changes):
        changed = dataclasses.replace(made, **changes)
        return verify(f, x, dataclasses.replace(changed, digests=digests(f, x)) if about else changed).holds

    for u in range(5):
        assert not holds(upper=made.upper.at[u].add(-0.02)) and holds(upper=made.upper.at[u].add(0.02))
    assert not holds(lower=made.lower + 0.01) and holds(lower=made.lower - 1) and holds(upper=jnp.full(5, jnp.inf))
    assert not holds(upper=jnp.full(5, jnp.nan)) and not holds(upper=made.upper[::-1])
    other = cases.network(IMAGE, 1)
    assert not holds(f=other) and not holds(f=other, about=True)
    assert not holds(x=x.at[0, 0].add(-0.01)) and not holds(x=cases.example(IMAGE, 7))
    assert not holds(radius=made.radius * 1.2) and holds(radius=made.radius * 0.8)
    assert not holds(segments=made.segments[::-1]) and not holds(target=jnp.int32(2)) and not holds(bound="interval")
    assert not holds(digests=None) and holds(adversary=jnp.int32(0), lower=jnp.float32(-1e3))  # the overlap with one of them is no greater
    with pytest.raises(ValueError, match="the certificate's radius"):
        verify(f, cases.example((4, 4, 2)), made)
    with pytest.raises(ValueError, match="on the host"):
        jax.jit(lambda x: eva_certificate(f, x, 1, radius=0.2).upper)(x)
