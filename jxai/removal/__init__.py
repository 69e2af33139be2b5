"""Which parts of an example are taken away, and what stands in their place.

- `fills`: what a removed position becomes (x where a mask is 1, the fill where it is 0): means, blurs, noise, neighbours. `harmonic` solves for the last of these.
- `masks`: features and grids, designs of points, resizing. `segments`: label maps of pictures, whose labels are the features.

What may be touched: a new fill is one frozen registered dataclass in `fills`, with `__call__(x, m, key)` and `per_mask`; it then works in every
method and metric that takes `fill=`, and the contract tests try it there. Nothing here knows of a model.
"""

__all__ = ["fills", "harmonic", "masks", "segments"]
