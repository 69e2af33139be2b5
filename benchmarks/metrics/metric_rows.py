"""The rows of benchmarks/metrics/metrics.py: our metric and its options, passes, and the peers' counterparts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from benchmarks.metrics.metric_data import GROUPS, SETTINGS

Take = Callable[[np.ndarray], np.ndarray]
GRID = 8
SAME, RANK, RANDOM, APART = "same", "rank", "random", "apart"


@dataclasses.dataclass(frozen=True)
class Peer:
    """A peer's metric. `match`: "same" (one quantity), "rank" (other units or sums), "random" (both draw) or "apart" (another quantity, as
    the note says). `ours` and `theirs` bring the two results into one form; `passes`: its own for one image, where they are not ours."""

    library: str
    name: str
    options: dict = dataclasses.field(default_factory=dict)
    match: str = SAME
    ours: Take = lambda a: a
    theirs: Take = lambda a: a
    passes: int | None = None
    note: str = ""
    whole: bool = False  # all images in one batch, or it drops the rest
    sizes: tuple[dict, ...] = ()


PROBABILITY = {"score": "probability"}
"""The score that the peers measure with a softmax."""


@dataclasses.dataclass(frozen=True)
class Row:
    """`forward` and `backward` passes for one image, −1 where the segments or layers say how many; `sizes`: options at N and 4 N steps or
    samples for peak memory; `metric`: whose name is not the row's."""

    name: str
    images: int
    options: dict
    peers: dict[str, Peer]
    forward: int = 0
    backward: int = 0
    sizes: tuple[dict, ...] = ()
    metric: str | None = None
    random: bool = False


def _mean(a: np.ndarray) -> np.ndarray:
    return a.mean(0)


def _inner(a: np.ndarray) -> np.ndarray:
    """A curve's y without its start, where nothing is removed, and without the area."""
    return a[:, 1:-1]


def rows(setting: str, images: int | None = None, scale: float = 1.0) -> list[Row]:
    """All rows of a setting; `scale` shrinks the numbers of samples."""
    _, _, most, side, channels = SETTINGS[setting]
    n, positions = images or most, side * side
    return [
        *_removals(n, side, channels, positions),
        *_subsets(n, side, channels, positions, max(8, round(100 * scale))),
        *_explaining(n, max(2, round(10 * scale)), 2 if setting == "lite0" else 8, 1000 if setting == "lite0" else 10),
        *_maps(n, positions),
        *([] if setting == "lite0" else [_non_sensitivity(min(n, 4), positions, channels)]),
    ]


def _quantus(name: str, each_step: int, channels: int, steps: int, **options) -> dict[str, Peer]:
    """A metric that removes entries, three of an RGB position one after another: as released, and by whole positions, which its check on
    the step forbids."""
    shared = {"library": "quantus", "name": name, **options.pop("peer", {})}
    thin = channels if shared.get("match", SAME) == SAME else 1
    released = Peer(options={"features_in_step": each_step, **options}, theirs=lambda a: a[:, thin - 1 :: thin] if a.ndim > 1 else a,
                    passes=steps * channels, **shared)  # fmt: skip
    if channels == 1:
        return {"quantus": released}
    note = "; ".join(filter(None, ["its check on the step left out, so that it takes as many passes as ours", shared.pop("note", "")]))
    whole = Peer(options={"features_in_step": each_step * channels, "unchecked": True, **options}, passes=steps, note=note, **shared)
    return {"quantus": released, "quantus unchecked": whole}


