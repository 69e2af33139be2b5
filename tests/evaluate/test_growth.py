"""A run that grows: what it holds is to the bit what one call for all of it makes, nothing is computed twice, and what is something else is refused by its name."""

import collections
import shutil

import jax
import numpy as np
import pytest
import runs

from jxai import data, evaluate, metrics
from jxai.attribution import gradient, occlusion, rise
from jxai.evaluate import examples
from jxai.evaluate.table import scores_of

pytestmark = pytest.mark.usefixtures("quick_compilation")

METHODS = {"gradient": gradient, "rise": (rise, {"num_masks": 7, "grid": 2}), "occlusion": (occlusion, {"window": 4, "stride": 4, "fill": 0.5})}
METRICS = {
    "sparseness": metrics.sparseness,
    "deletion": (metrics.deletion, {"steps": 4}),
    "correlation": (metrics.faithfulness_correlation, {"num_samples": 4}),
}
STEPS = (
    dict(methods=["gradient"], metrics=["sparseness"], limit=9),
    dict(methods=["gradient", "rise"], metrics=["sparseness"], limit=9),
    dict(methods=["gradient", "rise"], metrics=["sparseness", "deletion"], limit=9),
    dict(methods=["gradient", "rise"], metrics=["sparseness", "deletion"], limit=14),
    dict(methods=["gradient", "rise"], metrics=["sparseness", "deletion", "correlation"], limit=14, seeds=(0, 1)),
    dict(methods=["gradient", "rise", "occlusion"], metrics=["sparseness", "deletion", "correlation"], limit=14, seeds=(0, 1)),
)


def run(out, methods, metrics, f=None, source=None, **options):
    chosen = {name: METHODS[name] for name in methods}, {name: METRICS[name] for name in metrics}
    return evaluate.run(f or runs.model(), source or data.Digits(), *chosen, out, **{"block": 4, "batch_size": 2, **options})


@pytest.fixture
def counted(monkeypatch):
    """How often each routine was run on each example, by each key and of each map, but for the few of which a run that is there is known again."""
    calls, each, answers = collections.Counter(), examples.Examples.each, examples.Examples.answers
    counting = [True]

    def counting_each(self, fn, source, batch, own, key, *rows, **options):
        if counting[0]:
            data_ = None if key is None else jax.random.key_data(key).tobytes()
            last = [None] * len(batch.index) if rows[-1] is None else rows[-1]
            calls.update((source.__name__, str(options.get("blanks")), data_, hash(np.asarray(row).tobytes()), int(i)) for i, row in zip(batch.index, last))
        return each(self, fn, source, batch, own, key, *rows, **options)

    def uncounted(self, *given):
        counting[0] = False
        try:
            return answers(self, *given)
        finally:
            counting[0] = True

    monkeypatch.setattr(examples.Examples, "each", counting_each)
    monkeypatch.setattr(examples.Examples, "answers", uncounted)
    return calls


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """All at once, and in two steps."""
    before, out = jax.config.read("jax_disable_most_optimizations"), tmp_path_factory.mktemp("growth")
    jax.config.update("jax_disable_most_optimizations", True)
    whole = run(out / "whole", **STEPS[-1])
    run(out / "grown", **STEPS[0])
    grown = run(out / "grown", **STEPS[-1])
    jax.config.update("jax_disable_most_optimizations", before)
    return whole, grown


@pytest.fixture
def begun(both):
    return both[0]


def test_nothing_is_computed_twice_and_the_table_is_that_of_one_call(begun, tmp_path, counted):
    for step in STEPS:
        before = collections.Counter(counted)
        grown = run(tmp_path / "run", **step)
        assert counted != before, step
        mark = collections.Counter(counted)
        run(tmp_path / "run", **step)
        assert counted == mark, "the same call again computes nothing"
    assert runs.same(grown, begun) and max(counted.values()) == 1
    for method in METHODS:
        maps, others = grown.maps(method), begun.maps(method)
        assert maps.keys() == others.keys() and all(np.array_equal(maps[i], others[i]) for i in maps)
    first, second = grown.maps("rise"), grown.maps("rise@seed=1")
    assert first.keys() == second.keys() and not any(np.array_equal(first[i], second[i]) for i in first)
    rows = [evaluate.report([one], tmp_path / "report", pictures=False) for one in (grown, begun)]
    assert [row[1:] for row in rows[0]] == [row[1:] for row in rows[1]]


