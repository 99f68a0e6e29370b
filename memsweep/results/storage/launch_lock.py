"""The lock of a launch: a whole launch holds a folder alone; the parts of one division hold it together.

launch.lock         held by a whole launch, or by another process that must be alone
locks/2-of-4.lock   held by the launch of a part
locks/2-of-4.json   trials that this part trains, valid only while its lock is held; never deleted

A launch takes its lock first and looks for others afterwards, so that of two launches that exclude each other, at least
one sees the other.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

from memsweep.results.storage import locks
from memsweep.results.storage.location import Location
from memsweep.results.storage.locks import HeldError
from memsweep.results.storage.parts import write_whole
from memsweep.spec.part import Part

LAUNCH = "launch"
FOLDER = "locks"
WAIT_SECONDS = 5.0
"""How long a part waits for the lock of a whole launch, which a refused launch holds for a moment."""


@contextmanager
def hold(results: Location, part: Part | None, seconds: float) -> Iterator[None]:
    """Holds the lock of a launch.  part: None for a whole launch.  seconds: how long to try.

    Raises HeldError with the name of a launch that excludes this one, OSError if the lock can't be created.
    """
    if part is not None:
        (results / FOLDER).mkdir(exist_ok=True)
    with locks.hold(results, _name(part), seconds):
        if part is not None and not running_path(results, part).exists():
            write_whole(running_path(results, part), b"[]")
        until = time.monotonic() + WAIT_SECONDS
        while part is not None and locks.is_held(results, LAUNCH) and time.monotonic() < until:
            time.sleep(0.1)
        if rival := _rival(results, part):
            raise HeldError(rival)
        yield


def is_held(results: Location) -> bool:
    """Returns whether a whole launch or a part runs."""
    return locks.is_held(results, LAUNCH) or any(True for _ in running_parts(results))


def running_parts(results: Location) -> Iterator[Part]:
    """Yields the parts that run."""
    paths: list[Location] = sorted((results / FOLDER).glob("*-of-*.json"))
    for path in paths:
        match = re.fullmatch(r"(\d+)-of-(\d+)", path.stem)
        if match and locks.is_held(results, f"{FOLDER}/{path.stem}"):
            yield Part(int(match[1]), int(match[2]))


def running_path(results: Location, part: Part) -> Location:
    """Returns the path of the file with the trials that a part trains."""
    return results / FOLDER / f"{part.name}.json"


def running_trials(results: Location) -> set[str]:
    """Returns the ids of the trials that parts train; unreadable files are ignored."""
    trial_ids: set[str] = set()
    for part in running_parts(results):
        try:
            trial_ids |= set(map(str, json.loads(running_path(results, part).read_text())))
        except (OSError, ValueError, TypeError):
            continue
    return trial_ids


def _name(part: Part | None) -> str:
    return LAUNCH if part is None else f"{FOLDER}/{part.name}"


def _rival(results: Location, part: Part | None) -> str:
    """Returns the name of a launch that excludes this one; "": there is none."""
    if part is not None and (holder := locks.holder(results, LAUNCH)):
        return holder
    for other in running_parts(results):
        if part is None or other.total != part.total:
            return f"part {other}, {locks.holder(results, _name(other)) or 'unknown'}"
    return ""
