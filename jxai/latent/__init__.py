"""Latent space: what is asked of a generator, and how a code is found that makes what is wanted.

A generator is a pytree with the methods `decode(z) -> x` and `encode(x) -> z` of one example; a code z is an array or a pytree of them.

- `generators`: the checks of one, and its codes of examples.
- `descent`: Adam among codes until the cost no longer falls, within one program.

What may be touched: methods of several families search among codes, and take from here what they share; which cost is searched by is theirs. A search
that must be stopped, shown and gone on with is a `Search` of `jxai.counterfactual`.
"""

from jxai.latent.descent import Found, descend
from jxai.latent.generators import check_code, check_generator, encoded, encodings

__all__ = ["Found", "check_code", "check_generator", "descend", "encoded", "encodings"]
