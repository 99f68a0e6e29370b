"""Steps per second of a launch, over the last minute."""

from __future__ import annotations

import time
from collections import deque

RATE_SECONDS = 60.0
"""The rate is averaged over this time."""


class Rate:
    """Steps per second since the first report in the last minute."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()  # (time, steps trained)

    def after(self, trained: int) -> float:
        """Returns the rate after a report of the steps trained so far; 0 with too few reports."""
        now = time.monotonic()
        if not trained:
            return 0.0
        if not self._seen or trained > self._seen[-1][1]:
            self._seen.append((now, trained))
        while len(self._seen) > 2 and now - self._seen[1][0] > RATE_SECONDS:
            self._seen.popleft()
        (begun, before), (_, last) = self._seen[0], self._seen[-1]
        return (last - before) / (now - begun) if now > begun else 0.0
