"""Functions that a program spells in several steps and that have bounds of their own: softmax and its kin, norms, activations.

- `layouts` reads a program backwards: where every entry of a value comes from. What is recognised is proved by it, never matched by shape.
- `softmaxes` knows softmax and log-sum-exp, `templates` an activation by its value in every number, `patterns` asks both.

What may be touched: a new spelling of an activation is a template. A near miss of it (transposed, rolled, of another axis, with another
constant) belongs into tests/bounds beside it: what is not proved to be the function is left to the rules of its steps.
"""
