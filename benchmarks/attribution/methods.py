"""The rows of the benchmark: what every library runs for one method, and in which convention its map should equal ours."""

from __future__ import annotations

import dataclasses

GRID = 8  # cells along an axis, for the methods that group pixels


@dataclasses.dataclass(frozen=True)
class Peer:
    """One library's form of a method.

    Attributes:
      name: the worker's method. options: its options.
      ours: options of ours that differ from the row's where that library's convention does; its map is compared with that.
      match: how: "exact", "absolute" (|ours|), "scaled" (ours scaled to [0, 1]), or "random" (correlation only).
      passes: forward (or forward and backward) passes, where they are not the row's.
      note: why the maps differ, if they do.
    """

    name: str
    options: dict = dataclasses.field(default_factory=dict)
    ours: dict = dataclasses.field(default_factory=dict)
    match: str = "exact"
    passes: int | None = None
    note: str = ""


PAPERS = {"score": "probability"}
"""The score that the papers of some methods explain."""


CENTRED = {"centred": True}
"""Pixels in [−1, 1] rather than [0, 1], and their range."""
BOX = {"low": -1.0, "high": 1.0}


@dataclasses.dataclass(frozen=True)
class Row:
    """A method of ours with the passes that it needs, its options, and the peers that have it.

    Attributes:
      forward, backward: passes for one image; a backward pass counts with the forward pass that it needs.
      ours: options. peers: by worker. images: at once; one where a single image is work enough.
      sizes: options for N and 4 N masks, for ours and (by worker) for peers: what peak memory is measured with.
      random: whether another key gives another map. method: of ours, where it is not the row's name.
    """

    name: str
    forward: int
    backward: int
    ours: dict
    peers: dict[str, Peer] = dataclasses.field(default_factory=dict)
    images: int = 1
    sizes: tuple[dict, dict] | None = None
    random: bool = False
    method: str = ""

    @property
    def ours_is(self) -> str:
        return self.method or self.name


def rows(scale: float = 1.0) -> list[Row]:
    """All rows, with `scale` times the usual number of passes."""
    few, many = max(2, round(50 * scale)), max(2 * GRID**2, round(256 * scale))
    return [*_gradients(), *_differences(), *_paths(few), *_cams(), *_relevance(), *_black_boxes(scale, many), *_without_peer(few)]


def _gradients() -> list[Row]:
    return [
        Row("gradient", 0, 1, {}, {"captum": Peer("gradient"), "xplique": Peer("gradient", match="absolute")}, 8),
        Row("input_x_gradient", 0, 1, {}, _both(Peer("input_x_gradient")), 8),
        Row("guided_backprop", 0, 1, {}, {
            "captum": Peer("guided_backprop"),
            "xplique": Peer("guided_backprop", note="Xplique lets gradients pass where relu6 is flat at 6"),
        }, 8),
        Row("deconvnet", 0, 1, {}, _both(Peer("deconvnet")), 8),
    ]  # fmt: skip


def _differences() -> list[Row]:
    return [
        Row("deep_lift", 1, 1, {}, {"captum": Peer("deep_lift"), "shap": Peer("deep_lift")}, 8),
        Row("deep_shap", 1, 4, {"baselines": "@photographs"}, {"captum": Peer("deep_shap", passes=8), "shap": Peer("deep_shap", passes=8)}),
    ]


