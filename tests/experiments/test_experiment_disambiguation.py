"""The experiment on two likely labels: worlds whose truth is known by hand, rows recomputed from the routines alone, and a run that goes on."""

import json
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from experiments.sufficiency import disambiguation, two_labels, verdicts
from jxai import data
from jxai.attribution import feature_ablation
from jxai.certificates import verify
from jxai.evaluate.record import folder
from jxai.models import available
from jxai.sufficiency import disambiguate, disambiguate_exactly

pytestmark = pytest.mark.usefixtures("quick_compilation")

SMALL = dict(images=60, pairs=3, exact=2, least=1e-6, coarse=4, segments=6, steps=2, masks=8, designs=2, pictures=1)
FEW = ("random", "extreme_baselines", "feature_ablation")


@pytest.fixture(autouse=True)
def few_methods(monkeypatch):
    whole = disambiguation.methods
    monkeypatch.setattr(disambiguation, "methods", lambda *given: {name: method for name, method in whole(*given).items() if name in FEW})


@pytest.mark.slow
def test_two_things_are_disjoint_and_two_names_overlap(tmp_path, monkeypatch):
    """Classes 0 and 2 look at the quarter above on the left, class 1 at the half below, and class 3 at nothing."""
    x = np.random.default_rng(0).uniform(0.6, 1, (16, 16, 3)).astype(np.float32)
    monkeypatch.setattr(sys.modules[__name__], "FEW", ("feature_ablation",))
    monkeypatch.setattr(disambiguation, "segmented", lambda x, most: jnp.arange(8).reshape(2, 4).repeat(8, 0).repeat(4, 1))
    seen = np.zeros((3, *x.shape), np.float32)
    seen[[0, 2], :8, :8], seen[1, 8:] = 1 / 64, 1 / 128
    subject = SimpleNamespace(
        model=Partial(lambda w, v: 4 * jnp.append(jnp.einsum("khwc,hwc->k", w, v), 0.5), jnp.asarray(seen)), class_names=("a", "b", "A", "none")
    )
    config = disambiguation.Config(**{**SMALL, "segments": 10, "coarse": 8, "pictures": 0, "exact": 1, "out": str(tmp_path)})
    found = [disambiguation.examined(config, tmp_path, subject, two_labels.Pair(two_labels.TWO, 0, x, np.array(labels))) for labels in ((0, 1), (0, 2))]
    for view, method, score in (("fine", "feature_ablation", "probability"), ("coarse", "exact", "probability"), ("coarse", "exact", "logit")):
        apart, same = (dict(zip(verdicts.FIELDS, one[f"{view}, {method}, {score}"], strict=True)) for one in found)
        assert apart["holds, disjoint"] and apart["largest, disjoint"] > 0.9 and not same["holds, disjoint"] and same["largest, disjoint"] < 0.6
        assert same["holds, overlapping"] and same["largest, overlapping"] > 0.9
    of = verdicts.columns(found[:1], "fine, feature_ablation, probability")
    assert [verdicts.measured(of, world)["told right"] for world in ("two objects", "one object")] == [1, 0]


