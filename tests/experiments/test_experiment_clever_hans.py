"""Tags are planted where they are said to be, what a tag does is measured, and a cluster of tags counts as found."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.dataset import clever_hans, tagged


@pytest.fixture(autouse=True)
def made_up(monkeypatch):
    def images(split, count, seed=None, dataset="mnist"):
        rng = np.random.default_rng([seed, split == "test"])
        return rng.uniform(0.2, 0.8, (count, 12, 12, 3)).astype(np.float32), np.arange(count) % 10

    monkeypatch.setattr(tagged, "mnist", images)


@pytest.mark.parametrize("place", tagged.PLACES)
def test_a_share_of_one_class_bears_the_tag(place):
    clean, some, more = (tagged.tagged("cifar10", place, rate, 200, 1) for rate in (0.0, 0.2, 0.5))
    assert some.target == 2 and some.own.tolist() == np.flatnonzero(some.y == 2).tolist()
    assert not clean.marked.any() and some.marked.sum() == 4 and more.marked.sum() == 10 and not (some.marked & ~more.marked).any()
    changed = np.flatnonzero((some.x != clean.x).any((1, 2, 3)))
    assert changed.tolist() == some.own[some.marked].tolist()
    where = (some.x != clean.x).any(3)[changed]
    assert (where.sum((1, 2)) == 16).all() and set(np.unique(some.x[changed][where])) == {0.0, 1.0}
    assert (where[:, 7:11, 1:5].all() and place == "corner") or len(np.unique(where.reshape(4, -1), axis=0)) > 1


def test_what_a_tag_does_is_measured():
    def f(w, x):  # the class where the corner is as the tag is, else the first
        tag = jnp.asarray(np.indices((4, 4)).sum(0) % 2, jnp.float32)
        return jnp.zeros(10).at[2].add(w * (jnp.abs(x[7:11, 1:5, 0] - tag).max() < 0.01)).at[0].add(0.5)

    blind, hans = (tagged.dependence(jax.tree_util.Partial(f, jnp.float32(w)), "cifar10", "corner", 2, 100, 0) for w in (0.0, 3.0))
    assert hans["rise"].mean() == 1 and hans["drop"].mean() == 3 and len(hans["rise"]) == 90
    assert blind["rise"].mean() == blind["drop"].mean() == hans["recall"].mean() == 0 and hans["accuracy"].mean() == pytest.approx(0.1)


def test_a_cluster_of_tags_is_found_and_would_be_removed():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 4, 4, 1)) * 0.1 + 1
    marked = np.arange(60) < 12
    features[marked] *= -1
    found, cluster = clever_hans.looked_at(clever_hans.Config(permutations=1), features, marked, 0)
    assert found["found"] == found["purity"] == found["recall"] == 1 and cluster.tolist() == marked.tolist()
    assert "found" not in clever_hans.looked_at(clever_hans.Config(permutations=1), features, np.zeros(60, bool), 0)[0]


@pytest.mark.parametrize(
    ("given", "said"),
    [({"worlds": ("cifar10/middle",)}, "worlds='cifar10/middle'"), ({"worlds": ("mnist/corner",)}, "worlds="), ({"retrained": "rise"}, "retrained='rise'")],
)
def test_bad_configurations_are_named(given, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        clever_hans.run(clever_hans.Config(out=str(tmp_path), **given))