def _paths(few: int) -> list[Row]:
    noise = {"num_samples": few, "sigma": 0.1}
    ours = {**noise, "noise": "absolute"}
    sizes = ({**ours, "num_samples": 32}, {**ours, "num_samples": 128})

    def smoothed(name: str, kind: str) -> Row:
        peers = {
            "captum": Peer("noise_tunnel", {**noise, "kind": kind}, match="random"),
            "xplique": Peer(name, noise, match="random"),
        }
        return Row(name, 0, few, ours, peers, sizes=sizes, random=True)

    path = {"steps": few, "score": "logit"}
    shap = {"num_samples": few, "sigma": 0.1}
    return [
        Row("integrated_gradients", 0, few, path, {
            "captum": Peer("integrated_gradients", {"steps": few}),
            "xplique": Peer("integrated_gradients", {"steps": few}, {"rule": "trapezoid"}),
        }, sizes=({**path, "steps": 32}, {**path, "steps": 128})),
        smoothed("smoothgrad", "smoothgrad"),
        smoothed("squaregrad", "smoothgrad_sq"),
        smoothed("vargrad", "vargrad"),
        Row("gradient_shap", 0, few, {**shap, "baselines": "@photographs"}, {"captum": Peer("gradient_shap", shap, match="random")},
            sizes=tuple({**shap, "num_samples": n, "baselines": "@photographs"} for n in (32, 128)), random=True),
    ]  # fmt: skip


def _cams() -> list[Row]:
    def package(kind: str, layer: str = "top", note: str = "", **ours) -> Peer:
        return Peer("cam", {"kind": kind, "layer": layer}, ours, "scaled", note=note)

    bicubic = {"interpolation": "bicubic"}
    corners = "its masks put corners on corners; ours put pixel centres on pixel centres"
    last = {"layer": "@last"}
    return [
        Row("grad_cam", 1, 0, {}, {
            "captum": Peer("grad_cam"), "xplique": Peer("grad_cam", {}, bicubic), "grad-cam": package("GradCAM"),
        }, 8),
        Row("grad_cam_plus_plus", 1, 0, {}, {
            "xplique": Peer("grad_cam_plus_plus", {}, {**bicubic, "reduction": "mean"}),
            "grad-cam": package("GradCAMPlusPlus", note="it adds 1e-6 to a denominator of g² ~ 1e-5"),
        }, 8),
        Row("layer_cam", 1, 0, {}, {"grad-cam": package("LayerCAM")}, 8),
        Row("xgrad_cam", 1, 0, {}, {"grad-cam": package("XGradCAM")}, 8),
        Row("hires_cam", 1, 0, {}, {"grad-cam": package("HiResCAM", relu=True)}, 8),
        Row("eigen_cam", 1, 0, {}, {"grad-cam": package("EigenCAM", center=True, note="it cuts what is negative before it resizes; ours is signed")}, 8),
        Row("guided_grad_cam", 1, 1, {}, {"captum": Peer("guided_grad_cam", {}, {"interpolation": "nearest"})}, 8),
        Row("ablation_cam", 1, 0, last, {"grad-cam": dataclasses.replace(package("AblationCAM", "last"), passes=320)}),
        Row("score_cam", 321, 0, last, {"grad-cam": package("ScoreCAM", "last", corners)}),
    ]  # fmt: skip


def _relevance() -> list[Row]:
    shift = "a shift inside the model is a bias of the first convolution of ours, not of its"

    def composite(name: str, note: str = "", **ours) -> Row:
        ours = {"composite": name, **ours}
        peer = Peer("lrp", {"composite": name}, {**CENTRED, **(BOX if "box" in name else {})}, note=note)
        return Row(f"lrp {name}", 0, 1, ours, {"zennit": peer}, 8, method="lrp")

    channels = {"composite": "epsilon_plus_flat", "channels": 64, "chunk": 8}
    conditions = {"composite": "epsilon_plus_flat", "channels": 64}
    return [
        *(composite(name, shift) for name in ("epsilon_plus", "epsilon_alpha2_beta1", "excitation_backprop")),
        *(composite(name, "the zeros that its network pads with by a module of its own take a share at the border") for name in ("epsilon_plus_flat", "epsilon_gamma_box")),
        Row("lrp epsilon LeNet-5", 0, 0, {"composite": "epsilon", "net": "lenet5"}, {"captum": Peer("lrp", {"net": "lenet5"})}, 8, method="lrp"),
        Row("conditional 64 channels", 0, 64, channels, {"zennit": Peer("conditional", conditions, CENTRED, note="zeros as for epsilon_plus_flat")},
            sizes=({**channels, "channels": 16}, channels), method="conditional"),
    ]  # fmt: skip


