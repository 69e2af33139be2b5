"""overinterpretation.py: what it says of subsets is recomputed by hand, and the whole of it runs and goes on on networks of a moment."""

import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.sufficiency import overinterpretation, pixel_subsets, subset_training
from jxai.evaluate.record import folder
from jxai.models import CNN
from jxai.sufficiency import batched_gradient_sis

pytestmark = pytest.mark.usefixtures("quick_compilation")
SMALL = dict(images=3, per_step=64, passes=130, steps=2, taught=128, judged=20, subset_per_step=128, epochs=1, seeds=2, members=2, sized=3)


def test_sizes_and_masks_of_an_order():
    curve = np.asarray([[0.95, 0.99, 0.5, 0.91, 0.2], [0.8, 0.95, 0.9, 0.1, 0.1]])
    removed_at = np.asarray([[0, 0, 1, 1, 2, 2, 3], [3, 2, 2, 1, 1, 0, 0]])
    order = pixel_subsets.Order(removed_at, curve, 2)
    assert np.allclose(order.left(np.arange(5)), [1, 5 / 7, 3 / 7, 1 / 7, 0])
    sizes = order.sizes(0.9)
    assert sizes[0] == pytest.approx(1 / 7) and np.isnan(sizes[1])  # the last crossing; the whole second image is below
    assert order.step_of(0.43) == 2 and order.step_of(1.0) == 0
    assert (order.masks(2, (7, 1))[..., 0, 0] == [[0, 0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0, 0]]).all()
    assert (order.masks(np.asarray([0, 3]), (7, 1)).sum((1, 2, 3)) == [7, 1]).all()


def test_the_share_on_the_border():
    mask = np.zeros((2, 6, 6, 1), np.float32)
    mask[0, 0], mask[0, 3, 3], mask[1, 2:4, 2:4] = 1, 1, 1
    assert np.allclose(pixel_subsets.on_border(mask, 1), [6 / 7, 0])


def test_an_ensemble_is_the_mean_of_probabilities():
    nets = [CNN(3, (4,), 5, rngs=nnx.Rngs(i)) for i in range(3)]
    x = jax.random.uniform(jax.random.key(0), (8, 8, 3))
    mean = np.mean([jax.nn.softmax(f(x)) for f in nets], 0)
    assert np.allclose(jax.nn.softmax(subset_training.Ensemble(nets)(x)), mean, atol=1e-6)
    assert np.allclose(jnp.exp(subset_training.Ensemble(nets)(x)), mean, atol=1e-6)


def test_input_dropout_drops_whole_pixels():
    seen = []

    class Spy(nnx.Module):
        def __call__(self, x):
            jax.debug.callback(lambda v: seen.append(np.asarray(v)), x)
            return x.sum((0, 1))

    subset_training.dropping(Spy(), jnp.ones((20, 16, 16, 3)), jnp.zeros(20, int), jax.random.key(0))
    seen = np.concatenate([v.reshape(-1, 16, 16, 3) for v in seen])
    assert (seen.min(-1) == seen.max(-1)).all() and seen.mean() == pytest.approx(subset_training.KEEP, abs=0.02)


def test_linear_models_need_what_they_weigh():
    """Of a linear model backward selection keeps the pixels that speak most for the class, and measures say what is left."""

    def f(x):
        return jnp.stack([x.sum(-1).ravel() @ weights, 0.0])

    weights = jnp.asarray(np.random.default_rng(0).normal(size=64), jnp.float32)
    x = np.ones((2, 8, 8, 3), np.float32) * np.asarray([1, 0.5], np.float32)[:, None, None, None]
    label = np.zeros(2, int)
    config = overinterpretation.Config(share=0.25)
    order = pixel_subsets.by_gradients(f, x, label, jax.random.key(0), 1, jnp.asarray(0.0), 2)
    kept = np.sort(np.asarray(weights))[::-1][:16].sum() * 3
    values = overinterpretation.measured(config, f, x, label, order, np.float32(0))
    assert np.allclose(values["p at 25%"], 1 / (1 + np.exp(-kept * np.asarray([1, 0.5]))), atol=1e-5)
    assert values["class stays at 25%"].all() and (order.masks(order.step_of(0.25), (8, 8)).sum((1, 2, 3)) == 16).all()


