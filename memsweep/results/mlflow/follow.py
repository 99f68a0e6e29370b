"""Decides when MLflow is filled: once by `memsweep track`, or repeatedly during a launch by `track --follow`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

from memsweep.results.mlflow.background import LOOK_SECONDS, shown, take_lowest_priority
from memsweep.results.mlflow.sync import ERRORS, Tracking, TrackingError
from memsweep.results.storage.location import Location
from memsweep.results.storage.store import LockedError, Store, StoreError

SHARE_LOOKING = 0.1
"""Largest share of a processor's time for reading tables that still grow."""
SHORT_PAUSES = (0.5, 1.0, 2.0)
"""Pauses in seconds before `memsweep track` retries."""
LONG_PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Pauses in seconds before a follower retries; the last pause is repeated."""
GIVE_UP_SECONDS = 600.0
"""Time after the launch, without a written run, until a follower gives up."""


class _Note:
    """The note on MLflow that `memsweep status` shows: a file in the results folder; failed writes are ignored."""

    def __init__(self, store: Store, uri: str):
        self.store, self.where = store, shown(uri)
        before = store.tracking()
        is_same = before.get("where") == self.where
        self.counts: dict[str, int] = before.get("held", {}) if is_same else {}
        self.since: str | None = before.get("since") if is_same else None

    def write_counts(self, counts: dict[str, int]) -> None:
        self.counts, self.since = counts, None
        self._write(None)

    def write_error(self, error: Exception) -> None:
        self.since = self.since or datetime.now(UTC).isoformat(timespec="seconds")
        self._write(shown(error))

    def _write(self, error: str | None) -> None:
        with suppress(StoreError):
            self.store.note_tracking({"where": self.where, "held": self.counts, "error": error, "since": self.since})


def track(store: Store, uri: str, say: Callable[[str], None]) -> None:
    """Makes MLflow agree with the tables, once, after waiting for any other process that fills it.

    say: called with sentences about the progress.  Raises TrackingError if MLflow can't be reached.
    """
    if store.is_locked("track"):
        say("waiting for the background process that fills MLflow")
    note = _Note(store, uri)
    with store.lock("track", math.inf):
        for pause in (*SHORT_PAUSES, None):
            try:
                tracking = Tracking(store, uri, say)
                counts = tracking.fill()
                note.write_counts(counts)
                break
            except TrackingError as error:
                note.write_error(error)
                raise
            except ERRORS as error:
                if pause is None:
                    note.write_error(error)
                    raise TrackingError(
                        f"MLflow at {shown(uri)} can't be filled: {shown(error)} "
                        "Nothing is lost: the tables hold all results. Fix the cause, then run memsweep track again."
                    ) from error
                time.sleep(pause)
    for sweep, count in counts.items():
        say(f"{sweep}: {count} trials are in MLflow")
    say(f"{tracking.written} runs written, {tracking.deleted} deleted, in {shown(uri)}")


def follow(store: Store, uri: str, say: Callable[[str], None]) -> None:
    """Fills MLflow while a launch holds the folder, and returns once MLflow holds all trials.

    say: called with sentences about the progress.
    Raises TrackingError if MLflow has not responded for GIVE_UP_SECONDS after the launch.
    """
    while True:
        try:
            with store.lock("track"):
                _follow(store, uri, say)
        except LockedError:
            say("another process already fills MLflow from this folder; this process ends")
            return
        if not store.is_locked("launch"):  # else a launch began after the last check, while this process held the lock
            return


class _State(NamedTuple):
    """State of the folder; a change requires another pass."""

    trials: tuple[Location, ...]  # parts
    wanted: tuple[Location, ...]
    live: tuple[Location, ...]
    launched: bool  # a launch holds the folder


def _state(store: Store) -> _State:
    launched = store.is_locked("launch")  # before listing the parts: a launch writes its last parts before it ends
    return _State(*(tuple(store.parts(table)) for table in ("trials", "wanted", "live")), launched)


def _follow(store: Store, uri: str, say: Callable[[str], None]) -> None:
    tracking: Tracking | None = None
    filled: _State | None = None
    note = _Note(store, uri)
    failures, written, success_at = 0, 0, time.monotonic()
    while True:
        now = _state(store)
        if now == filled or not (now.trials or now.live):  # the lists are empty also if the folder was deleted
            if not now.launched:
                break
            time.sleep(LOOK_SECONDS)
            continue
        try:
            tracking = tracking or Tracking(store, uri, say, take_lowest_priority)
            note.write_counts(tracking.fill())
        except TrackingError as error:
            note.write_error(error)
            raise
        except (*ERRORS, StoreError) as error:
            note.write_error(error)
            if tracking is not None:
                tracking.forget()
            if now.launched or (tracking is not None and tracking.written > written):
                success_at = time.monotonic()
            if time.monotonic() - success_at > GIVE_UP_SECONDS:
                raise TrackingError(
                    f"MLflow at {shown(uri)} has not responded for {GIVE_UP_SECONDS / 60:.0f} minutes: {shown(error)} "
                    f"Nothing is lost: once it responds again, run memsweep track --results {store.results}."
                ) from error
            pause = LONG_PAUSES[min(failures, len(LONG_PAUSES) - 1)]
            failures += 1
            say(f"trying again in {pause:g} s: {shown(error)}")
            time.sleep(pause)
        else:
            filled, failures, success_at = now, 0, time.monotonic()
            if now.launched:
                _rest(store, max(LOOK_SECONDS, tracking.look_seconds * (1 / SHARE_LOOKING - 1)))
        written = tracking.written if tracking else 0
    say(f"{written} runs written, in {shown(uri)}")


def _rest(store: Store, seconds: float) -> None:
    """Waits for `seconds`, or until the launch has ended."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and store.is_locked("launch"):
        time.sleep(LOOK_SECONDS)
