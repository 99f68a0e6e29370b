"""Named random streams: every random number is a function of (seed, stream, counters) alone.

Nothing here depends on the order of calls, the process, the pack or the device.
"""

from __future__ import annotations

import hashlib

import numpy as np


def key(seed: int, stream: str, *counters: int) -> int:
    """Returns a 63-bit key of a named stream.

    seed: the stream's seed, >= 0.  stream: its name, with a purpose after a slash (`order/dropout`).
    counters: other numbers that the stream depends on, for example an epoch.

    >>> key(0, "noise") == key(0, "noise"), key(0, "noise") == key(1, "noise"), key(0, "noise") == key(0, "order")
    (True, False, False)
    """
    text = ":".join([stream, str(seed), *map(str, counters)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, stream: str, *counters: int) -> np.random.Generator:
    """Returns a numpy generator at the beginning of a named stream; arguments as for `key`."""
    return np.random.Generator(np.random.Philox(key=key(seed, stream, *counters)))
