"""Clusters of the explanations that a run keeps: of each method, and each class that is explained."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jxai.dataset import EigengapTest, Spectrum, eigengap_test, spray
from jxai.dataset.features import smaller
from jxai.evaluate import columns
from jxai.evaluate.store import Run

LEAST = 10
"""Examples below which a class is left out."""
SIDE = 32
"""Of the maps that are compared."""
_FOR_SPECTRUM, _FOR_BOTH = ("clusters", "layout"), ("num_neighbours", "norm", "most", "gap")


class Clustered(NamedTuple):
    """The clusters of a method's explanations of a class."""

    method: str
    target: int | None
    """The class; None of all examples together."""
    places: np.ndarray
    """`[n]`: places in the data set, in order."""
    maps: np.ndarray
    """`[n, …]`: what was compared."""
    spectrum: Spectrum
    """Of these examples."""
    test: EigengapTest | None
    """Of the eigengap; None where none was asked for."""
    left_out: int
    """Examples whose explanation is not finite."""

    def means(self) -> np.ndarray:
        """`[clusters, …]`: the mean map of each cluster."""
        return np.stack([self.maps[self.spectrum.labels == c].mean(0) for c in range(self.spectrum.num_clusters)])

    def typical(self, cluster: int, count: int) -> np.ndarray:
        """The places in the data set of the examples of a cluster that are nearest to its middle in the embedding."""
        own = np.flatnonzero(self.spectrum.labels == cluster)
        embedding = np.asarray(self.spectrum.embedding)[own]
        order = np.argsort(np.linalg.norm(embedding - embedding.mean(0), axis=1), kind="stable")
        return self.places[own[order[:count]]]


def clusters(
    run: Run | str | Path,
    *,
    methods: Sequence[str] | None = None,
    targets: Sequence[int] | None = None,
    together: bool = False,
    size: int | None = SIDE,
    num_permutations: int = 99,
    seed: int = 0,
    on_progress: Callable[[str], None] | None = None,
    **options: Any,
) -> list[Clustered]:
    """SpRAy (`jxai.dataset.spray`) of the explanations that a run keeps, one method and one explained class after the other.

    Args:
      run: of methods and metrics. methods: labels of some of its methods; None is all. targets: classes; None is every one with at least 10 explained examples.
      together: takes the examples of all classes as one.
      size: of images, channels are summed and maps larger than this made `size × size`, by means; None leaves them. Other maps are compared as they are.
      num_permutations: of `jxai.dataset.eigengap_test`; 0 for no test. seed: of all random numbers; a method and class have the same whatever else is asked for.
      on_progress: is told what is next. options: others of `spray`.

    Raises:
      ValueError: a run that kept no explanations, or of no methods; an unknown method; a class that no, or too few, examples were explained for; no class with enough;
        options that `spray` refuses.
      ImportError: scikit-learn is not installed.
    """
    run = run if isinstance(run, Run) else Run(run)
    if unknown := options.keys() - {*_FOR_SPECTRUM, *_FOR_BOTH}:
        raise ValueError(f"unknown options {', '.join(sorted(unknown))}; clusters takes {', '.join((*_FOR_BOTH, *_FOR_SPECTRUM))}")
    chosen = run.methods if methods is None else list(methods)
    if wrong := [name for name in chosen if name not in run.methods]:
        raise ValueError(f"{run.path} has no method {wrong[0]!r}, but {', '.join(run.methods)}")
    if not run.config["keep_maps"]:
        raise ValueError(f"{run.path} kept no explanations (keep_maps=False, --no-maps): evaluate again without it")
    table = run.table()
    if not table:
        raise ValueError(f"{run.path} has no finished block yet")
    groups = _groups(run, table, targets, together)
    found = []
    for method in chosen:
        kept = run.maps(columns.first_seed(run.config, method), lambda maps: compared(maps, len(run.config["data"]["x"]), size))
        for target, places in groups.items():
            if on_progress is not None:
                on_progress(f"{method}, {'all' if target is None else f'class {target}'}: {len(places)} examples")
            maps = [kept[place] for place in places if place in kept]
            finite = np.asarray([np.isfinite(one).all() for one in maps], bool)
            if len(maps) < len(places) or not finite.any():
                raise ValueError(
                    f"{run.path} has no explanations by {method} of {len(places) - finite.sum()} of {len(places)} examples; evaluating again mends it"
                )
            x, kept_of = np.stack([one for one, good in zip(maps, finite) if good]), np.asarray(places)[finite]
            spectrum, test = _of(x, method, target, num_permutations, seed, options)
            found.append(Clustered(method, target, kept_of, x, spectrum, test, int((~finite).sum())))
    return found


def compared(maps: np.ndarray, rank: int, size: int | None) -> np.ndarray:
    """Explanations `[n, …]` of examples of this rank as they are compared; images' are made `[n, h, w, 1]`."""
    if rank != 3:
        return np.asarray(maps, np.float32)
    summed = np.asarray(maps, np.float64).sum(-1, keepdims=True)
    side = None if size is None else min(size, *summed.shape[1:3])
    return np.asarray(summed if side is None or max(summed.shape[1:3]) <= size else smaller(summed, side), np.float32)


def _groups(run: Run, table: Mapping[str, np.ndarray], targets: Sequence[int] | None, together: bool) -> dict[int | None, list[int]]:
    """By class the places of its examples."""
    valid = table["valid"]
    if together or run.config["target"] is None:
        if targets is not None:
            raise ValueError(
                f"targets={list(targets)} says nothing where all examples are taken together" + ("" if together else ": this run explains the value of f")
            )
        groups: dict[int | None, list[int]] = {None: table["index"][valid].tolist()}
    else:
        wanted = np.unique(table["target"][valid]).tolist() if targets is None else [int(t) for t in targets]
        groups = {target: table["index"][valid & (table["target"] == target)].tolist() for target in wanted}
    if targets is not None and (few := [target for target, places in groups.items() if len(places) < LEAST]):
        raise ValueError(f"class {few[0]} is explained in {len(groups[few[0]])} examples of {run.path}: clusters need {LEAST}")
    groups = {target: places for target, places in groups.items() if len(places) >= LEAST}
    if not groups:
        raise ValueError(f"{run.path} explains no class in {LEAST} examples or more: take all of them together (together=True, --together), or more examples")
    return groups


def _of(x: np.ndarray, method: str, target: int | None, num_permutations: int, seed: int, options: Mapping[str, Any]) -> tuple[Spectrum, EigengapTest | None]:
    key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(f"{method} {target}".encode()))
    spectrum = spray(x, key=jax.random.fold_in(key, 0), **options)
    if not num_permutations:
        return spectrum, None
    same = {name: value for name, value in options.items() if name in _FOR_BOTH}
    return spectrum, eigengap_test(x, key=jax.random.fold_in(key, 1), num_permutations=num_permutations, **same)