def test_one_thing_under_another_label_is_refused_rather_than_computed_twice(tmp_path):
    go = lambda methods, judged: evaluate.run(runs.model(), data.Digits(), methods, judged, tmp_path / "run", limit=4, batch_size=2)
    go({"rise": METHODS["rise"]}, ["sparseness"])
    with pytest.raises(ValueError, match="method 'rise@num_masks=7' is what the run has as 'rise': ask for it by that label"):
        go(evaluate.variants(rise, num_masks=[5, 7], grid=2), ["sparseness"])
    with pytest.raises(ValueError, match="metric 'again' is what the run has as 'sparseness'"):
        go({"rise": METHODS["rise"]}, {"again": metrics.sparseness})
    assert go({"rise": METHODS["rise"], **evaluate.variants(rise, num_masks=5, grid=2, name="few")}, ["sparseness"]).methods == ["rise", "few"]


def test_a_run_does_not_grow_into_two_columns_of_one_name(tmp_path):
    go = lambda methods, **seeds: evaluate.run(runs.model(), data.Digits(), methods, ["sparseness"], tmp_path / "run", limit=2, batch_size=2, **seeds)
    go({"rise": METHODS["rise"]}, seeds=(0, 1))
    with pytest.raises(ValueError, match="the column 'rise@seed=1' would be of rise and of rise@seed=1: give one of them another label"):
        go({"rise@seed=1": (rise, {"num_masks": 5, "grid": 2})})


def test_only_what_draws_is_computed_for_another_seed(begun, tmp_path):
    names = {name.removeprefix("score/") for name in begun.table() if name.startswith("score/") and "@" in name}
    drawing = ("correlation", "deletion")  # which draws the order of ties
    assert names == {"rise@seed=1/sparseness", *(f"{method}@seed=1/{metric}" for method in METHODS for metric in drawing)}
    assert begun.config["methods"]["gradient"]["seeds"] == [0] and begun.config["methods"]["rise"]["seeds"] == [0, 1]
    table = begun.table()
    found = scores_of(begun, table, "correlation")
    assert np.array_equal(found[:, 1], np.mean([table["score/rise/correlation"], table["score/rise@seed=1/correlation"]], 0, np.float64))
    alone = run(tmp_path / "run", ["rise"], ["correlation"], limit=14, seeds=(1,)).table()
    assert np.array_equal(alone["score/rise@seed=1/correlation"], table["score/rise@seed=1/correlation"])
    evaluate.report([begun], tmp_path / "report", pictures=False)
    text = (tmp_path / "report" / "summary.md").read_text()
    assert "Averaged over the seeds 0, 1 within each example" in text and "sparseness of rise; deletion of all methods" in text