@pytest.fixture
def moment(monkeypatch):
    """Random networks and noise in place of those given."""
    rng = np.random.default_rng(0)
    nets = {name: CNN(3, (4, 8), rngs=nnx.Rngs(n)) for n, name in enumerate(pixel_subsets.NETWORKS)}
    subjects = {name: SimpleNamespace(build=lambda f=f: SimpleNamespace(model=f, class_names=tuple("abcdefghij"))) for name, f in nets.items()}
    sets = {split: rng.uniform(size=(200, 32, 32, 3)).astype(np.float32) for split in ("train", "test")}
    labels = rng.integers(0, 10, 200)
    for module in (overinterpretation, subset_training):
        monkeypatch.setattr(module, "available", lambda: subjects)
        monkeypatch.setattr(module, "mnist", lambda split, count, dataset: (sets[split][:count], labels[:count]))
        monkeypatch.setattr(module, "THRESHOLDS", (0.05, 0.1))
    monkeypatch.setattr(subset_training, "WIDTHS", (4, 8))
    every = pixel_subsets.rankings(130, 2, 32)
    monkeypatch.setattr(overinterpretation, "rankings", lambda *_: {name: every[name] for name in ("|gradient|", "grad-cam")})
    return nets, sets["test"]


@pytest.mark.slow
def test_it_runs_and_goes_on(tmp_path, moment):
    nets, x = moment
    config = overinterpretation.Config(parts=("cifar10", "training"), out=str(tmp_path), **SMALL)
    rows = overinterpretation.run(config)
    here = folder(config)
    written = json.loads((here / "results.json").read_text())
    assert len(written["rows"]) == len(rows) and all({"mean", "low", "high", "n"} <= set(row) for row in rows)
    assert (here / "cifar10.png").stat().st_size > 5000
    f = nets["cifar10_resnet56"]
    fill = jnp.asarray(overinterpretation.MEAN)
    sizes = [
        batched_gradient_sis(f, v, None, jax.random.fold_in(jax.random.key(0), i), threshold=0.1, per_step=64, fill=fill, score="probability")
        for i, v in enumerate(x[:3])
    ]
    row = next(r for r in rows if (r["network"], r["order"], r["metric"]) == ("cifar10_resnet56", "backward selection", "pixels for 0.1"))
    assert row["mean"] == pytest.approx(np.mean([float(c.size) / 1024 for c in sizes if c.holds])) and row["n"] == sum(bool(c.holds) for c in sizes)
    by = {(r["order"], r["metric"]): r for r in rows if r["part"] == "training"}
    assert by["masks that it selects, alone", "accuracy"]["n"] == 40 and by["whole images", "accuracy, by seed"]["n"] == 2
    assert {"one network", "ensemble of 2", "input dropout", "both"} <= {order for order, _ in by}
    again, before = [], {p: p.stat().st_mtime_ns for p in (here / "kept").iterdir()}
    (here / "results.json").unlink()
    assert overinterpretation.run(config, again.append) == rows
    assert {p: p.stat().st_mtime_ns for p in (here / "kept").iterdir()} == before and again


@pytest.mark.parametrize(
    ("bad", "message"),
    [({"parts": ("mnist",)}, "parts='mnist'"), ({"share": 1.0}, "share=1.0"), ({"per_step": 0}, "per_step=0"), ({"confidence": -1.0}, "confidence=-1.0")],
)
def test_bad_configurations(bad, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        overinterpretation.run(overinterpretation.Config(**{"out": str(tmp_path), **bad}))
    assert not list(tmp_path.iterdir())