def _black_boxes(scale: float, many: int) -> list[Row]:
    cells = GRID**2
    windows = max(3, round(15 * scale**0.5))
    stride = -(-196 // (windows - 1)) if windows > 1 else 28
    designs = max(2, 2 ** round(4 * scale).bit_length() // 2)
    orders = max(1, round(4 * scale))
    slide = {"window": 28, "stride": min(28, stride)}
    seen = ((224 - 28 + slide["stride"] - 1) // slide["stride"] + 1) ** 2
    grid, logit = {"grid": GRID}, {"score": "logit"}
    features = {"num_samples": many, **grid}

    def sized(key: str, small: int, large: int, **options) -> tuple[dict, dict]:
        return {**options, key: small}, {**options, key: large}

    return [
        Row("occlusion", seen + 1, 0, {**slide, **logit}, {
            "captum": Peer("occlusion", slide),
            **_xplique(Peer("occlusion", slide, {"reduction": "sum", "borders": "valid"})),
        }, sizes=sized("stride", 28, 14, window=28, **logit)),
        Row("feature_ablation", cells + 1, 0, grid, {"captum": Peer("feature_ablation", grid)}, sizes=sized("grid", 6, 12)),
        Row("rise", many, 0, {"num_masks": many, "normalization": "coverage", **logit},
            _xplique(Peer("rise", {"num_masks": many}, match="random")), sizes=sized("num_masks", 32, 128), random=True),
        Row("sobol", designs * (cells + 1), 0, {"num_designs": designs, **grid}, _xplique(
            Peer("sobol", {"num_designs": designs, **grid}, passes=designs * (cells + 2))), sizes=sized("num_designs", 2, 8, grid=4)),
        Row("hsic", many, 0, {"num_designs": many, "sampler": "sobol"}, _xplique(Peer("hsic", {"num_designs": many}, note="it rounds the first Sobol point, all ½, to 0; ours to 1")),
            sizes=sized("num_designs", 32, 128)),
        Row("lime", many, 0, {**features, **logit}, {
            "captum": Peer("lime", features, match="random", note="weights by the cosine of pixels, not of features, with width 1"),
            **_xplique(Peer("lime", features, match="random", note="its ridge has α = 2")),
        }, sizes=sized("num_samples", 32, 128, grid=4), random=True),
        Row("kernel_shap", many + 2, 0, features, {
            "captum": Peer("kernel_shap", features, match="random"), **_xplique(Peer("kernel_shap", features, match="random")),
        }, sizes=sized("num_samples", 32, 128, grid=4), random=True),
        Row("shapley_sampling", orders * (cells - 1) + 2, 0, {"num_samples": orders, **grid}, {
            "captum": Peer("shapley_sampling", {"num_samples": orders, **grid}, match="random", passes=orders * cells + 1),
        }, sizes=sized("num_samples", 2, 8, grid=4), random=True),
    ]  # fmt: skip


def _without_peer(few: int) -> list[Row]:
    shap = {"num_samples": few, "baselines": "@photographs"}
    return [
        Row("expected_gradients", 0, few, shap, sizes=tuple({**shap, "num_samples": n} for n in (32, 128)), random=True),
        Row("blur_integrated_gradients", 0, few, {"steps": few, **PAPERS}, sizes=({"steps": 32, **PAPERS}, {"steps": 128, **PAPERS})),
        Row("guided_integrated_gradients", 0, few, {"steps": few, **PAPERS}),
        Row("xrai", 0, 2 * few, {"segments": "@segments", "method_options": {"steps": few}, **PAPERS}),
        Row("sidu", 321, 0, {"layer": "@last"}),
        Row("meaningful_perturbation", 36, few, {"steps": few, **PAPERS}),
        Row("extremal_perturbation", 0, few, {"steps": few}),
    ]


def _both(peer: Peer) -> dict[str, Peer]:
    return {"captum": peer, "xplique": peer}


def _xplique(peer: Peer) -> dict[str, Peer]:
    """A method that needs no gradient runs on Xplique's PyTorch wrapper, too."""
    return {"xplique": peer, "xplique-torch": peer}
