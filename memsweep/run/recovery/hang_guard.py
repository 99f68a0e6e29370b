"""Ends a worker whose work hangs or crashes, and lets it say where: in a file, since it can't say it to anybody else.

Python's faulthandler does both, even while a user's code holds the interpreter's lock or has broken it.
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
"""How long a piece of a pack's work may take, unless --patience says otherwise; it should take about two seconds."""
COMPILING_SECONDS = 300.0
"""How long it may take at least where programs are compiled, which can happen at any step."""

STDERR = 2
"""Its descriptor: sys.stderr may be something that has none."""

_HUNG = "Timeout ("
_OURS = "memsweep/run/worker/execution.py"


class HangGuard:
    """Of one worker with one pack. The file is there as long as the pack is at work."""

    def __init__(self, results: Location, pack_id: str, seconds: float, *, compiles: bool):
        self.seconds = max(seconds, COMPILING_SECONDS) if compiles else seconds
        self.path = _folder(results) / f"{pack_id}.txt"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self.path, "w")  # noqa: SIM115  closed in `close`
        faulthandler.enable(self._file)  # for crashes

    @contextmanager
    def for_a_while(self) -> Iterator[None]:
        """Ends the process unless the work within ends in time."""
        faulthandler.dump_traceback_later(self.seconds, exit=True, file=self._file)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()

    def close(self) -> None:
        faulthandler.enable(STDERR)
        self._file.close()
        self.path.unlink(missing_ok=True)


class LastWords(NamedTuple):
    """What a dead worker has left behind."""

    hung: bool
    text: str  # where it was, as a traceback; empty: it could not say

    def told(self) -> str:
        """What ended the worker, in a sentence without its end."""
        if self.hung:
            return "it hung"
        return "it crashed" if self.text else "it was killed, by the system or by somebody"


def last_words(results: Location, pack_id: str) -> LastWords:
    """Reads and deletes what a dead worker has left behind: there, or on this machine if that is an object store."""
    path = _folder(results) / f"{pack_id}.txt"
    text = path.read_text(errors="replace") if path.exists() else ""
    path.unlink(missing_ok=True)
    head, *threads = text.strip().split("\n\n") if text.startswith("Fatal") else ["", *text.strip().split("\n\n")]
    own = [thread for thread in threads if _OURS in thread]  # Ray has threads too
    return LastWords(text.startswith(_HUNG), "\n".join(filter(None, [head, *(own or threads)])))


def forget(results: Location) -> None:
    """Deletes what workers of launches that were killed have left behind."""
    for path in _folder(results).glob("*.txt"):
        path.unlink(missing_ok=True)


def _folder(results: Location) -> Path:
    """On a disk: an object appears whole or not at all, and a dying process has no time to write it."""
    return results / FOLDER if isinstance(results, Path) else local_folder(results) / FOLDER
