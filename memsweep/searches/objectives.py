"""What a search looks for: a number that the `trials` table tells of each trial."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Any

from memsweep.options import SHARES, SHARES_AT_END

FITTED = "fitted"
"""1 where the trial met stop.fit, else 0."""
USABLE = ("finished", "interrupted")
"""Statuses whose counts are those of the share of the budget that was asked for. What was given up never came there."""


def problem(objective: str) -> str | None:
    """Why no table tells it; None: one does."""
    if objective == FITTED or objective in SHARES or objective in SHARES_AT_END:
        return None
    from memsweep.schema import NUMBERS  # imports pyarrow

    for part in objective.split("/", 1):
        if part not in NUMBERS:
            near = difflib.get_close_matches(part, [FITTED, *SHARES, *SHARES_AT_END, *NUMBERS], 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            return (
                f"objective {objective!r}: no table has {part!r}; allowed are fitted, {', '.join(SHARES)}, a column of "
                f"trials that is a number, or two of them as count/count.{hint}"
            )
    return None


def value(objective: str, end: Mapping[str, Any]) -> float:
    """The objective of one trial; nan where its end tells none, as after an error or when it was given up.

    >>> value("validation_accuracy", {"status": "finished", "validation_correct_count": 3, "validation_count": 4})
    0.75
    """
    if objective == FITTED:
        return float(end["fitted_step"] is not None) if end["status"] in (*USABLE, "diverged") else math.nan
    if end["status"] not in USABLE:
        return math.nan
    above, _, below = objective.partition("/")
    if objective in SHARES or objective in SHARES_AT_END:
        above, below = {**SHARES, **SHARES_AT_END}[objective]
    numbers = [end[name] for name in (above, below) if name]
    if any(number is None for number in numbers):
        return math.nan
    return float(numbers[0]) if len(numbers) == 1 else float(numbers[0]) / numbers[1] if numbers[1] else math.nan
