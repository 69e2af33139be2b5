"""What meaningful and extremal perturbation share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from evidence import KEY, SMALL, detector, image, square

from jxai.attribution.extremal import extremal_perturbation
from jxai.attribution.meaningful import meaningful_perturbation

EXTREMAL = extremal_perturbation, dict(steps=20, spacing=4, sigma=4.0, blur=3.0)


@pytest.mark.parametrize(("method", "options"), [(meaningful_perturbation, SMALL | dict(steps=20)), pytest.param(*EXTREMAL, marks=pytest.mark.slow)])
def test_half_precision_examples_are_optimised_in_float32(method, options):
    region, x = square(16, 4, 4, 6), image(16).astype(jnp.bfloat16)
    run = jax.jit(lambda x: method(lambda v: detector(region)(v.astype(jnp.float32)), x, 0, KEY, **options))
    low, high = run(x), run(x.astype(np.float32))
    assert low.dtype == jnp.float32
    np.testing.assert_allclose(np.float32(low), high, atol=0.03)


def test_a_traced_class_out_of_range_gives_nan():
    f, x = detector(square(12, 2, 2, 4)), image(12)
    run = jax.jit(lambda t: extremal_perturbation(f, x, t, reward="contrastive", steps=2, spacing=4, sigma=4.0, fill=0.0))
    assert np.isfinite(run(1)).all() and np.isnan(run(2)).all()
    run = jax.jit(lambda t: meaningful_perturbation(f, x, t, KEY, steps=2, **SMALL))
    assert np.isfinite(run(1)).all() and np.isnan(run(-1)).all()


def test_steps_run_in_one_loop_whose_program_does_not_grow():
    f, x = detector(square(12, 2, 2, 4)), image(12)
    for method, options in ((extremal_perturbation, dict(spacing=4, sigma=5.0, blur=2.0)), (meaningful_perturbation, SMALL)):
        sizes = {len(str(jax.make_jaxpr(lambda x: method(f, x, 0, KEY, steps=s, **options))(x))) for s in (11, 99)}
        assert len(sizes) == 1


def test_bad_examples_and_targets():
    f = detector(square(16, 2, 2, 4))
    for method in (meaningful_perturbation, extremal_perturbation):
        with pytest.raises(ValueError, match=r"\(4, 16, 16, 3\)"):
            method(lambda v: v.sum(), jnp.ones((4, 16, 16, 3)), None, KEY)
        with pytest.raises(ValueError, match="target=2"):
            method(f, image(16), 2, KEY)
    with pytest.raises(ValueError, match="key=None"):
        meaningful_perturbation(f, image(16), 0)
    for g, target in ((lambda v: v.sum(), None), (lambda v: v.sum()[None], 0)):
        with pytest.raises(ValueError, match="contrastive"):
            extremal_perturbation(g, image(16), target, reward="contrastive")
