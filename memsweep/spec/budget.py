"""Limits of time, trials or steps for a launch, parsed from texts such as 30m and 500trials."""

from __future__ import annotations

import re
from typing import NamedTuple

from memsweep.spec.config import ConfigError

_UNITS = {"s": 1, "m": 60, "h": 3600}


class Budget(NamedTuple):
    """Limits of a launch; None: no limit.

    >>> Budget.of("30m"), Budget.of("1e6steps")
    (Budget(seconds=1800.0, trials=None, steps=None), Budget(seconds=None, trials=None, steps=1000000.0))
    """

    seconds: float | None = None
    trials: int | None = None  # trials that are started
    steps: float | None = None  # member steps of the started trials, if each uses its whole budget

    @classmethod
    def of(cls, text: str) -> Budget:
        """Returns the budget for a text: a time, or a number followed by `trials` or `steps`.  Raises ConfigError."""
        match = re.fullmatch(r"(\d+\.?\d*(?:e\d+)?)(trials|steps)", text)
        if match is None or not 1 <= float(match[1]) < float("inf"):
            return cls(seconds(text, ", or such as 500trials or 1e6steps"))
        return cls(trials=int(float(match[1]))) if match[2] == "trials" else cls(steps=float(match[1]))


UNLIMITED = Budget()


def seconds(text: str, otherwise: str = "") -> float:
    """Returns the seconds of a text such as `90`, `90s`, `30m` or `2h`.

    otherwise: other allowed texts, appended to the error message.  Raises ConfigError.
    """
    number, unit = (text[:-1], _UNITS[text[-1]]) if text[-1:] in _UNITS else (text, 1)
    try:
        duration = float(number) * unit
    except ValueError:
        duration = 0.0
    if not 0 < duration < float("inf"):
        raise ConfigError([f"{text!r}: must be a time such as 90s, 30m or 2h{otherwise}."])
    return duration
