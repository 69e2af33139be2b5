"""Everything that reads a traced function: the walk through its jaxpr, and what it finds there.

- `taps` is the public one: layers of any JAX function, listed, found, read, replaced.
- `interpret` is the walk that all of jxai shares, a rule per primitive.
- `equations` knows what JAX's own equations look like, alone: what calls, loops and parameters are named, and at which version.
- `axes` follows where the entries of every value lie in x, by their coordinates: `movements` and `joins` have a rule for each primitive, of one
  operand and of several, `demand` says which entries reach the output; `choosing` picks the layer that is meant.
- `rectifiers` finds ReLUs and their kin by value, however they are spelled; `softmaxes`, `attention` and `normalisations` find those, by `pieces` of a program
  that are tried on numbers; `reads` says which inputs an output depends on.

What may be touched: a primitive whose entries can be followed gets a rule in `movements` or `joins` and one in `demand`; a new reading of a program is a new file that walks with
`interpret`. Nothing here knows of a method, a metric or a bound.
"""

__all__ = ["attention", "axes", "equations", "interpret", "normalisations", "rectifiers", "softmaxes", "taps"]
