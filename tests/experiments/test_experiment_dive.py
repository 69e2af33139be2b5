"""The experiment on DiVE runs, and its rows are what the searches and the oracle say."""

import json

import jax
import numpy as np
import pytest

from experiments.counterfactual import dive, leaning
from jxai import counterfactual
from jxai.evaluate.record import folder
from jxai.models import generators, lenet5

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_slant_is_the_slope_of_a_weighted_regression():
    x = np.random.default_rng(0).uniform(size=(3, 7, 9, 1))
    rows, columns = np.indices((7, 9))
    slopes = [np.polyfit(rows.ravel(), columns.ravel(), 1, w=np.sqrt(ink.ravel()))[0] for ink in x]
    np.testing.assert_allclose(leaning.slant(x), slopes, atol=1e-9)
    stroke = np.zeros((1, 5, 9, 1))
    stroke[0, np.arange(5), 2 * np.arange(5)] = 1
    assert leaning.slant(stroke)[0] == pytest.approx(2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"generator": "other"}, "generator='other'"),
        ({"per_gap": 0}, "per_gap=0"),
        ({"k": 1}, "k=1"),
        ({"agreements": (1.5,)}, "agreements=1.5"),
        ({"settings": ((1.5, 0.1),)}, "threshold=1.5"),
        ({"settings": ((0.5, 0.0),)}, "learning_rate=0.0"),
    ],
)
def test_bad_configurations_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        dive.run(dive.Config(**options))


@pytest.mark.slow
def test_dive(tmp_path, monkeypatch):
    small = {"train": 1500, "tests": 600, "training_steps": 60, "examples": 32, "k": 3, "settings": ((0.4, 0.4),), "steps": 12}
    config = dive.Config(per_gap=1, seeds=1, agreements=(0.9,), out=str(tmp_path), **small)
    few = ("spectral", "no masks")
    whole = dive.variants
    monkeypatch.setattr(dive, "variants", lambda *given: {name: m for name, m in whole(*given).items() if name in few})
    cases, asked = [], dive.asked
    monkeypatch.setattr(dive, "asked", lambda *given: cases.append(asked(*given)) or cases[-1])
    try:
        rows = dive.run(config)
    except (FileNotFoundError, ImportError) as error:
        pytest.skip(f"needs the data set mnist and the weights mnist_vae and mnist_lenet5: {error}")
    assert (folder(config) / "counterfactuals_0.9.png").stat().st_size > 1000
    assert len(json.loads((folder(config) / "results.json").read_text())["rows"]) == len(rows)
    row = {(r["seed"], r["method"], r["metric"]): r for r in rows}
    assert all(row["all", method, metric]["mean"] == pytest.approx(r["mean"], nan_ok=True) for (_, method, metric), r in row.items())

    case, vae, judge = cases[0][0], generators()["mnist_vae"](), lenet5()
    enlarged = lambda v: jax.image.resize(v, (32, 32, 1), "bilinear")
    oracle = jax.jit(jax.vmap(lambda v: judge(enlarged(v))))
    ask = lambda v: np.asarray(oracle(v)).argmax(1)
    assert len(case.x) == 8 and (ask(case.x) == case.digit).all() and (ask(case.again) == case.digit).all()
    own = np.asarray(jax.nn.softmax(jax.vmap(case.f)(case.x)))
    assert (own.argmax(1) == case.digit).all() and (case.digit + case.target == 13).all() and set(case.digit) <= {4, 9}
    code = np.asarray(jax.vmap(vae.encode)(case.x))
    np.testing.assert_allclose(case.code, code, atol=1e-4)

    masks = counterfactual.fisher_masks(case.f, vae, dive.fours_and_nines("train", 1500).x[:32], 3, jax.random.key(0))
    of = {metric: r for (seed, method, metric), r in row.items() if seed == 0 and method == "spectral"}
    assert of["codes in the largest mask"]["mean"] == masks.sum(1).max() and masks.sum() == 20
    search = counterfactual.dive.search(generator=vae, masks=masks, threshold=0.4, learning_rate=0.4, steps=12)
    found = counterfactual.run(search, case.f, case.x, case.target, jax.random.key(1000))
    points = found.x.reshape(24, 28, 28, 1)
    reached = np.asarray(jax.nn.softmax(jax.vmap(case.f)(points)))[np.arange(24), np.repeat(case.target, 3)].reshape(8, 3) >= 0.4
    assert of["reached, largest mask"]["mean"] == pytest.approx(reached[:, masks.sum(1).argmax()].mean())
    says = ask(points).reshape(8, 3)
    beyond, obvious = reached & (says == case.digit[:, None]), reached & (says == case.target[:, None])
    assert beyond.any() and not beyond.all() and reached.any()
    for metric, values in (("reached", reached), ("non-trivial", beyond), ("trivial", obvious)):
        assert of[metric]["mean"] == pytest.approx(values.mean()) and of[metric]["n"] == 8
    assert of["an image has both"]["mean"] == pytest.approx((beyond.any(1) & obvious.any(1)).mean())
    features = lambda v: np.asarray(jax.vmap(lambda u: judge.f6(_before(judge, enlarged(u))))(v), np.float64)
    a, b = np.repeat(features(case.x), 3, 0), features(points)
    cosines = ((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).reshape(8, 3)
    assert of["score"]["mean"] == pytest.approx((cosines * beyond).mean(), rel=1e-4)
    shares = [cosines[i][reached[i]].mean() for i in range(8) if reached[i].any()]
    assert of["similarity, reached"]["mean"] == pytest.approx(np.mean(shares), rel=1e-4) and of["similarity, reached"]["n"] == len(shares)
    assert of["steps"]["mean"] == found.steps.mean()
    steps = found.latent - code[:, None]
    units = steps / np.linalg.norm(steps, axis=2, keepdims=True)
    pairs = np.square(units @ units.transpose(0, 2, 1)).sum((1, 2)) - 3
    assert of["cos² of a pair"]["mean"] == pytest.approx(pairs.mean() / 6, abs=1e-4) and of["cos² of a pair"]["mean"] < 1e-3
    assert row[0, "no masks", "cos² of a pair"]["mean"] > 0.01
    more = row[0, "no masks", "non-trivial, spectral's minus this"]["mean"]
    assert more == pytest.approx(beyond.mean() - row[0, "no masks", "non-trivial"]["mean"])
    assert row[0, "spectral", "score, spectral's minus this"]["mean"] == 0 and (0, "one explanation", "APD") not in row


def _before(judge, x):
    """What LeNet-5's first linear layer reads."""
    pool = lambda v: v.reshape(v.shape[0] // 2, 2, v.shape[1] // 2, 2, -1).max((1, 3))
    return judge.c5(pool(judge.c3(pool(judge.c1(x))))).reshape(-1)


def test_too_few_images_are_an_error():
    try:
        tests = dive.fours_and_nines("test", 100)
        vae, oracle = generators()["mnist_vae"](), jax.tree_util.Partial(dive.enlarged, lenet5())
    except (FileNotFoundError, ImportError, ValueError) as error:
        pytest.skip(f"needs the data set mnist and the weights mnist_vae and mnist_lenet5: {error}")
    never = jax.tree_util.Partial(lambda x: jax.nn.one_hot(0, 10) + 0 * x.sum())
    with pytest.raises(ValueError, match="tests=.* are too few"):
        dive.asked(never, oracle, vae, tests, 1)
