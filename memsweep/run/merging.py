"""Merges the small parts that packs leave, beside a launch and at its end, so that readers never meet thousands."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from memsweep.results.compaction import merge_small
from memsweep.results.storage import launch_lock
from memsweep.results.storage.location import ObjectPath
from memsweep.results.storage.store import Store
from memsweep.run.recovery import interruption
from memsweep.spec.part import Part

LOOK_SECONDS, OBJECTS_LOOK_SECONDS = 10.0, 60.0
"""Time between two listings of the parts of a launch at work; in an object store, where a listing is a request."""
MANY, FEW = 64, 16
"""Small parts that a table may have while a launch is at work, and after it."""
END_SECONDS = 1.0
"""Time after which the end of a launch begins no further batch."""


@contextmanager
def behind(store: Store, part: Part | None, remarks: list[str]) -> Iterator[None]:
    """Merges parts of packs that have ended, in a thread, until the context ends; a batch at work is awaited.

    part: of the launch; nothing is merged while another part runs.  remarks: messages are appended.
    """
    is_over = threading.Event()

    def merge() -> None:
        seconds = OBJECTS_LOOK_SECONDS if isinstance(store.results, ObjectPath) else LOOK_SECONDS
        while not is_over.wait(seconds):
            if not _try(store, part, MANY, lambda: not is_over.is_set(), remarks, at_work=True):
                return

    thread = threading.Thread(target=merge, daemon=True)
    with interruption.blocked(signal.SIGINT):  # a signal that the main thread blocks must not reach this thread
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def finish(store: Store, part: Part | None, remarks: list[str]) -> None:
    """Merges parts after a launch, for END_SECONDS; arguments as of `behind`. No pack of the launch is at work."""
    until = time.monotonic() + END_SECONDS
    _try(store, part, FEW, lambda: time.monotonic() < until, remarks, at_work=False)


def _try(
    store: Store, part: Part | None, most: int, is_due: Callable[[], bool], remarks: list[str], *, at_work: bool
) -> bool:
    """Merges parts if no other launch runs; returns False after an error, which leaves the parts as they were."""
    if part and any(other != part for other in launch_lock.running_parts(store.results)):
        return True
    try:
        merge_small(store, most, is_due, at_work=at_work)
    except Exception as error:  # the parts are intact, and the launch goes on
        remarks.append(f"Small parts were not merged: {error}")
        return False
    return True
