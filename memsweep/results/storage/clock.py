"""Times that do not depend on the clock of this machine, which may differ from a file server's or another machine's."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from memsweep.results.storage.location import Location

TICK = timedelta(milliseconds=1)


def now(results: Location) -> float:
    """Returns the time by the clock that dates the files of these results, in seconds since 1970."""
    return time.time() + offset(results)


@lru_cache
def offset(results: Location) -> float:
    """Returns that clock minus this machine's, in seconds; 0 without permission to write."""
    probe = results / f".clock-{secrets.token_hex(4)}.tmp"
    try:
        probe.write_bytes(b"")
        difference = probe.stat().st_mtime - time.time()
        probe.unlink(missing_ok=True)
    except OSError:
        return 0.0
    return difference


def later(than: float) -> datetime:
    """Returns the time now, or just after a stored time where this machine's clock is behind that.

    than: seconds since 1970.
    """
    return max(datetime.now(UTC), datetime.fromtimestamp(than, UTC) + TICK)