@pytest.mark.slow
def test_rows_are_what_the_routines_say_and_a_run_goes_on(tmp_path, monkeypatch):
    config = disambiguation.Config("digits", "digits_cnn", out=str(tmp_path), **SMALL)
    kept, worlds = {}, disambiguation.worlds
    monkeypatch.setattr(disambiguation, "worlds", lambda *given: kept.setdefault("worlds", worlds(*given)))
    told = []
    rows = disambiguation.run(config, told.append)
    assert told[-1].endswith(": proofs that did not verify: 0")
    content = json.loads(((here := folder(config)) / "results.json").read_text())
    assert content["config"]["pairs"] == 3 and all({"mean", "low", "high", "n"} <= set(row) for row in content["rows"])
    assert all((here / f"{name}.png").stat().st_size > 1000 for name in ("deltas", "two_objects_0000", "one_object_0000"))
    row = {(r["world"], r.get("segments"), r.get("method"), r.get("score"), r["metric"]): r for r in rows}
    f, (pairs, fates) = available()["digits_cnn"].build().model, kept["worlds"]
    for world in ("two objects", "one object"):
        own, n = [pair for pair in pairs if pair.world == world], len(fates[world])
        assert len(own) == 3 == fates[world].count("kept") and row[world, None, None, None, "kept"]["mean"] == pytest.approx(3 / n)
        shown = {name: [] for name in ("largest, disjoint", "disjoint", "overlapping", "passes", "exact", "segments, exact")}
        for pair in own:
            labels = two_labels.segmented(pair.x, 6)
            n = int(labels.max()) + 1
            options = dict(attribution=feature_ablation, attribution_options={"segments": labels, "num_segments": 6, "score": "probability"})
            one = disambiguate(f, jnp.asarray(pair.x), pair.labels, segments=labels, num_segments=6, delta=0.8, score="probability", **options)
            shown["largest, disjoint"].append(one.largest_disjoint)
            shown["disjoint"].append(one.disjoint.holds & ~one.overlapping.holds)
            shown["overlapping"].append(one.overlapping.holds & ~one.disjoint.holds)
            shown["passes"].append(1 + n + 4 * n + 7)
            if pair.number < 2:  # by the network itself rather than by what it has shown once
                few = dict(segments=two_labels.segmented(pair.x, 4), num_segments=4, delta=0.8, score="probability")
                exact = disambiguate_exactly(f, jnp.asarray(pair.x), pair.labels, **few)
                shown["exact"].append([exact.largest_disjoint, exact.largest_overlapping])
                shown["segments, exact"].append(int(exact.overlapping.size) if verify(f, jnp.asarray(pair.x), exact.overlapping).holds else np.nan)
        for metric in ("largest, disjoint", "disjoint", "overlapping", "passes"):
            found = row[world, "fine", "feature_ablation", "probability", metric]
            assert found["mean"] == pytest.approx(np.mean(shown[metric]), abs=1e-4) and found["n"] == 3
        exact = [row[world, "coarse", "exact", "probability", f"largest, {kind}"]["mean"] for kind in ("disjoint", "overlapping")]
        assert exact == pytest.approx(np.mean(shown["exact"], 0), abs=1e-4)
        fewest = row[world, "coarse", "exact", "probability", "segments, overlapping"]
        assert fewest["n"] == np.isfinite(shown["segments, exact"]).sum()
        assert fewest["n"] == 0 or fewest["mean"] == pytest.approx(np.nanmean(shown["segments, exact"]))
    for path in (here / "kept").iterdir():
        found = {name: dict(zip(verdicts.FIELDS, value, strict=True)) for name, value in np.load(path).items()}
        coarse = [name for name in found if name.startswith("coarse")]
        assert len(coarse) == (2 * len(FEW) + 2 if path.stem[-1] < "2" else 0) and len(found) == 2 * len(FEW) + len(coarse)
        for name in coarse:
            most = found[f"coarse, exact, {name.split(', ')[2]}"]
            assert not any(found[name][f"largest, {kind}"] > most[f"largest, {kind}"] + 1e-5 for kind in ("disjoint", "overlapping"))
    (here / "kept" / "one_object_0001.npz").unlink()
    (here / "results.json").unlink()
    times, examined = [], disambiguation.examined
    monkeypatch.setattr(disambiguation, "examined", lambda *given: times.append(given[3].stem) or examined(*given))
    again = disambiguation.run(config)
    assert times == ["one_object_0001"] and json.dumps(again) == json.dumps(rows)


