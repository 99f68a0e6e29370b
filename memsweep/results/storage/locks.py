"""One process at a time does one thing with a results folder: it holds a lock that is freed however it ends.

On a disk the system keeps the lock, `<name>.lock`. An object store has none, but whoever writes there and then lists
sees all that was written before: a process writes a claim, `<name>.lock/<its own name>`, and holds the lock if it finds
no other. A claim is renewed every few seconds, and counts no longer when it is old by the store's own clock.
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
from functools import lru_cache
from pathlib import Path
from typing import TextIO

from memsweep.results.storage.location import Location, ObjectPath

LOCK_SECONDS = 1.0
"""How long a lock is tried for: `is_locked` holds it for an instant."""
BEAT_SECONDS = 5.0
"""Between renewals of a claim."""
DEAD_SECONDS = 60.0
"""A claim that is older belongs to nobody."""


class HeldError(Exception):
    """Who holds the lock."""


def hold(results: Location, name: str, seconds: float = LOCK_SECONDS) -> AbstractContextManager[None]:
    """Held by one process at a time.  seconds: how long to try.  Raises HeldError, OSError where none can be made."""
    return _claim(results, name, seconds) if isinstance(results, ObjectPath) else _flock(results, name, seconds)


def is_held(results: Location, name: str) -> bool:
    """Whether a live process holds the lock."""
    if isinstance(results, ObjectPath):
        return bool(_others(results, name, None, time.time() + _clock_offset(results)))
    try:
        with open(results / f"{name}.lock") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no launch yet, or none that could be
        return False
    return False


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
    """A lock file, made as writable as other files are; one of another user's that may only be read locks too."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except PermissionError:
        return open(path)  # flock asks for no more, but on NFS, where it says so
    file = open(descriptor, "r+")  # noqa: SIM115  closed by who locks it
    state = os.fstat(file.fileno())
    shared = path.parent.stat().st_mode & 0o022
    if state.st_uid == os.geteuid() and state.st_mode & shared != shared:  # an older version made it
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
    own = results / f"{name}.lock" / secrets.token_hex(8)
    content = json.dumps({"process": os.getpid(), "host": platform.node()}).encode()
    until, met = time.monotonic() + seconds, dict[ObjectPath, float]()
    while True:
        own.write_bytes(content)
        others = _others(results, name, own, own.stat().st_mtime)
        if not others:
            break
        own.unlink(missing_ok=True)
        # one that has not been renewed since we met it may be a dead process's
        if time.monotonic() >= until and any(met.get(path, age) != age for path, age in others.items()):
            raise HeldError(_holder(next(iter(others))))
        met = {**others, **met}
        time.sleep(random.uniform(0.2, 1.0))  # or two that came at the same moment would meet again and again
    is_over = threading.Event()
    beat = threading.Thread(target=_renew, args=(own, content, is_over), daemon=True)
    beat.start()
    try:
        yield
    finally:
        is_over.set()
        beat.join()
        with suppress(OSError):  # then it grows old
            own.unlink(missing_ok=True)


def _others(results: ObjectPath, name: str, own: ObjectPath | None, now: float) -> dict[ObjectPath, float]:
    """Claims of live processes -> when they were renewed; the rest are deleted by whoever claims.  now: by the store's
    clock."""
    claims = {path: stat.st_mtime for path, stat in (results / f"{name}.lock").listed("*").items() if path != own}
    live = {path: age for path, age in claims.items() if now - age < DEAD_SECONDS and not _is_dead(path)}
    if own is not None:
        for path in claims.keys() - live.keys():
            path.unlink(missing_ok=True)
    return live


def _is_dead(claim: ObjectPath) -> bool:
    """Whether it is of a process of this machine that is gone."""
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
        with suppress(OSError):  # the next may succeed; what two launches write twice is read once
            claim.write_bytes(content)


@lru_cache
def _clock_offset(results: ObjectPath) -> float:
    """The store's clock against ours, in seconds; 0 where we may not write."""
    probe = results / f".clock-{secrets.token_hex(4)}"
    try:
        probe.write_bytes(b"")
        offset = probe.stat().st_mtime - time.time()
        probe.unlink(missing_ok=True)
    except OSError:
        return 0.0
    return offset
