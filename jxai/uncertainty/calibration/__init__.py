"""Calibration: whether what a model is sure of comes true as often as it says, and models that say it better.

- `errors`: calibration errors in bins; `smooth`: without bins; `kernels`: by neighbours; `proper`: Brier's score, its parts, and the likelihood. All are functions of
  probabilities `[n, K]` and labels `[n]` (or of confidences and outcomes `[n]`), traceable and differentiable, float32 or wider.
- `reliability`: what a diagram shows. `outcomes`, `binning`: what these share.
- `scaling`, `steps`: recalibration, fitted on the host; what comes out is a function of logits and, `fitted.model(f)`, of a model (`recalibration`).

What may be touched: another error takes the same arrays and names (`bins`, `binning`, `norm`, `kind`) and says which published code it differs from; another
recalibration is a `Recalibration` with a `fit_NAME(logits, labels, *, options)` beside it.
"""

from jxai.uncertainty.calibration.errors import (
    adaptive_calibration_error,
    expected_calibration_error,
    maximum_calibration_error,
    rms_calibration_error,
)
from jxai.uncertainty.calibration.kernels import BANDWIDTHS, kernel_bandwidth, kernel_calibration_error
from jxai.uncertainty.calibration.proper import BrierDecomposition, brier, brier_decomposition, negative_log_likelihood
from jxai.uncertainty.calibration.recalibration import Recalibrated, Recalibration
from jxai.uncertainty.calibration.reliability import Reliability, reliability
from jxai.uncertainty.calibration.scaling import (
    Dirichlet,
    MatrixScaling,
    TemperatureScaling,
    VectorScaling,
    fit_dirichlet,
    fit_matrix,
    fit_temperature,
    fit_vector,
)
from jxai.uncertainty.calibration.smooth import smooth_calibration_error
from jxai.uncertainty.calibration.steps import Histogram, Isotonic, fit_histogram, fit_isotonic

__all__ = [
    "BANDWIDTHS",
    "BrierDecomposition",
    "Dirichlet",
    "Histogram",
    "Isotonic",
    "MatrixScaling",
    "Recalibrated",
    "Recalibration",
    "Reliability",
    "TemperatureScaling",
    "VectorScaling",
    "adaptive_calibration_error",
    "brier",
    "brier_decomposition",
    "expected_calibration_error",
    "fit_dirichlet",
    "fit_histogram",
    "fit_isotonic",
    "fit_matrix",
    "fit_temperature",
    "fit_vector",
    "kernel_bandwidth",
    "kernel_calibration_error",
    "maximum_calibration_error",
    "negative_log_likelihood",
    "reliability",
    "rms_calibration_error",
    "smooth_calibration_error",
]
