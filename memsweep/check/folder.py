"""Tests whether a file system does what a results folder requires; docs/how-to/shared-storage.md explains it.

The tests use the functions that a launch uses, with files of their own in the folder itself, and delete them.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from memsweep.results.mlflow import place
from memsweep.results.storage import clock, filesystem, locks
from memsweep.results.storage.location import LocationError
from memsweep.results.storage.parts import StoreError, write_whole

CLOCK_SECONDS = 60.0
"""Smallest difference of two clocks that is shown."""


def checks(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Yields (check, state, text with advice) for the file system, its locks, renames, listings and clock.

    In a folder that can't be written, only the file system is checked.
    """
    mount = filesystem.mount_of(folder)
    try:
        yield "file system", "ok", place.reason(folder) or mount.kind or "unknown"
    except LocationError as error:
        yield "file system", "wrong", str(error)
    if mount.local_locks:
        yield (
            "locks between machines",
            "wrong",
            f"{folder}: mounted with {mount.local_locks}, so a lock excludes only launches on this machine. Mount it "
            "without this option, or launch on one machine at a time",
        )
    probe = folder / f".probe-{secrets.token_hex(4)}.tmp"
    try:
        probe.touch()
    except OSError as error:
        reason = error.strerror or str(error)
        yield "locks, renames", "harmless", f"{folder}: can't be written ({reason}), so they could not be tested"
        return
    try:
        for name, (test, rule, success) in REQUIREMENTS.items():
            problem = test(probe)
            yield name, "wrong" if problem else "ok", f"{folder}: {problem}. {rule}" if problem else success
    finally:
        for path in (probe, _lock_file(probe)):
            with suppress(OSError):
                path.unlink(missing_ok=True)
    yield _clock(folder)


def _lock(probe: Path) -> str:
    """Returns what is wrong with locks; "": nothing."""
    try:
        with locks.hold(probe.parent, probe.name, seconds=0):
            if not locks.is_held(probe.parent, probe.name):
                return "a lock that is held can be taken again"
        if locks.is_held(probe.parent, probe.name):
            return "a lock stays held after its end"
    except (OSError, locks.HeldError) as error:
        return f"a file can't be locked ({getattr(error, 'strerror', None) or error})"
    return ""


def _rename(probe: Path) -> str:
    """Returns what is wrong with renames over an existing file; "": nothing."""
    try:
        for content in (b"first", b"second"):
            write_whole(probe, content)
            if probe.read_bytes() != content:
                return "a file that replaces another has the content of the other"
    except StoreError as error:
        return f"a file can't replace another: {error}".rstrip(".")
    except OSError as error:
        return f"a file can't be read after it was renamed ({error.strerror or error})"
    return ""


def _listing(probe: Path) -> str:
    """Returns what is wrong with listings; "": nothing."""
    path = probe.with_name(f"{probe.stem}-listed.tmp")
    try:
        write_whole(path, b"")
        if path.name not in os.listdir(path.parent):
            return "a new file is not listed"
        path.unlink()
        if path.name in os.listdir(path.parent):
            return "a deleted file is still listed"
    except (StoreError, OSError) as error:
        return f"it can't be listed ({error})"
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)
    return ""


def _clock(folder: Path) -> tuple[str, str, str]:
    clock.offset.cache_clear()
    ahead = clock.now(folder) - time.time()
    if abs(ahead) < CLOCK_SECONDS:
        return "clock", "ok", "the file system dates files as this machine does"
    side = "ahead of" if ahead > 0 else "behind"
    return (
        "clock",
        "harmless",
        f"{folder}: its clock is {abs(ahead):.0f} s {side} this machine's; launches use the folder's clock for ages",
    )


def _lock_file(probe: Path) -> Path:
    return probe.with_name(f"{probe.name}.lock")


REQUIREMENTS: dict[str, tuple[Callable[[Path], str], str, str]] = {
    "locks": (
        _lock,
        "Launches exclude each other by flock: mount the file system with it (Lustre: flock; NFS: not nolock), or "
        "choose another folder with --results",
        "a second launch is excluded",
    ),
    "renames": (
        _rename,
        "A file must appear whole, by a rename over an older file: choose another folder or an object store with "
        "--results",
        "a file is replaced whole",
    ),
    "listings": (
        _listing,
        "A launch lists what is stored to find what is left: choose another folder or an object store with --results",
        "a new file is listed at once",
    ),
}
"""Property -> its test, the rule and the remedy, and what is shown if it holds."""
