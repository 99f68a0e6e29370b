"""What a launch may spend, and texts such as 30m and 500trials that say so."""

from __future__ import annotations

import re
from typing import NamedTuple

from memsweep.spec.config import ConfigError

_UNITS = {"s": 1, "m": 60, "h": 3600}


class Budget(NamedTuple):
    """What a launch may spend; None: as much as it takes.

    >>> Budget.of("30m"), Budget.of("1e6steps")
    (Budget(seconds=1800.0, trials=None, steps=None), Budget(seconds=None, trials=None, steps=1000000.0))
    """

    seconds: float | None = None
    trials: int | None = None  # that are begun
    steps: float | None = None  # member steps of these, if none ends before its budget

    @classmethod
    def of(cls, text: str) -> Budget:
        """A time, or so many `trials` or `steps`.  Raises ConfigError."""
        found = re.fullmatch(r"(\d+\.?\d*(?:e\d+)?)(trials|steps)", text)
        if found is None or not 1 <= float(found[1]) < float("inf"):
            return cls(seconds(text, ", or such as 500trials or 1e6steps"))
        return cls(trials=int(float(found[1]))) if found[2] == "trials" else cls(steps=float(found[1]))


UNLIMITED = Budget()


def seconds(text: str, otherwise: str = "") -> float:
    """`90`, `90s`, `30m` and `2h` as seconds.  Raises ConfigError; `otherwise`: what else may stand there."""
    number, unit = (text[:-1], _UNITS[text[-1]]) if text[-1:] in _UNITS else (text, 1)
    try:
        found = float(number) * unit
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise ConfigError([f"{text!r}: must be a time such as 90s, 30m or 2h{otherwise}."])
    return found
