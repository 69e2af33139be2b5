"""References of channels: what a run keeps is what NumPy computes, and the strongest are those of the whole set, whatever the blocks or interruptions."""

import jax
import numpy as np
import pytest
from concept_runs import COUNT, DENSE, LIMIT, bytes_of, collected, expected, hidden, model

from jxai import concepts, data, evaluate
from jxai.concepts.ranking import ranked

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An undisturbed run by activation."""
    return collected(tmp_path_factory.mktemp("concepts") / "whole")


def by_numpy(index, value, position, count):
    """The `count` largest of each channel, equal ones by index."""
    order = np.stack([np.lexsort((index, -value[:, c]))[:count] for c in range(value.shape[1])])
    return index[order], np.take_along_axis(value.T, order, 1), np.take_along_axis(position.T, order, 1)


def same(found, wanted):
    return all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
def test_streamed_references_are_those_of_the_whole_set_in_any_order(seed):
    random = np.random.default_rng(seed)
    n, count = 50, 6
    index = random.permutation(1000)[:n].astype(np.int32)
    value = random.integers(-3, 4, (n, 5)).astype(np.float32) / 4  # many ties
    value[value == 0] *= random.choice([-1, 1], (value == 0).sum())  # zeros of both signs are equal
    position = random.integers(0, 9, (n, 5)).astype(np.int32)
    wanted = by_numpy(index, value, position, count)
    for sizes in ([n], [1] * n, [20, 3, 27]):
        ends = np.cumsum(sizes)
        parts = [slice(end - size, end) for size, end in zip(sizes, ends)]
        assert same(ranked(((index[p], value[p], position[p]) for p in random.permutation(np.asarray(parts, object))), 5, count), wanted)


def test_fewer_examples_than_asked_for_are_marked():
    found = ranked([(np.asarray([4, 2]), np.float32([[1, 2], [3, 4]]), np.int32([[5, 6], [7, 8]]))], 2, 3)
    assert found.index.tolist() == [[2, 4, -1], [2, 4, -1]] and found.position.tolist() == [[7, 5, -1], [8, 6, -1]]
    assert np.array_equal(found.value, np.float32([[3, 1, np.nan], [4, 2, np.nan]]), equal_nan=True)


@pytest.mark.parametrize("reduction", ["sum", pytest.param("max", marks=pytest.mark.slow)])
def test_activations_are_numpys(whole, tmp_path, reduction):
    run = whole if reduction == "sum" else collected(tmp_path / "run", reduction="max")
    shares, places = expected(run, lambda x, target: hidden(x), reduction)
    table = run.table()
    assert np.allclose(table["channel/value"], shares, atol=1e-6) and (table["channel/position"] == places).mean() > 0.99
    found = concepts.strongest(run, COUNT)
    assert same(found, by_numpy(table["index"], table["channel/value"], table["channel/position"], COUNT))


@pytest.mark.slow
def test_relevances_are_those_by_hand(tmp_path):
    """By the ε rule each position of the net has `relu(h)_c · V_{c,k}`."""
    run = collected(tmp_path / "run", by="relevance", composite="epsilon", target="predicted", options={"epsilon": 1e-9})
    shares, places = expected(run, lambda x, target: hidden(x) * DENSE[:, target])
    table = run.table()
    assert np.allclose(table["channel/value"], shares, atol=1e-4)
    live = np.abs(shares) > 1e-4
    assert (table["channel/position"] == places)[live].mean() > 0.98
    found = concepts.references(
        model(), data.Digits(), None, count=COUNT, composite="epsilon", target="predicted", options={"epsilon": 1e-9}, limit=LIMIT, block=8, batch_size=2
    )
    assert same(found, concepts.strongest(run, COUNT))


def test_relmax_of_two_channels_by_hand(tmp_path):
    """Three pictures of two pixels, a linear net with channels `x` and `−2 x`, and classes that weigh them differently."""
    x = np.float32([[[1], [3]], [[2], [0]], [[4], [5]]])[:, None] / 10  # [3, 1, 2, 1]
    source = data.Arrays(x, [0, 1, 0], name="three")
    weights = [np.float32([[1, -2]]), np.float32([[1, 2], [1, -1]])]

    def linear(w, x):
        return (x @ w[0]).sum((0, 1)) @ w[1]

    f = jax.tree_util.Partial(linear, weights)
    # Relevance of channel c for class k: w_c V_ck Σx, so class 0 has (1, −2) Σx and class 1 (2, 2) Σx; shares of magnitudes do not depend on Σx.
    found = concepts.references(f, source, 0, count=3, composite="epsilon", limit=3, options={"epsilon": 1e-9})
    assert found.index.tolist() == [[1, 0, 2], [1, 0, 2]]
    assert np.allclose(found.value, [[1 / 2, 1 / 3, 1 / 3], [1 / 2, -2 / 3, -2 / 3]], atol=1e-5)
    assert found.position.tolist() == [[0, 1, 1], [0, 0, 0]]


@pytest.mark.parametrize("options", [{"block": 11}, {"devices": jax.devices()[:2]}], ids=["blocks", "two devices"])
def test_results_do_not_depend_on_blocks_or_devices(whole, tmp_path, options):
    a, b = collected(tmp_path / "run", **options).table(), whole.table()
    assert list(a) == list(b) and all(a[name].tobytes() == b[name].tobytes() for name in a)


def test_another_batch_size_agrees(whole, tmp_path):
    run = collected(tmp_path / "run", batch_size=5)
    assert np.allclose(run.table()["channel/value"], whole.table()["channel/value"], rtol=1e-5, atol=1e-7)
    assert np.array_equal(concepts.strongest(run, COUNT).index, concepts.strongest(whole, COUNT).index)


class Stop(BaseException):
    pass


def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(whole, tmp_path):
    def stop(progress):
        if progress.fresh >= 16:
            raise Stop

    with pytest.raises(Stop):
        collected(tmp_path / "run", on_progress=stop)
    there = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "blocks").iterdir()}
    assert len(there) == 2
    assert bytes_of(collected(tmp_path / "run")) == bytes_of(whole) and all(path.stat().st_mtime_ns == at for path, at in there.items())
    for change, message in [({"reduction": "max"}, "concepts.reduction: 'sum' there"), ({"target": "predicted"}, "target: 'label' there"),
                            ({"limit": 20}, "data.")]:  # fmt: skip
        with pytest.raises(ValueError, match=message):
            collected(tmp_path / "run", **change)


class Damaged(data.Digits):
    """Example 3 cannot be read, 4 has a pixel that is not finite, 5 a label that is no class."""

    def __getitem__(self, index):
        example = super().__getitem__(index)
        if index == 3:
            raise OSError("cannot be read")
        if index == 4:
            return data.Example(np.full((8, 8, 1), np.nan, np.float32), example.label)
        return data.Example(example.pixels, 12, example.mask, "5") if index == 5 else example


def test_examples_that_fail_are_left_out(tmp_path):
    run = collected(tmp_path / "run", Damaged(), limit=8, sample="first")
    table, vectors = run.table(), concepts.vectors(run)
    assert table["valid"].tolist() == [True] * 3 + [False] * 3 + [True] * 2 and np.isnan(table["channel/value"][3:6]).all()
    assert vectors.index.tolist() == [0, 1, 2, 6, 7] and vectors.value.shape == (5, 6)
    found = concepts.strongest(run, 8)
    assert (found.index[:, 5:] == -1).all() and not np.isin(found.index, [3, 4, 5]).any() and np.isfinite(found.value[:, :5]).all()


def test_means_by_class(whole):
    value, target, _ = concepts.vectors(whole)
    means, best = concepts.class_means(whole), concepts.class_means(whole, top=2)
    assert means.count.tolist() == np.bincount(target, minlength=10).tolist()
    for label in range(10):
        rows = value[target == label]
        assert np.allclose(means.mean[:, label], rows.mean(0), atol=1e-6)
        assert np.allclose(best.mean[:, label], np.sort(rows, 0)[::-1][:2].mean(0), atol=1e-6)


def test_bad_input(whole, tmp_path):
    f, digits = model(), data.Digits()
    plain = data.Arrays(np.float32(digits._examples[:5]) / 255)
    cases = [
        (lambda: concepts.references(f, digits, "nowhere", limit=40), r"layer='nowhere' is part of no layer's name"),
        (lambda: concepts.references(f, digits, 99, limit=40), r"layer=99 must be None, part of a name, or an index below"),
        (lambda: concepts.references(f, digits, None, limit=20), r"count=40 must be at most the number of examples, 20"),
        (lambda: concepts.references(f, digits, None, count=0), r"count=0 must be a positive integer"),
        (lambda: concepts.references(f, digits, None, by="gradient"), r"by='gradient' must be one of 'relevance', 'activation'"),
        (lambda: concepts.references(f, digits, None, count=1, limit=2, reduction="mean"), r"reduction='mean' must be one of 'sum', 'max'"),
        (lambda: concepts.references(f, plain, None, count=1), r"have no labels, which target='label' asks for"),
        (lambda: collected(tmp_path / "a", options={"epsilon": 1.0}), r"by='activation' propagates nothing"),
        (lambda: collected(tmp_path / "a", by="relevance", options={"composite": "epsilon"}), r"must not name composite, which is an option of its own"),
        (lambda: concepts.strongest(whole, LIMIT + 1), r"count=31 must be at most the number of examples, 30"),
        (lambda: concepts.class_means(whole, top=0), r"top=0 must be a positive integer"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()

    class Empty:
        name, class_names = "empty", None

        def __len__(self):
            return 0

    with pytest.raises(ValueError, match="the data set 'empty' is empty"):
        concepts.references(f, Empty(), None)


def test_a_run_of_another_kind_is_refused(tmp_path):
    with evaluate.Run.writing(tmp_path / "run", {"data": {"name": "digits", "examples": 1}, "keep_maps": False}) as run:
        for read in (concepts.strongest, concepts.class_means, concepts.vectors):
            with pytest.raises(ValueError, match="is no run of concepts"):
                read(run)
