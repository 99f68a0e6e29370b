"""What an axis may be given as, and which of its numbers are the same but for rounding."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import islice, pairwise
from typing import Any

MOST_VALUES = 10**6
"""Of an axis; more is taken for a mistake."""
ROUNDING = 1e-12
"""Numbers that differ by less, relatively, are the same but for rounding; so are those equal on twelve digits."""


def as_values(values: Any) -> tuple[Any, ...]:
    """The values in their order, one more than MOST_VALUES at most; text and what is no iterable is one value.

    A set has no order of its own and is sorted, so that every process expands the same grid.
    """
    if getattr(values, "ndim", None) == 0 or isinstance(values, str | bytes) or not isinstance(values, Iterable):
        return (values.item() if hasattr(values, "item") else values,)
    if isinstance(values, set | frozenset):
        try:
            values = sorted(values)
        except TypeError:  # of several types
            values = sorted(values, key=repr)
    return tuple(islice(values, MOST_VALUES + 1))


def alike(one: float, other: float) -> bool:
    """Whether two numbers are the same but for rounding: 0.3 and 0.30000000000000004, 1/3 and 0.333333333333."""
    apart, size = abs(one - other), max(abs(one), abs(other))
    if apart > 100 * ROUNDING * size:
        return False
    return apart <= ROUNDING * size or f"{one:.12g}" == f"{other:.12g}"


def first_alike(values: Iterable[float]) -> dict[float, float]:
    """Each number that another one, smaller by a rounding, is alike to -> the smallest of these."""
    found: dict[float, float] = {}
    for low, high in pairwise(sorted(set(values))):
        if alike(low, high):
            found[high] = found.get(low, low)
    return found


def spelled_as(value: float, known: Sequence[float]) -> float:
    """The one of these numbers, sorted, that the value is but for rounding; without one, the value itself."""
    place = bisect_left(known, value)
    near = known[max(0, place - 1) : place + 1]
    return value if value in near else next((other for other in near if alike(value, other)), value)
