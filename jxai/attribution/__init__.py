"""Attribution: which parts of x decided. Every method is `method(f, x, target, key=None, *, options) -> attribution`.

- by slope: `gradient`, `path`, `adaptive_path`, `uncertain` (through a generator, from `ends`), `backward` (rules of ReLUs), `relevance` (LRP), `deep_lift` (differences);
  by layer: `activation` (Grad-CAM and its kin), `masking`, `attention`.
- by removal: `occlusion`, `rise`, `sensitivity` (Sobol, HSIC), `surrogate` (LIME, kernel SHAP), `shapley`, `regions`; by search: `meaningful`, `extremal`.
- by proof: `verified` (EVA), on `overlap`. Not methods: `estimators` (Sobol's), `coalitions` (which features are in), `signs` (whether a map has one).

What may be touched: a new method is one function in the file of its kind, or a file of its own, plus its name here and a row of small options in
the tests; the command line, sweeps and the contract read its signature and docstring (`jxai.testing.check_method` says what is missing). It removes
by `jxai.removal`, reads layers by `jxai.tracing.taps`, streams by `jxai.loops`, and knows no metric, data set or model.
"""

from jxai.attribution.activation import (
    eigen_cam,
    grad_cam,
    grad_cam_plus_plus,
    guided_grad_cam,
    hires_cam,
    layer_cam,
    xgrad_cam,
)
from jxai.attribution.adaptive_path import blur_integrated_gradients, guided_integrated_gradients
from jxai.attribution.attention import attention_rollout, chefer
from jxai.attribution.backward import deconvnet, guided_backprop
from jxai.attribution.deep_lift import deep_lift, deep_shap
from jxai.attribution.ends import uncertainty_ends as uncertainty_ends
from jxai.attribution.extremal import extremal_perturbation
from jxai.attribution.gradient import gradient, input_x_gradient, smoothgrad, squaregrad, vargrad
from jxai.attribution.masking import ablation_cam, score_cam, sidu
from jxai.attribution.meaningful import meaningful_perturbation
from jxai.attribution.occlusion import feature_ablation, occlusion
from jxai.attribution.path import expected_gradients, gradient_shap, integrated_gradients
from jxai.attribution.regions import xrai
from jxai.attribution.relevance import lrp
from jxai.attribution.rise import rise
from jxai.attribution.sensitivity import hsic, sobol
from jxai.attribution.shapley import shapley_sampling
from jxai.attribution.signs import is_signed as is_signed
from jxai.attribution.surrogate import kernel_shap, lime
from jxai.attribution.uncertain import uncertainty_path
from jxai.attribution.verified import eva

__all__ = [
    "ablation_cam",
    "attention_rollout",
    "blur_integrated_gradients",
    "chefer",
    "deconvnet",
    "deep_lift",
    "deep_shap",
    "eigen_cam",
    "eva",
    "expected_gradients",
    "extremal_perturbation",
    "feature_ablation",
    "grad_cam",
    "grad_cam_plus_plus",
    "gradient",
    "gradient_shap",
    "guided_backprop",
    "guided_grad_cam",
    "guided_integrated_gradients",
    "hires_cam",
    "hsic",
    "input_x_gradient",
    "integrated_gradients",
    "kernel_shap",
    "layer_cam",
    "lime",
    "lrp",
    "meaningful_perturbation",
    "occlusion",
    "rise",
    "score_cam",
    "shapley_sampling",
    "sidu",
    "smoothgrad",
    "sobol",
    "squaregrad",
    "uncertainty_path",
    "vargrad",
    "xgrad_cam",
    "xrai",
]
