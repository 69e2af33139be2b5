"""How much a model knows: densities of its features, from which uncertainty and counterfactuals are computed.

- `density`: Gaussian densities, class by class, fitted to features.
- `predictive`: the entropy of a prediction, or of an ensemble's, and its parts.

What may be touched: a score is `score(f, x, key=None, *, fitted=None, options) -> scalar`, higher where the model is less certain; what must be fitted is a
registered dataclass from a function of arrays (features, logits, labels), one idea in a file. `jxai.testing.check_score` holds it to that.
"""

from jxai.uncertainty.density import GaussianDensity, gaussian_density

__all__ = ["GaussianDensity", "gaussian_density"]
