"""Loops over perturbations and steps: memory flat in their number, one compilation for equal work, at home under every transformation of JAX.

- `streams`: sums, means, moments and stacks of a function of an index, at most `chunk` calls at once.
- `control`: JAX's own loops and choices (`scan`, `while_loop`, `fori_loop`, `map`, `cond`, `switch`), whose bodies may close over what varies over the axes of a
  `jax.shard_map`.
- `staging`: why none of them is compiled anew for each call: `staged`.

What may be touched: whoever writes a loop takes it from here, not from `jax.lax`, whose eager loops are compiled for each closure anew.
"""

from jxai.loops.control import cond, fori_loop, map, scan, switch, while_loop
from jxai.loops.staging import staged
from jxai.loops.streams import at_once, block_sums, means, moments, stack, sums

__all__ = ["at_once", "block_sums", "cond", "fori_loop", "map", "means", "moments", "scan", "stack", "staged", "sums", "switch", "while_loop"]