def test_a_run_that_is_killed_while_it_grows(begun, tmp_path):
    class Stop(BaseException):
        pass

    def stop(progress):
        if progress.fresh >= 4:
            raise Stop

    for step in STEPS:
        with pytest.raises(Stop):
            run(tmp_path / "run", **step, on_progress=stop)
    partial = evaluate.Run(tmp_path / "run")
    evaluate.report([partial], tmp_path / "report", pictures=False)
    lacking = partial.lacking()
    assert "Not there yet" in (tmp_path / "report" / "summary.md").read_text() and lacking["occlusion", "deletion"] == len(partial.table()["index"]) - 4
    assert runs.same(run(tmp_path / "run", **STEPS[-1]), begun)


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["blocks/000001.npz", "maps/000001.npz", "maps/000001.1.npz"])
def test_damage_is_found_whenever_it_was_made(both, tmp_path, broken, counted):
    begun, grown = both[0], evaluate.Run(shutil.copytree(both[1].path, tmp_path / "run"))
    path = tmp_path / "run" / broken
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content if broken.startswith("maps") else content[: len(content) // 2])
    assert grown.damaged_maps() == [1]
    assert runs.same(run(tmp_path / "run", **STEPS[-1]), begun) and grown.damaged_maps() == []
    places = set(grown.block(1).columns()["index"].tolist())
    assert counted and {place for *_, place in counted} == places
    assert all(np.array_equal(grown.maps(m)[i], begun.maps(m)[i]) for m in METHODS for i in places)


def test_another_thing_under_a_label_that_is_there_is_refused_and_has_a_label_of_its_own(begun, tmp_path):
    shutil.copytree(begun.path, tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.*")}
    for methods, judged, word in (
        (
            {"rise": (rise, {"num_masks": 8, "grid": 2})},
            ["sparseness"],
            "methods.rise.options.num_masks: 7 there, 8 here; .*the method here may also take another label",
        ),
        (
            ["gradient"],
            {"deletion": (metrics.deletion, {"steps": 5})},
            "metrics.deletion.options.steps: 4 there, 5 here; .*the metric here may also take another label",
        ),
        (["gradient"], {"deletion": (metrics.deletion, {"steps": 4, "score": "probability"})}, "metrics.deletion.on.gradient.score: 'logit' there"),
    ):
        with pytest.raises(ValueError, match=word):
            evaluate.run(runs.model(), data.Digits(), methods, judged, tmp_path / "run", limit=14, batch_size=2)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.*")}
    more = evaluate.variants(rise, num_masks=[6, 8], grid=2)
    assert list(more) == ["rise@num_masks=6", "rise@num_masks=8"]
    grown = evaluate.run(runs.model(), data.Digits(), more, ["entropy"], tmp_path / "run", limit=14, batch_size=2)
    assert grown.methods == [*METHODS, *more]
    other = evaluate.run(runs.model(), data.Digits(), {"rise": more["rise@num_masks=8"]}, ["entropy"], tmp_path / "other", limit=14, batch_size=2)
    assert all(np.array_equal(maps, other.maps("rise")[i]) for i, maps in grown.maps("rise@num_masks=8").items())  # columns of one name share their draws
    rows = {(row.method, row.metric): row for row in evaluate.report([grown], tmp_path / "report", pictures=False)}
    assert rows["rise@num_masks=8", "entropy"].n == 14 and rows["rise@num_masks=8", "deletion"][6:10] == (0, 0, 14, 0)
    assert "Never asked for together (–): rise@num_masks=6 by sparseness" in (tmp_path / "report" / "summary.md").read_text()


def test_fewer_examples_or_others_are_refused(begun):
    for change, word in (
        ({"limit": 13}, "data.examples: 14 there, 13 here.*never fewer"),
        ({"sample": "first"}, "data.sample: 'stratified' there, 'first' here"),
    ):
        with pytest.raises(ValueError, match=word):
            run(begun.path, **{**STEPS[-1], **change})


def test_the_examples_that_are_classified_right_are_told_once(tmp_path, counted):
    run(tmp_path / "run", ["gradient"], ["sparseness"], where="correct", limit=30)
    grown = run(tmp_path / "run", ["gradient"], ["sparseness"], where="correct", limit=60)
    whole = run(tmp_path / "whole", ["gradient"], ["sparseness"], where="correct", limit=60)
    assert runs.same(grown, whole) and 0 < len(grown.table()["index"]) < 60
    assert max(n for (name, *_), n in counted.items() if name == "gradient") == 2, "once in each run"


class Fading(data.Digits):
    """A source that tells nothing of its content, whose example 0 is lost."""

    digest = None
    lost = False

    def __getitem__(self, index):
        if self.lost and index == 2:
            raise OSError("gone")
        return super().__getitem__(index)


def test_an_example_that_can_no_longer_be_read_stops_the_growth(tmp_path):
    source = Fading()
    run(tmp_path / "run", ["gradient"], ["sparseness"], source=source, limit=9, sample="first")
    source.lost = True
    with pytest.raises(ValueError, match=r"example 2 \(2\) could be read when the run began, and now cannot: OSError: gone"):
        run(tmp_path / "run", ["gradient"], ["deletion"], source=source, limit=9, sample="first")


@pytest.mark.parametrize(
    ("seeds", "word"),
    [((), "integers from 0"), ((0, 0), "names 0 twice"), (3, "integers from 0"), ((0.5,), "integers from 0"), ((1, 2**32 + 1), r"below 2\*\*32")],
)
def test_bad_seeds(tmp_path, seeds, word):
    with pytest.raises(ValueError, match=word):
        run(tmp_path, ["gradient"], ["sparseness"], seeds=seeds)
