"""Verified bounds: what a model can at most do on a whole set of inputs. A bound is a transformation, `bound(f)(region) -> Interval`.

- asked: `region` (boxes and balls), `specification` (margins, by name of a bound), `certify` (claims and radii), `attack` (the other side).
- bounds: `interval`, `forward`, `linear` (CROWN, on `backward`, `windows`, `receptive`, `branching`), `optimized` (alpha-CROWN).
- of a model's steps: `graph` walks the jaxpr, `rules` has one for each primitive, `recognised` knows functions that are spelled in several steps.

What may be touched: a new primitive or activation is a line or a curve in `rules`, a new spelling a template in `recognised`, each sound only if its test in
tests/bounds samples and climbs inside. `rounding` must stay the last word on outward bounds.
"""

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
