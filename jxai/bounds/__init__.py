"""Verified bounds: what a model can at most do on a whole set of inputs. A bound is a transformation, `bound(f)(region) -> Interval`."""

from jxai.bounds.forward import forward
from jxai.bounds.interval import interval
from jxai.bounds.linear import crown, crown_ibp
from jxai.bounds.optimized import alpha_crown
from jxai.bounds.region import Ball, Box, Interval, Region, ball
from jxai.bounds.specification import METHODS, LinearBounds, bound, linear_bounds, margins

__all__ = [
    "METHODS", "Ball", "Box", "Interval", "LinearBounds", "Region", "alpha_crown", "ball", "bound", "crown", "crown_ibp", "forward",
    "interval", "linear_bounds", "margins",
]  # fmt: skip
