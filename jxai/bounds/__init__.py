"""Verified bounds: what a model can at most do on a whole set of inputs. A bound is a transformation, `bound(f)(region) -> Interval`."""

from jxai.bounds.attack import Attack, attack
from jxai.bounds.certify import RobustnessCertificate, certified_radius, certify
from jxai.bounds.forward import forward
from jxai.bounds.interval import interval
from jxai.bounds.linear import crown, crown_ibp
from jxai.bounds.optimized import alpha_crown
from jxai.bounds.region import Ball, Box, Interval, Region, ball
from jxai.bounds.specification import METHODS, LinearBounds, bound, linear_bounds, margins

__all__ = [
    "METHODS", "Attack", "Ball", "Box", "Interval", "LinearBounds", "Region", "RobustnessCertificate", "alpha_crown", "attack", "ball", "bound",
    "certified_radius", "certify", "crown", "crown_ibp", "forward", "interval", "linear_bounds", "margins",
]  # fmt: skip
