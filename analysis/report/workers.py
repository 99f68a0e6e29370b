"""Processes that draw beside this one."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from typing import Any, TypeVar

from memsweep.results.collection import collect_rarely
from memsweep.spec.processors import allotted

Made = TypeVar("Made")
MOST = 8
"""Processes that draw, this one included: each reads the tables."""


class Workers:
    """Processes beside this one, or none."""

    def __init__(self, executor: ProcessPoolExecutor | None = None, count: int = 0):
        self._executor, self._count = executor, count

    def map(
        self, call: Callable[..., Made], remote: Callable[..., Made], tasks: Sequence[tuple[Any, ...]]
    ) -> list[Made]:
        """Returns what each task gives, in their order.  Raises what a task raises.

        call: called with a task in this process, which takes part.  remote: as `call`, in another process; a function
        of a module, and what it takes and returns can be pickled.
        """
        left, made = deque(range(len(tasks))), dict[int, Made]()

        def take(run: Callable[..., Made]) -> None:
            while left:
                try:
                    number = left.popleft()
                except IndexError:  # taken by another thread
                    return
                try:
                    made[number] = run(*tasks[number])
                except BrokenExecutor:  # a process died
                    left.append(number)
                    return
                except BaseException:
                    left.clear()
                    raise

        executor, count = self._executor, min(self._count, len(tasks) - 1)
        if executor is None or count < 1:
            return [call(*task) for task in tasks]
        with ThreadPoolExecutor(count) as threads:
            waiting = [
                threads.submit(take, lambda *task: executor.submit(remote, *task).result()) for _ in range(count)
            ]
            take(call)
            for thread in waiting:
                thread.result()
        take(call)  # what processes that died have left
        return [made[number] for number in range(len(tasks))]


ALONE = Workers()


@contextmanager
def started(imported: str) -> Iterator[Workers]:
    """Yields one process fewer than there are processors, at most MOST - 1; they import this module meanwhile."""
    count = min(allotted(), MOST) - 1
    if not count:
        yield ALONE
        return
    executor = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _begin, (imported,))
    try:
        for _ in range(count):
            executor.submit(int)  # starts a process
        yield Workers(executor, count)
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def _begin(imported: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the process that writes the report, too
    import_module(imported)
    collect_rarely()
