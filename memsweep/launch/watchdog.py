"""Ends what a launch has left behind: a process that outlives its driver and then ends all that the driver had started.

Ray's workers end by themselves when their driver is killed, but two of its agents stay for minutes.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

LOOK_SECONDS = 0.5
"""Between looks at the driver's descendants; what is born and orphaned within one look escapes."""


@contextmanager
def no_orphans() -> Iterator[None]:
    """While this lasts, processes that this one starts, and their children, die with it, however it ends."""
    command = [sys.executable, "-m", "memsweep.launch.watchdog", str(os.getpid())]
    # a session of its own, so that Ctrl-C does not reach it; the pipe closes when this process is gone
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as watchdog:
        try:
            yield
        finally:
            assert watchdog.stdin is not None
            watchdog.stdin.close()


def main() -> None:
    driver = psutil.Process(int(sys.argv[1]))
    seen: set[psutil.Process] = set()
    while not select.select([sys.stdin], [], [], LOOK_SECONDS)[0]:  # readable: the driver is gone, or is done
        seen |= _descendants(driver)
    for process in (seen | _descendants(driver)) - {psutil.Process()}:
        try:
            process.kill()  # psutil makes sure that it is still the process that was seen
        except psutil.Error:
            continue


def _descendants(driver: psutil.Process) -> set[psutil.Process]:
    try:
        return set(driver.children(recursive=True))
    except psutil.Error:
        return set()


if __name__ == "__main__":
    main()
