"""Pictures of attributions: overlays, bars, strips of frames, and pages of methods × targets; figures of evaluations. Needs matplotlib.

Attributions come raw and signed; everything that is lost for the eye (the sum over channels, the clipping of outliers,
the scale) is lost here and only here. Functions return arrays or `matplotlib.figure.Figure`s and keep no global state.

- `blending`: numbers to colours. `page`: texts as they are. `figures`: pages of maps; `series`: those of series, `words` of texts; `grids`: those of papers, `sheets` of many small images. `evaluation`, `counterfactuals`, `features`, `sufficiency`,
  `certificates`, `concepts`, `selective`, `calibration`: figures of those families.

What may be touched: a figure for another family is a file of its own that takes arrays (or what a routine returned), not runs or models, and returns a Figure.
"""

from jxai.plot.blending import NOT_FINITE, Scaled, blend, colors, normalize, outline, reduce_channels
from jxai.plot.calibration import reliability
from jxai.plot.certificates import certificate
from jxai.plot.concepts import concepts, spotlight
from jxai.plot.counterfactuals import counterfactuals, path, save_animation
from jxai.plot.evaluation import critical_difference, curves, heatmap
from jxai.plot.features import atlas, visualizations
from jxai.plot.figures import explanations, overlay, save
from jxai.plot.grids import grid
from jxai.plot.selective import risk_coverage, roc
from jxai.plot.sheets import sheet
from jxai.plot.spectrum import spectrum
from jxai.plot.sufficiency import confidence, removals
from jxai.plot.words import words

__all__ = [
    "NOT_FINITE",
    "Scaled",
    "atlas",
    "blend",
    "certificate",
    "colors",
    "concepts",
    "confidence",
    "counterfactuals",
    "critical_difference",
    "curves",
    "explanations",
    "grid",
    "heatmap",
    "normalize",
    "outline",
    "overlay",
    "path",
    "reduce_channels",
    "reliability",
    "removals",
    "risk_coverage",
    "roc",
    "save",
    "save_animation",
    "sheet",
    "spectrum",
    "spotlight",
    "visualizations",
    "words",
]
