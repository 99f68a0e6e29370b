"""Ends the processes of a launch: the watchdog outlives the driver, then kills all that the driver started.

Ray's workers end by themselves when their driver is killed, but two of its agents stay for minutes.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

from memsweep.run.recovery import interruption

MARK = "MEMSWEEP_LAUNCH"
"""Environment variable that all processes of a launch inherit; unlike the parent id, it outlives the parent."""


@contextmanager
def no_orphans() -> Iterator[None]:
    """Ends processes that this process starts within the context, and their children, however this process ends."""
    mark = secrets.token_hex(16)
    command = [sys.executable, "-m", "memsweep.run.recovery.watchdog", mark]
    # in a new session, so that Ctrl-C does not reach it; the pipe closes when this process is gone
    with interruption.blocked(signal.SIGINT):  # which a batch system may send to all processes of a job
        watchdog = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    with watchdog:
        os.environ |= {MARK: mark, "SPT_NOENV": "1"}  # SPT_NOENV: Ray's process titles keep the environment readable
        try:
            yield
        finally:
            del os.environ[MARK], os.environ["SPT_NOENV"]
            assert watchdog.stdin is not None
            watchdog.stdin.close()


def main() -> None:
    """Waits until the driver ends, then kills all processes with the mark given as argument."""
    sys.stdin.read()  # returns when the driver closes the pipe or dies
    while alive := [process for process in psutil.process_iter() if _is_marked(process, sys.argv[1])]:
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        until = time.monotonic() + 1
        # psutil's own wait goes on until the parent, who may be slow, has read the exit status
        while any(map(_is_alive, alive)) and time.monotonic() < until:
            time.sleep(0.01)
        # repeated, because a killed process may have started another


def _is_marked(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False  # of another user, or already gone


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


if __name__ == "__main__":
    main()
