"""The metrics on counterfactuals of a trained network: nearness alone prefers those that look adversarial, and the others tell them apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jxai import counterfactual, each
from jxai.metrics import counterfactual as metrics

pytestmark = [pytest.mark.slow]


def test_searches_among_pixels_are_nearer_and_searches_among_codes_more_plausible():
    datasets = pytest.importorskip("sklearn.datasets")
    from jxai.models.digits import digits_cnn, digits_vae

    digits = datasets.load_digits()
    images, labels = (digits.images / 16).astype(np.float32)[..., None], digits.target.astype(np.int32)
    f, oracle, generator = digits_cnn(0), digits_cnn(1), digits_vae()
    n = 60
    x, y = images[1200 : 1200 + n], labels[1200 : 1200 + n]
    target = ((y + 1 + np.arange(n) % 9) % 10).astype(np.int32)
    codes = counterfactual.run(counterfactual.diffeomorphic.search(generator=generator, steps=300), f, x, target)
    pixels = counterfactual.run(counterfactual.wachter.search(loss="cross_entropy", distance="l2", threshold=0.99, steps=300), f, x, target)
    data = {"examples": jnp.asarray(images[:1200]), "labels": jnp.asarray(labels[:1200])}

    def mean(name, found, **options):
        return float(np.nanmean(each(getattr(metrics, name), f, x, found.x, target, batch_size=8, **options)))

    for found in (codes, pixels):
        assert mean("validity", found) > 0.95
        assert np.array_equal(each(metrics.validity, f, x, found.x, target) == 1, jax.vmap(f)(found.x).argmax(1) == target)
    assert mean("l2", pixels) < mean("l2", codes) and mean("l1", pixels) < mean("l1", codes)
    assert mean("oracle_agreement", codes, oracle=oracle) > mean("oracle_agreement", pixels, oracle=oracle)
    assert mean("knn_target_share", codes, **data) > 0.5 > mean("knn_target_share", pixels, **data) + 0.2
    assert mean("trust_score", codes, **data) > 1 > mean("trust_score", pixels, **data)
    assert mean("nearest_target_distance", codes, **data) < mean("nearest_target_distance", pixels, **data)
    worth = [metrics.substitutability(c.x, target, *data.values(), images[1200:], labels[1200:]) for c in (codes, pixels)]
    assert worth[0] > worth[1] + 0.2
