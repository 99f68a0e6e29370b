"""Ends what a launch has left behind: a process that outlives its driver and then ends all that the driver had started.

Ray's workers end by themselves when their driver is killed, but two of its agents stay for minutes.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

MARK = "MEMSWEEP_LAUNCH"
"""The variable that all processes of one launch inherit; unlike a parent, it is still there when the parent is gone."""


@contextmanager
def no_orphans() -> Iterator[None]:
    """While this lasts, processes that this one starts, and their children, die with it, however it ends."""
    mark = secrets.token_hex(16)
    command = [sys.executable, "-m", "memsweep.run.recovery.watchdog", mark]
    # a session of its own, so that Ctrl-C does not reach it; the pipe closes when this process is gone
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as watchdog:
        os.environ |= {MARK: mark, "SPT_NOENV": "1"}  # the second: Ray's process titles leave the environment readable
        try:
            yield
        finally:
            del os.environ[MARK], os.environ["SPT_NOENV"]
            assert watchdog.stdin is not None
            watchdog.stdin.close()


def main() -> None:
    sys.stdin.read()  # ends when the driver is gone, or is done
    while alive := [process for process in psutil.process_iter() if _is_marked(process, sys.argv[1])]:
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(alive, timeout=1)  # then again: one of them may have started another


def _is_marked(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False  # another user's, or gone


if __name__ == "__main__":
    main()
