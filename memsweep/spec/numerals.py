"""Numbers as text for people, with no more digits than distinguish the values of an axis."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable
from typing import Any

DIGITS = 12
"""Values that agree on this many significant digits are equal: 0.30000000000000004 and 0.3."""
_PLAIN = 10**15
"""Whole numbers below this are written in full."""


def rounded(value: float) -> float:
    """Returns the value rounded to DIGITS significant digits.

    >>> rounded(0.1 + 0.2)
    0.3
    """
    return float(f"{value:.{DIGITS}g}")


def texts(values: Iterable[Any], digits: int = 3) -> list[str]:
    """Returns the text of each value: with `digits` significant digits, or with more if that distinguishes all values.

    Whole numbers are written in full; other objects become str(value).

    >>> texts([1000, 1002, 1024.0]), texts([0.1, 1 / 3]), texts([0.1234, 0.1235])
    (['1000', '1002', '1024'], ['0.1', '0.333'], ['0.1234', '0.1235'])
    """
    given = list(values)
    different = len({_text(value, DIGITS) for value in given})
    for count in range(digits, DIGITS + 1):
        written = [_text(value, count) for value in given]
        if len(set(written)) == different:
            break
    return written


def _text(value: Any, digits: int) -> str:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return str(value)
    if isinstance(value, numbers.Integral):
        return str(int(value))
    near = rounded(float(value))
    if not math.isfinite(near):
        return str(near)
    if near.is_integer() and abs(near) < _PLAIN:
        return str(int(near))
    if 1000 <= abs(near) < 10**6:  # 1234.5, not 1.23e+03
        digits = max(digits, len(str(int(abs(near)))) + 1)
    return f"{near:.{digits}g}"