@pytest.mark.slow
def test_what_was_shown_once_is_what_the_network_says():
    f, x = available()["digits_cnn"].build().model, jnp.asarray(np.float32(data.Digits()[0].pixels) / 255)
    segments = jnp.arange(4).at[2].set(3).repeat(2)[:, None] + jnp.zeros((8, 8), int)  # there is no segment 2
    seen = jax.jit(two_labels.shown, static_argnames="num")(f, x, segments, num=4)
    for removed in ([], [0], [1], [3], [0, 3], [1, 2], [0, 1, 3]):
        mask = 1.0 - jnp.isin(segments, jnp.asarray(removed, int))[..., None]
        assert np.allclose(seen(mask), f(x * mask), atol=1e-5)


def test_verdicts_exclude_each_other():
    columns = {f"{what}, {kind}": np.ones(5) for kind in ("disjoint", "overlapping") for what in ("segments", "holds", "largest")}
    columns |= {"holds, disjoint": np.array([1, 0, 1, 0, 0]), "holds, overlapping": np.array([0, 1, 1, 0, 0]), "passes": np.ones(5)}
    columns |= {"largest, disjoint": np.array([0.9, 0.1, 0.9, 0.3, np.nan]), "largest, overlapping": np.array([0.1, 0.9, 0.8, 0.4, np.nan])}
    values = verdicts.measured(columns, "one object")
    for name, expected in {"disjoint": [1, 0, 0, 0, 0], "overlapping": [0, 1, 0, 0, 0], "both": [0, 0, 1, 0, 0], "none": [0, 0, 0, 1, 1]}.items():
        assert values[name].tolist() == expected
    assert np.array_equal(values["told right"], [0, 1, 0, 1, np.nan], equal_nan=True)
    assert np.array_equal(values["segments, disjoint"], [1, np.nan, 1, np.nan, np.nan], equal_nan=True)


def test_montages_show_both_photographs():
    source, subject = data.Digits(), available()["digits_cnn"].build()
    config = disambiguation.Config("digits", "digits_cnn", **SMALL)
    places, labels, p = right = two_labels.classified(config, subject, source)
    shown = np.stack([np.float32(source[int(i)].pixels) / 255 for i in range(60)])
    chances = np.asarray(jax.nn.softmax(jax.vmap(subject.model)(shown)))
    truth = np.asarray([source[i].label for i in range(60)])
    assert places.tolist() == np.flatnonzero(chances.argmax(1) == truth).tolist() and np.allclose(p, chances.max(1)[places], atol=1e-5)
    made = list(two_labels.montages(config, right, lambda i: np.full((8, 8, 1), i / 100, np.float32)))
    ways = set()
    for x, pair in made:
        (a, b), ways = np.unique(np.round(100 * x).astype(int)[[0, -1], [0, -1], 0])[[0, -1]], ways | {bool(np.ptp(x[:, 0]) > 0)}
        assert pair[0] != pair[1] and {truth[a], truth[b]} == set(pair) and (np.round(100 * x) == a).mean() == 0.5
        assert truth[int(np.round(100 * x[0, 0, 0]))] == pair[0]
        assert min(p[places == a], p[places == b]) >= config.confident
    assert ways == {True, False} and len(made) <= 2 * (len(places) // 2)


@pytest.mark.parametrize("name, value", [("pairs", 0), ("exact", 4), ("coarse", 15), ("delta", 1.0), ("least", -0.1), ("designs", 1), ("top", 1)])
def test_what_cannot_be_run(tmp_path, name, value):
    with pytest.raises(ValueError, match=f"{name}={value}"):
        disambiguation.run(disambiguation.Config("digits", "digits_cnn", out=str(tmp_path), **{**SMALL, name: value}))
    assert not list(tmp_path.iterdir())


def test_too_few_pairs(tmp_path):
    with pytest.raises(ValueError, match="pairs=3 must be at most 0, as many as there are of two objects in images=60"):
        disambiguation.run(disambiguation.Config("digits", "digits_cnn", out=str(tmp_path), **{**SMALL, "least": 0.6}))
