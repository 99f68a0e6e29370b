"""Measurements of a pack in training, written while it trains: the rows of `live`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress

from memsweep.engine.train.record import Record
from memsweep.results.live import LIVE
from memsweep.results.storage import clock
from memsweep.results.storage.location import Location
from memsweep.results.storage.store import Store, StoreError

FIRST_SECONDS, LONGEST_SECONDS = 2.0, 30.0
"""From the first measurement to the first rows, and longest time between two writes; the time doubles in between."""
MERGED = 8
"""Number of parts of about one size that are merged into one part: a long training leaves few files."""


class LiveCurves:
    """The rows of `live` of one attempt: what is new is written when it is due, and all is deleted at the end.

    after: seconds since 1970, before which other trainings of these members began.
    """

    def __init__(self, store: Store, attempt_id: str, after: float = 0.0):
        self.store = store
        self.attempt_id = attempt_id
        self.write_seconds = 0.0
        self._begun_at = clock.later(after)
        self._written: dict[str, int] = {}  # trial -> points of its curve
        self._parts: list[tuple[Location, int]] = []  # with the number of merges behind it, most first
        self._pause = FIRST_SECONDS
        self._due_at: float | None = None  # None: nothing was measured yet

    def restart(self) -> None:
        """Begins anew, because members train again from an earlier step: their former rows no longer count."""
        self._begun_at, self._written = clock.later(self._begun_at.timestamp()), {}

    def is_restart(self, trial_id: str) -> bool:
        """Returns whether rows of this trial were written."""
        return trial_id in self._written

    def write(self, records: Mapping[str, Record], *, now: bool = False) -> None:
        """Writes the new points of these members in training, if that is due.  now: in any case.

        If they can't be written, the next call tries again: nothing is lost, since the end writes all.
        """
        if self._due_at is None and any(record.curve for record in records.values()):
            self._due_at = time.monotonic() + self._pause
        if self._due_at is None or (time.monotonic() < self._due_at and not now):
            return
        begun = time.perf_counter()
        key = {"attempt_id": self.attempt_id, "begun_at": self._begun_at}
        rows = [
            {"trial_id": trial_id, **key, **point}
            for trial_id, record in records.items()
            for point in record.curve[self._written.get(trial_id, 0) :]
        ]
        with suppress(StoreError, FileNotFoundError):  # also if a launch has given this worker up
            if rows:
                self._parts.append((self.store.write(LIVE, rows), 0))
            self._written |= {trial_id: len(record.curve) for trial_id, record in records.items()}
            self._merge()
        self._pause = min(2 * self._pause, LONGEST_SECONDS)
        self._due_at = time.monotonic() + self._pause
        self.write_seconds += time.perf_counter() - begun

    def close(self) -> None:
        """Deletes the rows of this attempt, whose trials are stored."""
        self._delete([path for path, _ in self._parts])
        self._parts = []

    def _merge(self) -> None:
        """Merges the last parts while they are MERGED in number and as often merged."""
        while len({merges for _, merges in self._parts[-MERGED:]}) == 1 and len(self._parts) >= MERGED:
            paths = [path for path, _ in self._parts[-MERGED:]]
            merged = self.store.write_part(LIVE, self.store.rows_in(LIVE, paths))
            self._parts[-MERGED:] = [(merged, self._parts[-1][1] + 1)]
            self._delete(paths)

    def _delete(self, paths: list[Location]) -> None:
        for path in paths:
            with suppress(OSError):
                path.unlink(missing_ok=True)
