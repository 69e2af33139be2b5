"""Images are shifted as is said, networks drop what they should, and the best method is the best."""

import jax
import numpy as np
import pytest
from flax import nnx

from experiments.uncertainty import calibration_under_shift as experiment
from experiments.uncertainty import shifted_images

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture
def made_up(monkeypatch):
    def images(split, count, seed=None, dataset="mnist"):
        shape = (28, 28, 1) if dataset == "mnist" else (32, 32, 3)
        return np.random.default_rng(0).integers(0, 256, (count, *shape)).astype(np.float32) / 255, np.arange(count) % 10

    monkeypatch.setattr(shifted_images, "mnist", images)


def test_digits_are_rotated_and_rolled(made_up):
    found = {(kind, level): x for kind, level, x, _ in shifted_images.shifts("mnist", 3, ())}
    plain = found["as it is", 0]
    np.testing.assert_allclose(found["rotated", 180], plain[:, ::-1, ::-1], atol=1e-4)
    np.testing.assert_array_equal(found["rolled", 2][:, :, 2:], plain[:, :, :-2])
    np.testing.assert_array_equal(found["rolled", 2][:, :, :2], plain[:, :, -2:])
    assert len(found) == 1 + len(shifted_images.ANGLES) + len(shifted_images.STEPS)


def test_pictures_are_corrupted_each_with_its_own_draws(made_up):
    pytest.importorskip("imagecorruptions")
    shifted_images.corrupted.cache_clear()
    rows = shifted_images.shifts("cifar10", 2, ("gaussian_noise", "contrast"))
    plain, (_, level, x, y) = rows[0][2], rows[-1]
    assert level == 5 and x.shape == (4, 32, 32, 3) and y.tolist() == [0, 1, 0, 1]
    noise = (x[:2] - plain)[:, 8:, 8:].reshape(2, -1)
    assert abs(np.corrcoef(noise)[0, 1]) < 0.1 and 0.05 < noise.std() < 0.15
    assert x[2:].std() < 0.3 * plain.std()
    shifted_images.corrupted.cache_clear()


def test_networks_drop_with_a_key_alone():
    f = shifted_images.Network((12, 12, 1), 0.5, rngs=nnx.Rngs(0))
    x = np.ones((12, 12, 1), np.float32)
    keys = jax.random.split(jax.random.key(0), 400)
    drawn = jax.vmap(lambda key: f(x, key))(keys)
    assert drawn.std(0).min() > 0 and np.array_equal(f(x), f(x))
    kept = f._kept(np.ones(10_000, np.float32), keys[0])
    assert set(np.unique(kept)) == {0.0, 2.0} and abs(kept.mean() - 1) < 0.05


def test_metrics_and_who_is_best():
    logits, labels = np.log(np.float32([[0.7, 0.3], [0.2, 0.8]])), np.array([0, 0])
    found = experiment.judged(logits, labels)
    assert found["accuracy"] == 0.5
    np.testing.assert_allclose([found["NLL"], found["Brier"]], [-np.log([0.7, 0.2]).mean(), (2 * 0.3**2 + 2 * 0.8**2) / 2], rtol=1e-5)
    values = {("as it is", 0): (1, 0, 0), ("rotated", 15): (0.2, 0.1, 0.0), ("rotated", 30): (0.3, 0.3, 0.0)}
    methods = ("vanilla", "ensemble", "ensemble, temperature")
    seed = {(*level, method, metric): np.asarray(v) for level, row in values.items() for method, v in zip(methods, row) for metric in experiment.METRICS}
    rows = experiment.rows_of("mnist", [seed, seed])
    best = {(r["method"], r["metric"]): r["mean"] for r in rows if r["kind"] == "best"}
    assert best["ensemble", "NLL"] == 0.5 and best["vanilla", "NLL"] == 0 and best["vanilla", "accuracy"] == 0.5  # a tie is nobody's
    assert ("ensemble, temperature", "NLL") not in best


def test_an_unknown_world_is_named(tmp_path):
    with pytest.raises(ValueError, match="worlds='svhn' must be one of"):
        experiment.run(experiment.Config(worlds=("svhn",), out=str(tmp_path)))
