"""Processes that draw the report beside the one that writes it."""

import os
import re
import signal
import time
from contextlib import contextmanager

import pytest

from memsweep.analysis.report import report, workers
from tests.test_report import grid, store_of


@contextmanager
def two_processors():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "allotted", lambda: 2)
        yield


@pytest.fixture(scope="module")
def one():
    """One process beside this one."""
    with two_processors(), workers.started("memsweep.analysis.report.report") as beside:
        yield beside


def place(number):
    time.sleep(0.05)
    return number, os.getpid()


def refused(number):
    raise ValueError(f"task {number}")


def test_both_processes_take_tasks_and_results_keep_their_order(one):
    numbers, places = zip(*one.map(place, place, [(number,) for number in range(8)]), strict=True)
    assert numbers == tuple(range(8)) and os.getpid() in places and len(set(places)) == 2


def test_an_error_in_the_other_process_is_raised_here(one):
    with pytest.raises(ValueError, match="task"):
        one.map(place, refused, [(number,) for number in range(4)])


def end(number):
    os.kill(os.getpid(), signal.SIGKILL)


def test_tasks_of_a_process_that_died_are_done_here():
    with two_processors(), workers.started("memsweep.analysis.report.workers") as beside:
        places = beside.map(place, end, [(number,) for number in range(4)])
    assert places == [(number, os.getpid()) for number in range(4)]


def test_a_single_processor_draws_alone(monkeypatch):
    monkeypatch.setattr(workers, "allotted", lambda: 1)
    with workers.started("memsweep.analysis.report.report") as beside:
        assert beside is workers.ALONE
    assert {pid for _, pid in workers.ALONE.map(place, refused, [(0,), (1,)])} == {os.getpid()}


def test_a_page_of_two_processes_is_that_of_one(tmp_path, one):
    for sweep in ("generalization", "mine", "yours"):
        store_of(tmp_path, sweep, [(trial, {}) for trial in grid()])
    pages = [
        re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "", report.write(tmp_path, workers=each).read_text())
        for each in (workers.ALONE, one)
    ]
    assert pages[0] == pages[1]
