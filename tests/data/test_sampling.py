"""A limit takes of every class its share."""

import numpy as np
import pytest

from jxai import data
from jxai.evaluate.store import Run

SORTED = np.repeat([-1, 0, 1, 2], [20, 100, 60, 20])
SOURCE = data.Arrays(np.zeros((200, 3), np.float32), SORTED)


@pytest.mark.parametrize("limit", [1, 7, 10, 50, 199])
def test_every_class_has_its_share_to_within_one_example(limit):
    chosen = data.sampled(SOURCE, limit)
    assert len(set(chosen.tolist())) == limit and (np.diff(chosen) > 0).all()
    share = np.bincount(SORTED[chosen] + 1, minlength=4) - limit * np.array([20, 100, 60, 20]) / 200
    assert np.abs(share).max() < 1 + 1e-9


def test_a_larger_sample_only_adds_and_the_seed_draws():
    small, large, other = data.sampled(SOURCE, 30, seed=3), data.sampled(SOURCE, 60, seed=3), data.sampled(SOURCE, 30, seed=4)
    assert set(small) < set(large) and set(small) != set(other) and np.array_equal(small, data.sampled(SOURCE, 30, seed=3))


@pytest.mark.parametrize(("limit", "sample", "count"), [(None, "stratified", 200), (500, "stratified", 200), (9, "first", 9)])
def test_all_and_the_first_are_in_the_sources_order(limit, sample, count):
    assert np.array_equal(data.sampled(SOURCE, limit, sample), np.arange(count))


def test_a_source_that_tells_no_labels_is_sampled_as_one_class():
    class Untold:
        name, class_names = "untold", None
        __len__ = lambda self: 100
        __getitem__ = SOURCE.__getitem__

    assert 20 < data.sampled(Untold(), 30).mean() < 80
    with pytest.raises(ValueError, match="sample='last' must be one of"):
        data.sampled(Untold(), 30, "last")


def test_a_run_takes_the_sample_and_says_so(tmp_path):
    from jxai import evaluate

    def run(name, **options):
        source = data.Arrays(np.eye(4, dtype=np.float32).repeat(5, 0), np.arange(4).repeat(5))
        return evaluate.run(lambda x: x, source, ["gradient"], ["sparseness"], tmp_path / name, limit=8, **options)

    found = run("a")
    assert isinstance(found, Run) and np.bincount(found.table()["label"]).tolist() == [2, 2, 2, 2]
    assert found.config["data"]["parts"][0]["sample"] == "stratified"
    assert run("b", sample="first").table()["index"].tolist() == list(range(8))
    with pytest.raises(ValueError, match="sample"):
        run("b")
