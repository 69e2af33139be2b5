"""How much a model knows: densities of its features, from which uncertainty and counterfactuals are computed."""

from jxai.uncertainty.density import GaussianDensity, gaussian_density

__all__ = ["GaussianDensity", "gaussian_density"]
