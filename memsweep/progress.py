"""How far a launch is, on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from memsweep.launch.packing import Tally

LINE_SECONDS = 10.0
"""Between plain lines."""


class Progress:
    """Use as a context manager; `update` may be called at any rate."""

    def __init__(self, name: str):
        self.name = name
        self._begun: float | None = None
        self._line_at = 0.0
        self._bar = _bar() if sys.stderr.isatty() else None

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task(self.name, total=None, rate="", failed=0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, settled_before: int, wanted: int, tally: Tally) -> None:
        """settled_before: before this launch.  tally: written by this launch so far."""
        now = time.monotonic()
        self._begun = self._begun or now
        done, rate = settled_before + tally.settled, tally.settled / max(now - self._begun, 1e-9)
        left = f"{(wanted - done) / rate:.0f} s left" if rate and done < wanted else ""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=wanted, rate=f"{rate:.1f} trials/s", failed=tally.failed)
        elif done == wanted or now - self._line_at >= LINE_SECONDS:
            self._line_at = now
            parts = [f"{self.name}: {done} of {wanted} trials", f"{rate:.1f} trials/s" if rate else "starting", left]
            failed = f"{tally.failed} failed" if tally.failed else ""
            print(", ".join(filter(None, [*parts, failed])), file=sys.stderr, flush=True)


def _bar() -> Any:  # rich.progress.Progress, imported only on a terminal
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("trials  {task.fields[rate]}  {task.fields[failed]} failed"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
