"""Named locks of a results folder: a lock is held by one process at a time, and freed however that process ends.

On disk a lock is flock on the file `<name>.lock`. An object store has no locks, but a listing contains all earlier
writes: a process writes a claim, `<name>.lock/<random name>`, and holds the lock if it lists no other claim. A claim is
renewed every few seconds, and expires when it is old by the store's clock.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import random
import secrets
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TextIO

from memsweep.results.storage import clock
from memsweep.results.storage.location import Location, ObjectPath

LOCK_SECONDS = 1.0
"""Default time to try for a lock: `is_held` holds it for an instant."""
BEAT_SECONDS = 5.0
"""Time between renewals of a claim."""
DEAD_SECONDS = 60.0
"""Age at which a claim expires."""


class HeldError(Exception):
    """Another process holds the lock; the message names that process."""


def hold(results: Location, name: str, seconds: float = LOCK_SECONDS) -> AbstractContextManager[None]:
    """Returns a context that holds the lock.  seconds: how long to try.

    Entering raises HeldError if another process holds the lock, OSError if the lock can't be created.
    """
    return _claim(results, name, seconds) if isinstance(results, ObjectPath) else _flock(results, name, seconds)


def is_held(results: Location, name: str) -> bool:
    """Returns whether a live process holds the lock."""
    if isinstance(results, ObjectPath):
        return bool(_others(results, name, None, clock.now(results)))
    try:
        with open(results / f"{name}.lock") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no launch yet, or an unreadable file
        return False
    return False


def holder(results: Location, name: str) -> str | None:
    """Returns the name of the live process that holds the lock; None: it is free."""
    if not is_held(results, name):
        return None
    with suppress(OSError):
        if isinstance(results, Path):
            return (results / f"{name}.lock").read_text().strip() or "unknown"
        for claim in (results / f"{name}.lock").glob("*"):
            return _holder(claim)
    return "unknown"


@contextmanager
def _flock(results: Path, name: str, seconds: float) -> Iterator[None]:
    with _opened(results / f"{name}.lock") as file:
        until = time.monotonic() + seconds
        while not _locks(file):
            if time.monotonic() >= until:
                file.seek(0)
                raise HeldError(file.read().strip() or "unknown")
            time.sleep(0.05)
        if file.writable():
            file.seek(0)
            file.truncate(0)
            file.write(f"process {os.getpid()} on {platform.node()}\n")
            file.flush()
        yield


def _opened(path: Path) -> TextIO:
    """Opens a lock file, created as writable as its folder; a read-only file of another user can be locked too."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except PermissionError:
        return open(path)  # enough for flock, except on NFS, which raises an error
    file = open(descriptor, "r+")  # noqa: SIM115  closed by the caller
    state = os.fstat(file.fileno())
    shared = path.parent.stat().st_mode & 0o022
    if state.st_uid == os.geteuid() and state.st_mode & shared != shared:  # created by an older version
        os.fchmod(file.fileno(), stat.S_IMODE(state.st_mode) | shared)
    return file


def _locks(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _claim(results: ObjectPath, name: str, seconds: float) -> Iterator[None]:
    claim = results / f"{name}.lock" / secrets.token_hex(8)
    content = json.dumps({"process": os.getpid(), "host": platform.node()}).encode()
    until, first_seen = time.monotonic() + seconds, dict[ObjectPath, float]()
    while True:
        claim.write_bytes(content)
        others = _others(results, name, claim, claim.stat().st_mtime)
        if not others:
            break
        claim.unlink(missing_ok=True)
        # a claim that has not been renewed since it was first listed may belong to a dead process
        if time.monotonic() >= until and any(first_seen.get(path, age) != age for path, age in others.items()):
            raise HeldError(_holder(next(iter(others))))
        first_seen = {**others, **first_seen}
        time.sleep(random.uniform(0.2, 1.0))  # random, so that two simultaneous claims do not collide forever
    is_over = threading.Event()
    beat = threading.Thread(target=_renew, args=(claim, content, is_over), daemon=True)
    beat.start()
    try:
        yield
    finally:
        is_over.set()
        beat.join()
        with suppress(OSError):  # then the claim expires
            claim.unlink(missing_ok=True)


def _others(results: ObjectPath, name: str, own_claim: ObjectPath | None, now: float) -> dict[ObjectPath, float]:
    """Returns claim of a live process -> time of its renewal; deletes all other claims if `own_claim` is given.

    own_claim: the caller's claim, which is left out.  now: seconds since 1970 by the store's clock.
    """
    claims = {path: stat.st_mtime for path, stat in (results / f"{name}.lock").listed("*").items() if path != own_claim}
    live = {path: age for path, age in claims.items() if now - age < DEAD_SECONDS and not _is_dead(path)}
    if own_claim is not None:
        for path in claims.keys() - live.keys():
            path.unlink(missing_ok=True)
    return live


def _is_dead(claim: ObjectPath) -> bool:
    """Returns whether the claim belongs to a process of this machine that no longer exists."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        holder = json.loads(claim.read_bytes())
        if holder["host"] == platform.node():
            try:
                os.kill(holder["process"], 0)
            except ProcessLookupError:
                return True
    return False


def _holder(claim: ObjectPath) -> str:
    with suppress(OSError, ValueError, KeyError, TypeError):
        holder = json.loads(claim.read_bytes())
        return f"process {holder['process']} on {holder['host']}"
    return "unknown"


def _renew(claim: ObjectPath, content: bytes, is_over: threading.Event) -> None:
    while not is_over.wait(BEAT_SECONDS):
        with suppress(OSError):  # the next renewal may succeed; rows that two launches write are read once
            claim.write_bytes(content)
