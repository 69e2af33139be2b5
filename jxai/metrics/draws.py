"""Random subsets of an exact size without a sort: pieces of a permutation that is computed rather than stored."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jxai.loops import scan
from jxai.typing import Array

# The first permutation is good by itself; after it, eight rounds make the subsets of one key as good as independent.
_FIRST_ROUNDS, _ROUNDS = 24, 8


def subsets(key: Array, index: Array, n: int | Array) -> Callable[[Array, Array | int], Array]:
    """`draw(i, size)`: which of n things lie in the random subset number i of exactly `size` of them, bool like `index`.

    Args:
      key: one key. index: integers; each of 0 … n−1 is one thing. n: how many there are, at least 1; may be traced.

    A draw costs as much as random bits for every thing do, where a sort costs some forty times that on a CPU.
    """
    first, rest = jax.random.split(key)
    base = shuffle(first, index, n, _FIRST_ROUNDS)
    return lambda i, size: shuffle(jax.random.fold_in(rest, i), base, n, _ROUNDS) < size


def shuffle(key: Array, v: Array, n: int | Array, rounds: int) -> Array:
    """A random permutation of 0 … n−1, applied to the entries of v in that range; int32.

    First comes a random rotation, so that every place is as likely for every entry. Then a round pairs v with `c − v mod n` for
    a random c, and swaps the pair or not as a hash of its larger member says (Hoang, Morris and Rogaway 2012, "An Enciphering
    Scheme Based on a Card Shuffle"): a bijection whatever the hash.
    """
    bits = jax.random.bits(key, (rounds + 1, 3), jnp.uint32)
    n, v = jnp.asarray(n, jnp.uint32), v.astype(jnp.uint32)
    centres = bits[:, 0] % n
    # The smaller of both, here and below: a difference below 0 has wrapped around.
    v = jnp.minimum(v + centres[0], v + centres[0] - n)

    def swap(v: Array, coin: tuple[Array, Array, Array]) -> tuple[Array, None]:
        centre, multiplier, offset = coin
        partner = jnp.minimum(centre - v, centre + n - v)
        # Multiply-shift: the top bit of an odd random multiple plus a random offset.
        hashed = jnp.maximum(v, partner) * multiplier + offset
        return jnp.where(hashed.astype(jnp.int32) < 0, partner, v), None

    # Unrolled, it compiles long and runs slower: XLA then computes the rounds once for every use of the result.
    return scan(swap, v, (centres[1:], bits[1:, 1] | 1, bits[1:, 2]))[0].astype(jnp.int32)
