"""Values of an axis: spacings, conversion to tuples, and numbers that are equal up to rounding."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from itertools import islice, pairwise
from typing import Any

MOST_VALUES = 10**6
"""Most values of an axis; a longer axis is treated as a mistake."""
ROUNDING = 1e-12
"""Numbers with a smaller relative difference are equal up to rounding; so are numbers with the same twelve digits."""


def linspace(low: float, high: float, count: int) -> tuple[float, ...]:
    """Returns `count` evenly spaced numbers from low to high, both included.

    Raises ValueError if count exceeds MOST_VALUES.
    >>> linspace(0, 1, 5)
    (0.0, 0.25, 0.5, 0.75, 1.0)
    """
    _check_count(count)
    if count == 1:
        return (float(low),)
    return tuple(_rounded(low + (high - low) * i / (count - 1)) for i in range(count))


def logspace(low: float, high: float, count: int) -> tuple[float, ...]:
    """Returns `count` numbers from 10**low to 10**high, both included, evenly spaced in their logarithm.

    Raises ValueError if count exceeds MOST_VALUES.
    >>> logspace(-3, -1, 3)
    (0.001, 0.01, 0.1)
    """
    return tuple(_rounded(10**exponent) for exponent in linspace(low, high, count))


def log2(low: int, high: int) -> tuple[int, ...]:
    """Returns low and its doublings up to high.

    >>> log2(64, 512)
    (64, 128, 256, 512)
    """
    return tuple(low << i for i in range(int(math.log2(high / low)) + 1))


SPACINGS: dict[str, Callable[..., tuple[Any, ...]]] = {"linspace": linspace, "logspace": logspace, "log2": log2}


def as_values(values: Any) -> tuple[Any, ...]:
    """Returns the values in order, at most MOST_VALUES + 1; text and non-iterables become a single value.

    A set is unordered and therefore sorted, so that every process expands the same grid.
    """
    if getattr(values, "ndim", None) == 0 or isinstance(values, str | bytes) or not isinstance(values, Iterable):
        return (values.item() if hasattr(values, "item") else values,)
    if isinstance(values, set | frozenset):
        try:
            values = sorted(values)
        except TypeError:  # values of several types
            values = sorted(values, key=repr)
    return tuple(islice(values, MOST_VALUES + 1))


def alike(one: float, other: float) -> bool:
    """Returns whether two numbers are equal up to rounding: 0.3 and 0.30000000000000004, 1/3 and 0.333333333333."""
    apart, size = abs(one - other), max(abs(one), abs(other))
    if apart > 100 * ROUNDING * size:
        return False
    return apart <= ROUNDING * size or f"{one:.12g}" == f"{other:.12g}"


def first_alike(values: Iterable[float]) -> dict[float, float]:
    """Returns number -> the smallest number of its group, for numbers that equal a smaller number up to rounding."""
    firsts: dict[float, float] = {}
    for low, high in pairwise(sorted(set(values))):
        if alike(low, high):
            firsts[high] = firsts.get(low, low)
    return firsts


def spelled_as(value: float, numbers: Sequence[float]) -> float:
    """Returns the number in `numbers` that equals the value up to rounding, else the value itself.  numbers: sorted."""
    place = bisect_left(numbers, value)
    near = numbers[max(0, place - 1) : place + 1]
    return value if value in near else next((other for other in near if alike(value, other)), value)


def _check_count(count: int) -> None:
    if count > MOST_VALUES:
        raise ValueError(f"{count:,} values are more than {MOST_VALUES:,}")


def _rounded(value: float) -> float:
    """Returns the value with 12 significant digits, so that a grid holds 0.3 and not 0.30000000000000004."""
    return float(f"{value:.12g}")
