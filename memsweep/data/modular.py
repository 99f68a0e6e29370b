"""The task modular: an operation on pairs of whole numbers modulo p, as Power et al. (2022) use it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from memsweep.data.noise import Array
from memsweep.data.numbering import Pool


@lru_cache(maxsize=8)
def pool(operation: str, modulus: int) -> Pool:
    """Returns all pairs (a, b) in lexical order: inputs [R, 2p] bytes, a and b one-hot, and labels [R], the results.

    operation: of options.OPERATIONS.  modulus: p.  R: p^2; `divide` leaves out each b without an inverse modulo p.
    """
    a, b = (column.ravel() for column in np.indices((modulus, modulus)))
    if operation == "divide":
        is_unit = np.gcd(b, modulus) == 1
        a, b = a[is_unit], b[is_unit]
    one_hot = np.eye(modulus, dtype=np.uint8)
    inputs = np.concatenate([one_hot[a], one_hot[b]], axis=1)
    return Pool(inputs, _results(operation, a, b, modulus))


def _results(operation: str, a: Array, b: Array, modulus: int) -> Array:
    """Returns the results [R] int64 in [0, p).  a, b: [R] in [0, p)."""
    if operation == "add":
        return np.asarray((a + b) % modulus)
    if operation == "subtract":
        return np.asarray((a - b) % modulus)
    if operation == "multiply":
        return np.asarray(a * b % modulus)
    if operation == "squares":
        return np.asarray((a**2 + b**2) % modulus)
    inverses = np.array([pow(n, -1, modulus) if np.gcd(n, modulus) == 1 else 0 for n in range(modulus)])
    return np.asarray(a * inverses[b] % modulus)
