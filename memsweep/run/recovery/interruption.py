"""Signals that end a launch early: SIGTERM and SIGUSR1, which batch systems send before they end a job, act as Ctrl-C.

A batch system may send its signal to all processes of a job. Only the driver acts on it; the processes that it starts
must live on to store and save what they train.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class _Handler:
    """Acts on the first signal as on Ctrl-C, and ignores further ones: a job often gets several."""

    def __init__(self) -> None:
        self.has_acted = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.has_acted:
            return
        self.has_acted = True
        handler = signal.getsignal(signal.SIGINT)  # Tune's while it runs, which ends training in order
        if not callable(handler):  # a shell starts background processes with SIGINT ignored
            raise KeyboardInterrupt
        handler(signal.SIGINT, frame)


_current: _Handler | None = None


@contextmanager
def as_ctrl_c() -> Iterator[None]:
    """Makes SIGTERM and SIGUSR1 act as one Ctrl-C within the context; does nothing outside of the main thread."""
    global _current
    if _current is not None or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    _current = _Handler()
    arm()
    try:
        yield
    finally:
        _current = None
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def arm() -> None:
    """Sets the handlers of `as_ctrl_c` again, after Ray or Tune has set its own; does nothing outside of it."""
    if _current is not None and threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, _current)


@contextmanager
def blocked(*others: signal.Signals) -> Iterator[None]:
    """Delays these signals until the context ends.

    Processes that are started within the context, and their children, never get SIGTERM, SIGUSR1 and `others`.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*SIGNALS, *others})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def survive() -> None:
    """Makes this process do nothing on SIGTERM and SIGUSR1; processes that it starts get both signals again."""
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, lambda number, frame: None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