def _removals(n: int, side: int, channels: int, positions: int) -> list[Row]:
    steps, step, patch = 32, positions // 32, side // GRID
    black = {"perturb_baseline": 0.0}
    patches = {"patch_size": patch, **black}
    causal = {"steps": steps, "baseline_mode": 0.0, "activation": "softmax"}
    sized = ({"steps": 32, "fill": 0.0, **PROBABILITY}, {"steps": 128, "fill": 0.0, **PROBABILITY})
    flipping = _quantus("PixelFlipping", step, channels, steps, softmax=True, **black, peer={"ours": _inner})
    flipping["quantus"] = dataclasses.replace(flipping["quantus"], sizes=({}, {"features_in_step": step // 4}))
    irof = Peer("quantus", "IROF", {"softmax": True, **black}, RANK,
                note="sums where ours is a mean, and leaves out the start of the curve; the same segments are given to both")  # fmt: skip
    vacuous = "starts at the baseline and writes the baseline again: always True (specs: defect 1)"
    others = "the attribution of one step with the drop of all, over images (specs: defect 3)"
    return [
        Row("deletion", n, {"steps": steps, "fill": 0.0, **PROBABILITY}, {
            **flipping,
            "xplique": Peer("xplique", "Deletion", causal, ours=lambda a: _mean(a)[:-1], sizes=({}, {"steps": 128})),
        }, steps + 1, sizes=sized),
        Row("insertion", n, {"steps": steps, "fill": 0.0, **PROBABILITY}, {
            "xplique": Peer("xplique", "Insertion", causal, ours=lambda a: _mean(a)[:-1], sizes=({}, {"steps": 128})),
        }, steps + 1, sizes=sized),
        Row("aopc", n, {"grid": GRID, "fill": 0.0}, {
            "quantus": Peer("quantus", "RegionPerturbation", patches, theirs=lambda a: a.sum(1) / (a.shape[1] + 1), passes=GROUPS + 1),
        }, GROUPS + 1),
        Row("selectivity", n, {"grid": GRID, "fill": 0.0}, {"quantus": Peer("quantus", "Selectivity", patches, ours=_inner, passes=GROUPS)}, GROUPS + 1),
        Row("sensitivity_n", n, {"subsets": "ranked", "sizes": [step * k for k in range(1, steps + 1)]},
            _quantus("SensitivityN", step, channels, steps, **black, peer={"match": APART, "note": others, "whole": True}), steps + 1),
        Row("irof", n, {"segments": "@segments", "fill": 0.0}, {
            "quantus": irof,
            **({"quantus mended": dataclasses.replace(irof, options={**irof.options, "perturb_func": "@broadcast"})} if channels > 1 else {}),
        }, -1),
        Row("road", n, {}, {"quantus": Peer("quantus", "ROAD", {"percentages": list(range(10, 100, 10))}, RANDOM,
            ours=lambda a: _mean(a)[1:-1], whole=True, note="means over the images; ours removes ties in random order")}, 10, random=True),
        Row("monotonicity", n, {"steps": steps, "fill": 0.0, **PROBABILITY},
            _quantus("Monotonicity", step, channels, steps, softmax=True, **black, peer={"match": APART, "note": vacuous}), steps + 1),
    ]  # fmt: skip


def _subsets(n: int, side: int, channels: int, positions: int, many: int) -> list[Row]:
    group, patch, black = positions // GROUPS, side // GRID, {"perturb_baseline": 0.0}
    size = max(1, positions // 5)
    through = {"activation": "softmax", "maps": "magnitude"}

    def counts(key: str, **options) -> tuple[dict, dict]:
        return {**options, key: many}, {**options, key: 4 * many}

    estimate = _quantus("FaithfulnessEstimate", group, channels, GROUPS, softmax=True, **black, peer={"note": "features: 64 groups of ranks"})
    if channels > 1:
        estimate["quantus"] = dataclasses.replace(estimate["quantus"], match=RANK, note="groups of entries, not of positions")
    return [
        Row("faithfulness_correlation", n, {"subset_size": size, "num_samples": many}, {
            "quantus": Peer("quantus", "FaithfulnessCorrelation", {"nr_runs": many, "subset_size": size * channels, **black}, RANDOM, passes=many + 1,
                            note="draws entries, ours positions" if channels > 1 else "", sizes=({"nr_runs": many}, {"nr_runs": 4 * many})),
        }, many, random=True, sizes=counts("num_samples", subset_size=size)),
        Row("faithfulness_estimate", n, {"segments": "@ranks", **PROBABILITY}, estimate, GROUPS),
        Row("infidelity (patches)", n, {"sizes": patch}, {
            "quantus": Peer("quantus", "Infidelity", {"perturb_patch_sizes": [patch], "n_perturb_samples": 1, **black}, APART, passes=GROUPS + 1,
                            note="takes the map for a slope, and patches stay removed; 1 of its 10 repetitions, which are equal (specs: defect 8)"),
        }, GROUPS + 1, metric="infidelity"),
        Row("infidelity (noise)", n, {"perturbation": "gaussian", "sigma": 0.1, "num_samples": many}, {
            "captum": Peer("captum", "infidelity", {"sigma": 0.1, "num_samples": many}, RANDOM, sizes=({"num_samples": many}, {"num_samples": 4 * many})),
        }, many + 1, metric="infidelity", random=True, sizes=counts("num_samples", perturbation="gaussian", sigma=0.1)),
        Row("mu_fidelity", n, {"grid": GRID, "subsets": "bernoulli", "num_samples": many}, {
            "xplique": Peer("xplique", "MuFidelity", {"grid_size": GRID, "nb_samples": many}, RANDOM, ours=_mean, passes=many + 1, note="means over the images",
                            sizes=({"nb_samples": many}, {"nb_samples": 4 * many})),
        }, many, random=True, sizes=counts("num_samples", grid=GRID, subsets="bernoulli")),
        *(Row(f"average_{what}", n, {"maps": "magnitude", **PROBABILITY}, {
            "xplique": Peer("xplique", f"Average{what.title()}Metric", through, ours=_mean, note="means over the images"),
        }, 2) for what in ("drop", "gain", "increase")),
        Row("completeness_error", n, {}, {"quantus": Peer("quantus", "Completeness", black, APART, note="a bool by == of floats (specs: defect 2)")}, 2),
    ]  # fmt: skip


def _explaining(n: int, few: int, small: int, classes: int) -> list[Row]:
    method = {"method": "@summed", "num_samples": few}
    uniform = {"nr_samples": few, "lower_bound": 0.02}
    two_sided = {"nr_samples": few, "perturb_func_kwargs": {"lower_bound": -0.02, "upper_bound": 0.02}}
    sizes, theirs = ({"num_samples": 10, "method": "@summed"}, {"num_samples": 40, "method": "@summed"}), ({"nr_samples": 10}, {"nr_samples": 40})
    nan = "NaN where any copy changes class, which ours leaves out"
    return [
        Row("max_sensitivity", n, method, {
            "quantus": Peer("quantus", "MaxSensitivity", uniform, RANDOM, sizes=theirs),
            "captum": Peer("captum", "sensitivity_max", {"radius": 0.02, "num_samples": few}, RANDOM, passes=few + 1, sizes=({"num_samples": 10}, {"num_samples": 40})),
        }, 0, few, random=True, sizes=sizes),
        Row("avg_sensitivity", n, method, {"quantus": Peer("quantus", "AvgSensitivity", uniform, RANDOM)}, 0, few, random=True),
        Row("local_lipschitz", n, {**method, "noise": "normal", "radius": 0.1},
            {"quantus": Peer("quantus", "LocalLipschitzEstimate", {"nr_samples": few, "perturb_std": 0.1}, RANDOM)}, 0, few, random=True),
        *(Row(f"relative_{what}_stability", n, {**method, "noise": "uniform", "radius": 0.02},
              {"quantus": Peer("quantus", f"Relative{what.title()}Stability", two_sided, RANDOM, passes=3 * few, note=nan)}, few + 1, few, random=True)
          for what in ("input", "output")),
        Row("random_logit", n, {"method": "@summed"}, {
            "quantus": Peer("quantus", "RandomLogit", {"num_classes": classes}, APART, note="similarity along one axis of flattened maps"),
            "xplique": Peer("xplique", "RandomLogitMetric", {}, RANDOM, ours=_mean, passes=2, note="means over the images; explains x again"),
        }, 0, 1, random=True),
        Row("parameter_randomization", min(n, small), {"method": "@summed", "weights_key": "@key", "absolute": True}, {
            "quantus": Peer("quantus", "MPRT", {"abs": True}, APART, whole=True, note="draws new weights as its layers do; ours permutes them"),
        }, 0, -1),
    ]  # fmt: skip


def _maps(n: int, positions: int) -> list[Row]:
    mask, k, magnitude = {"mask": "@masks"}, positions // 10, {"maps": "magnitude"}

    def quantus(name: str, note: str = "", **options) -> dict[str, Peer]:
        return {"quantus": Peer("quantus", name, options, note=note)}

    ties = "takes ties at the last place as they are sorted, ours by their share"

    return [
        Row("pointing_game", n, mask, quantus("PointingGame")),
        Row("top_k_intersection", n, {**mask, "k": k}, quantus("TopKIntersection", ties, k=k)),
        Row("relevance_mass", n, {**mask, **magnitude}, quantus("RelevanceMassAccuracy", **magnitude)),
        Row("relevance_rank", n, {**mask, **magnitude}, quantus("RelevanceRankAccuracy", ties, **magnitude)),
        Row("energy_pointing", n, mask, quantus("AttributionLocalisation", positive_attributions=True)),
        Row("localization_auc", n, mask, quantus("AUC")),
        Row("sparseness", n, {}, {**quantus("Sparseness", abs=True), "xplique": Peer("xplique", "Sparseness")}),
        Row("entropy", n, {}, {**quantus("Complexity", abs=True), "xplique": Peer("xplique", "Complexity")}),
        Row("effective_complexity", n, {"relative": False}, quantus("EffectiveComplexity", abs=True)),
    ]


def _non_sensitivity(n: int, positions: int, channels: int) -> Row:
    """With ε = 1, which is its own square: it compares |Δ| with ε, ours Δ²."""
    note = {"note": "counts entries, ours positions", "match": RANK} if channels > 1 else {}
    peer = Peer("quantus", "NonSensitivity", {"abs": True, "perturb_baseline": 0.0, "eps": 1.0}, passes=positions * channels + 1, **note)
    return Row("non_sensitivity", n, {"fill": 0.0, "eps": 1.0}, {"quantus": peer}, positions + 1)
