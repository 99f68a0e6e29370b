"""The progress of a launch: a bar on a terminal or below a notebook's cell, else a line on stderr every 10 seconds."""

from __future__ import annotations

import sys
import time
from html import escape
from types import TracebackType
from typing import Any

from memsweep.cli.printing import duration
from memsweep.run.packing import STARTING, Tally
from memsweep.run.rate import Rate

LINE_SECONDS = 10.0
"""Between two plain lines."""

CELL_SECONDS = 0.5
"""Between two updates in a notebook."""

BAR_WIDTH = 20


class Progress:
    """Shows a launch's progress, as a context manager; `update` may be called at any rate."""

    def __init__(self, name: str):
        self.name = name
        self._rate = Rate()
        self._line_at = 0.0
        self._whole: tuple[int, int] | None = None  # trials of the last line that showed all as settled
        self._bar = _bar() if sys.stderr.isatty() else None
        self._cell = _Cell() if is_notebook() else None

    def __enter__(self) -> Progress:
        if self._cell is not None:
            self._cell.show(self.name, {"trials": STARTING}, 0.0)
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task(self.name, total=None, text="starting")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        if self._cell is not None:
            self._cell.flush()

    def update(self, settled_before: int, wanted: int, tally: Tally) -> None:
        """Shows the current counts.  settled_before: before this launch.  tally: of this launch so far."""
        now = time.monotonic()
        trials = (settled_before + tally.settled, wanted)
        parts = self._parts(trials, tally, self._rate.after(tally.trained))
        done, total = (tally.steps - tally.left, tally.steps) if tally.steps else trials
        if self._cell is not None:
            self._cell.show(self.name, parts, done / (total or 1))
            return
        if self._bar is not None:
            text = _fitting(parts, self._bar.console.width - len(self.name) - BAR_WIDTH - 2)
            self._bar.update(self._task, completed=done, total=total or 1, text=text)
            return
        is_whole = trials[0] == wanted and self._whole != trials
        if is_whole or now - self._line_at >= LINE_SECONDS:
            self._line_at = now
            self._whole = trials if is_whole else None
            print(f"{self.name}: {', '.join(parts.values())}", file=sys.stderr, flush=True)

    def _parts(self, trials: tuple[int, int], tally: Tally, rate: float) -> dict[str, str]:
        done, wanted = trials
        parts = {"trials": f"{done} of {wanted} trials"}
        if tally.trained:
            parts["steps"] = f"{tally.steps - tally.left:,} of {tally.steps:,} steps"
        elif done < wanted and not tally.settled:
            parts["steps"] = tally.phase or STARTING
        if rate:
            parts["rate"] = f"{rate:,.0f} steps/s"
        if rate and tally.left:
            parts["left"] = f"{duration(tally.left / rate)} left"
        if tally.failed:
            parts["failed"] = f"{tally.failed} failed"
        return parts


class _Cell:
    """One line below a notebook's cell, with a bar, replaced by the next one.

    Bars of Rich and tqdm are widgets, which need a package in the kernel and an extension in the page, and which are
    lost when the notebook is saved; this line stays with its last text.
    """

    def __init__(self) -> None:
        self._content: dict[str, str] = {}
        self._handle: Any = None
        self._shown_at = 0.0

    def show(self, name: str, parts: dict[str, str], share: float) -> None:
        """Shows these parts, unless the last ones were shown just now.  share: of the bar that is full, 0 to 1."""
        text = f"{name}: {', '.join(parts.values())}"
        bar = f'<progress value="{share:.3f}" max="1"></progress> '
        self._content = {"text/plain": text, "text/html": bar + escape(text)}
        if time.monotonic() - self._shown_at >= CELL_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Shows the last parts."""
        from IPython.display import display

        self._shown_at = time.monotonic()
        if self._handle is None:
            self._handle = display(self._content, raw=True, display_id=True)
        else:
            self._handle.update(self._content, raw=True)


def is_notebook() -> bool:
    """Returns whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def _fitting(parts: dict[str, str], width: int) -> str:
    """Returns the parts in one line; on a narrow terminal without the rate, then without the steps."""
    for left_out in ((), ("rate",), ("rate", "steps")):
        text = ", ".join(part for name, part in parts.items() if name not in left_out)
        if len(text) <= width:
            break
    return text


def _bar() -> Any:  # rich.progress.Progress, imported only on a terminal; None if it can't move its cursor
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(BAR_WIDTH), TextColumn("{task.fields[text]}")
    return None if console.is_dumb_terminal else Progress(*columns, console=console)
