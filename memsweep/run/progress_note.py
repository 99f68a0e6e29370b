"""The note on a launch's progress that `memsweep status` shows, written by the driver now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from memsweep.run.packing import STARTING, Pack, Tally, describe
from memsweep.run.rate import Rate

NOTE_SECONDS = 2.0
"""Shortest time between two notes."""


class PackAtWork(NamedTuple):
    """A pack on a worker."""

    pack: Pack
    host: str  # empty: no report yet
    began_at: datetime
    tally: Tally | None  # its last report


class ProgressNote:
    """Writes the progress of one launch.  write: stores the note."""

    def __init__(self, write: Callable[[Mapping[str, Any]], None]):
        self.write = write
        self._rate = Rate()
        self._began_at = datetime.now(UTC)
        self._due_at = 0.0

    def update(self, tally: Tally, packs: Sequence[PackAtWork]) -> None:
        """Writes the note, at most once in NOTE_SECONDS.  tally: of the launch."""
        rate = self._rate.after(tally.trained)
        if time.monotonic() < self._due_at:
            return
        self._due_at = time.monotonic() + NOTE_SECONDS
        self.write(
            {
                "written_at": datetime.now(UTC).isoformat(),
                "began_at": self._began_at.isoformat(),
                **{**tally._asdict(), "phase": tally.phase or STARTING},
                "rate": rate,
                "packs": [_as_json(pack) for pack in packs],
            }
        )


def _as_json(at_work: PackAtWork) -> dict[str, Any]:
    pack, tally = at_work.pack, at_work.tally or Tally(left=at_work.pack.steps)
    return {
        "pack_id": pack.pack_id,
        "program": describe(pack.trials[0]),
        "trials": len(pack.trials),
        "host": at_work.host,
        "began_at": at_work.began_at.isoformat(),
        "phase": tally.phase or STARTING,
        "left": tally.left,
    }
