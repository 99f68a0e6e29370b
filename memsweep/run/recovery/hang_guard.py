"""Ends a worker that hangs, and writes the traceback of a hang or crash to a file.

Python's faulthandler does both, even while the user's code holds the interpreter's lock or has corrupted it.
"""

from __future__ import annotations

import faulthandler
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from memsweep.results.storage.location import Location, local_folder
from memsweep.run.checkpoints import FOLDER

PATIENCE_SECONDS = 600.0
"""Time limit of a piece of a pack's work, unless --patience sets another; it usually takes two seconds."""
COMPILING_SECONDS = 300.0
"""Lower bound of this limit for compiled programs, since compiling can happen at any step."""

STDERR = 2
"""File descriptor; sys.stderr may be an object without a descriptor."""

_HUNG = "Timeout ("
_OURS = "memsweep/run/worker/execution.py"


class HangGuard:
    """Guards one worker with one pack. The file exists while the pack is running."""

    def __init__(self, results: Location, pack_id: str, seconds: float, *, compiles: bool):
        self.seconds = max(seconds, COMPILING_SECONDS) if compiles else seconds
        self.path = _folder(results) / f"{pack_id}.txt"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self.path, "w")  # noqa: SIM115  closed in `close`
        faulthandler.enable(self._file)  # for crashes

    @contextmanager
    def time_limit(self) -> Iterator[None]:
        """Ends the process unless the work within the context ends in time."""
        faulthandler.dump_traceback_later(self.seconds, exit=True, file=self._file)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()

    def close(self) -> None:
        """Deletes the file; later crashes go to stderr."""
        faulthandler.enable(STDERR)
        self._file.close()
        self.path.unlink(missing_ok=True)


class LastWords(NamedTuple):
    """The traceback that a dead worker left behind."""

    has_hung: bool
    text: str  # traceback; empty: no traceback was written

    def summary(self) -> str:
        """Returns how the worker ended, as a clause without a period."""
        if self.has_hung:
            return "it hung"
        return "it crashed" if self.text else "it was killed, by the system or a user"


def last_words(results: Location, pack_id: str) -> LastWords:
    """Reads and deletes the file of a dead worker; returns its content.

    The file is in the results folder, or on this machine if the results are in an object store.
    """
    path = _folder(results) / f"{pack_id}.txt"
    text = path.read_text(errors="replace") if path.exists() else ""
    path.unlink(missing_ok=True)
    head, *threads = text.strip().split("\n\n") if text.startswith("Fatal") else ["", *text.strip().split("\n\n")]
    ours = [thread for thread in threads if _OURS in thread]  # Ray has threads too
    return LastWords(text.startswith(_HUNG), "\n".join(filter(None, [head, *(ours or threads)])))


def forget(results: Location) -> None:
    """Deletes the files that workers of killed launches left behind."""
    for path in _folder(results).glob("*.txt"):
        path.unlink(missing_ok=True)


def _folder(results: Location) -> Path:
    """Returns a local folder: an object store shows only whole objects, and a dying process can't upload."""
    return results / FOLDER if isinstance(results, Path) else local_folder(results) / FOLDER
