"""Counter-based random numbers for all members at once: each is a function only of (member's key, index).

They do not depend on the pack, its order or the device, so resuming needs no stored generator.
Integers are exact on every device; normal deviates agree up to rounding.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

_INDEX_BITS = 24  # of the position in a permutation: up to 16,777,216 examples


def subkeys(keys: Tensor, counters: Tensor | int) -> Tensor:
    """Returns the keys of the counters' streams (SplitMix64's finalizer).

    keys, counters: int64, broadcast; returns int64.
    """
    x = keys + (torch.as_tensor(counters, dtype=torch.int64) + 1) * -7046029254386353131
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * -4658895280553007687
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * -7723592293110705685
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


def bits(keys: Tensor, count: int) -> Tensor:
    """Returns random 32-bit integers, [M, count] int32. keys: [M] int64.

    Member m's i-th number is mix(offset_m + i * gamma_m) with offset and odd gamma from its key (as in SplitMix),
    mix being a 32-bit finalizer of multiply and xor-shift rounds.
    """
    gamma = ((keys >> 32) | 1).to(torch.int32)[:, None]
    x = torch.arange(count, dtype=torch.int32, device=keys.device) * gamma
    x.add_(keys.to(torch.int32)[:, None])
    shifted = torch.empty_like(x)
    for shift, multiplier in ((16, 0x7FEB352D), (15, 0x846CA68B - 2**32), (16, 1)):
        torch.bitwise_right_shift(x, shift, out=shifted)
        x.bitwise_xor_(shifted.bitwise_and_((1 << (32 - shift)) - 1))
        if multiplier != 1:
            x.mul_(multiplier)
    return x


def uniform(keys: Tensor, count: int) -> Tensor:
    """Returns uniform numbers in [0, 1), multiples of 2**-24, [M, count] float32. keys: [M] int64."""
    return bits(keys, count).bitwise_right_shift_(8).bitwise_and_(0xFFFFFF).to(torch.float32).mul_(2.0**-24)


def normal(keys: Tensor, count: int) -> Tensor:
    """Returns standard normal deviates by Box and Muller, [M, count] float32. keys: [M] int64."""
    half = (count + 1) // 2
    u = uniform(keys, 2 * half)
    radius = torch.sqrt(-2.0 * torch.log1p(-u[:, :half]))
    angle = u[:, half:] * (2.0 * math.pi)
    return torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)[:, :count]


def permutations(keys: Tensor, size: int) -> Tensor:
    """Returns a uniformly random order of range(size) for each key, by sorting random numbers, [M, size] int64.

    Raises ValueError for 2**24 or more examples.
    """
    if size >= 1 << _INDEX_BITS:
        raise ValueError(f"{size} examples: an order holds fewer than {1 << _INDEX_BITS}.")
    tagged = (bits(keys, size).to(torch.int64) << _INDEX_BITS) | torch.arange(size, device=keys.device)
    # numpy's vectorised sort is ten times faster than torch's on a CPU
    ordered = (
        torch.from_numpy(np.sort(tagged.numpy(), axis=1)) if tagged.device.type == "cpu" else tagged.sort(1).values
    )
    return ordered & ((1 << _INDEX_BITS) - 1)
