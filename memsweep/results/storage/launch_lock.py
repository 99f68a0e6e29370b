"""The lock of a launch: a whole launch holds a folder alone; the parts of one division hold it together.

launch.lock         held by a whole launch, or by another process that must be alone
locks/2-of-4.lock   held by the launch of a part
locks/2-of-4.json   packs that this part trains, valid only while its lock is held; never deleted
running/<pack>.json trials of a pack that a launch or a part trains

A launch takes its lock first and looks for others afterwards, so that of two launches that exclude each other, at least
one sees the other.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from memsweep.results.storage import locks
from memsweep.results.storage.location import Location
from memsweep.results.storage.locks import HeldError
from memsweep.results.storage.parts import write_whole
from memsweep.spec.part import Part

LAUNCH = "launch"
FOLDER, PACKS = "locks", "running"
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
    """Returns the path of the file with the packs that a part trains."""
    return results / FOLDER / f"{part.name}.json"


def pack_path(results: Location, pack_id: str) -> Location:
    """Returns the path of the file with the trials of a pack in training."""
    return results / PACKS / f"{pack_id}.json"


def running_trials(results: Location) -> set[str]:
    """Returns the ids of the trials that parts train; unreadable files are ignored."""
    return {trial for part in running_parts(results) for trial in trials_in(results, running_path(results, part))}


def trials_in(results: Location, path: Location) -> set[str]:
    """Returns the ids of the trials of a launch at work; unreadable files are ignored.

    path: of the file that names its packs. A name without a file is a trial: launches of an older version name trials.
    """
    return {trial for name in names_in(path) for trial in names_in(pack_path(results, name), [name])}


def names_in(path: Location, otherwise: Sequence[str] = ()) -> list[str]:
    """Returns the names that a file lists.  otherwise: where there is no file; an unreadable file lists no name."""
    try:
        return list(map(str, json.loads(path.read_text())))
    except FileNotFoundError:
        return list(otherwise)
    except (OSError, ValueError, TypeError):
        return []


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
