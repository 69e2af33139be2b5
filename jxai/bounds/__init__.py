"""Verified bounds: what a model can at most do on a whole set of inputs. A bound is a transformation, `bound(f)(region) -> Interval`."""

from jxai.bounds.interval import interval
from jxai.bounds.linear import crown, crown_ibp
from jxai.bounds.region import Ball, Box, Interval, Region, ball

__all__ = ["Ball", "Box", "Interval", "Region", "ball", "crown", "crown_ibp", "interval"]
