"""What each operation does to a bound: a rule for every primitive, sound by itself.

- `primitives` says which operation a primitive is; `use` is what its rules see of a step; `operations` are the kinds of operations there are, with
  `reductions` and `choices` between cases; `locality` says which entries of an operand an entry of the result is made of.
- `linear_rules`, `product_rules`, `curve_rules`, `discrete_rules` (truth values, counts, whole numbers) and `order_rules` (sorting, medians) make
  operations of steps; `curve` is a function of one number and its tangents, `curves` are those known by name, `waves` those that rise and fall.

What may be touched: a new primitive is a line in `primitives`, a new activation a curve in `curves`. Both are sound only if their test in
tests/bounds samples and climbs inside them.
"""
