"""What a launch shows while it runs: a bar on a terminal, lines now and then elsewhere."""

import os
import pty
import re
import subprocess
import sys

import pytest

from memsweep.cli import progress
from memsweep.cli.printing import duration
from memsweep.run.packing import Tally

SHOWN = """
from memsweep.run.packing import Tally
from memsweep.cli.progress import Progress
with Progress("widths") as bar:
    bar.update(2, 8, Tally())
    bar.update(2, 8, Tally(settled=6, failed=1, trained=500, left=0, steps=600))
"""


TRAINING = """
import time
from memsweep.run.packing import Tally
from memsweep.cli.progress import Progress
with Progress("widths") as bar:
    for trained in (100, 200):
        bar.update(0, 2, Tally(trained=trained, left=3_600_000 - trained, steps=3_600_000))
        time.sleep(0.3)
"""


def on_a_terminal(code, columns=100, kind="xterm"):
    """What a program shows on a terminal of so many columns."""
    master, slave = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": kind}
    with subprocess.Popen([sys.executable, "-c", code], stdin=slave, stderr=slave, env=environment) as process:
        os.close(slave)
        shown = b""
        while True:
            try:
                more = os.read(master, 4096)
            except OSError:  # its end of the terminal is closed
                break
            if not more:
                break
            shown += more
    os.close(master)
    assert process.returncode == 0
    return shown.decode()


def last_line(shown):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).strip().splitlines()[-1]


def test_a_terminal_shows_a_bar():
    last = last_line(on_a_terminal(SHOWN))
    assert last == "widths " + "━" * 20 + " 8 of 8 trials, 600 of 600 steps, 1 failed"


def test_a_terminal_shows_how_far_trials_in_training_are():
    last = last_line(on_a_terminal(TRAINING))
    assert "0 of 2 trials, 200 of 3,600,000 steps, " in last and " steps/s, " in last and last.endswith(" left")


@pytest.mark.parametrize("columns, kept, dropped", [(85, "3,600,000 steps,", "steps/s"), (60, "trials, ", "steps,")])
def test_a_narrow_terminal_keeps_the_time_that_is_left(columns, kept, dropped):
    last = last_line(on_a_terminal(TRAINING, columns))
    assert len(last) <= columns and kept in last and dropped not in last and last.endswith(" left")


def test_a_terminal_that_cannot_move_its_cursor_gets_lines():
    shown = on_a_terminal(SHOWN, kind="dumb")
    assert "\x1b" not in shown
    assert shown.splitlines() == [
        "widths: 2 of 8 trials, starting",
        "widths: 8 of 8 trials, 600 of 600 steps, 1 failed",
    ]


@pytest.fixture
def clock(monkeypatch):
    """Time, as a list of one number."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def steps(trained, settled=0, failed=0, total=6000, saved=0):
    return Tally(settled, failed, trained, total - saved - trained, total)


def test_elsewhere_there_are_lines_now_and_then(clock, capfd):
    with progress.Progress("widths") as lines:
        lines.update(2, 8, Tally())
        for second in range(20):
            clock[0] += 1
            lines.update(2, 8, steps(100 * second, settled=3 if second else 0, failed=int(second > 10)))
        clock[0] += 1
        lines.update(2, 8, Tally(settled=6, failed=1, trained=4000, left=0, steps=6000))
        lines.update(2, 8, Tally(settled=6, failed=1, trained=4000, left=0, steps=6000))  # said already
    out, err = capfd.readouterr()
    assert out == ""
    first, *middle, last = err.splitlines()
    assert first == "widths: 2 of 8 trials, starting"
    assert middle == [
        "widths: 5 of 8 trials, 900 of 6,000 steps, 100 steps/s, 51 s left",
        "widths: 5 of 8 trials, 1,900 of 6,000 steps, 100 steps/s, 41 s left, 1 failed",
    ]
    assert last == "widths: 8 of 8 trials, 6,000 of 6,000 steps, 205 steps/s, 1 failed"


def test_two_long_trials_show_steps_rate_and_time_left(clock, capfd):
    with progress.Progress("two") as lines:
        lines.update(0, 2, Tally())
        for trained in (0, 500, 3500):
            clock[0] += 10
            lines.update(0, 2, steps(trained, total=1_000_000, saved=20_000))
    assert capfd.readouterr().err.splitlines() == [
        "two: 0 of 2 trials, starting",
        "two: 0 of 2 trials, starting",
        "two: 0 of 2 trials, 20,500 of 1,000,000 steps",
        "two: 0 of 2 trials, 23,500 of 1,000,000 steps, 300 steps/s, 54 min 15 s left",
    ]


def test_the_rate_is_that_of_the_last_minute(clock, capfd):
    with progress.Progress("two") as lines:
        for second in range(200):
            clock[0] += 1
            lines.update(0, 2, steps(min(second, 100) * 10 + max(second - 100, 0) * 30, total=10**6))
    assert ", 30 steps/s, " in capfd.readouterr().err.splitlines()[-1]


def test_what_is_stored_already_counts_as_done_and_not_into_the_rate(clock, capfd):
    with progress.Progress("widths") as lines:
        clock[0] += 50
        lines.update(8, 8, Tally())
    assert capfd.readouterr().err == "widths: 8 of 8 trials\n"


@pytest.mark.parametrize(
    "seconds, text",
    [
        *[(0, "0 s"), (1.62, "1.6 s"), (9.96, "10 s"), (48.4, "48 s"), (59.6, "1 min"), (250, "4 min 10 s")],
        *[(3599.9, "1 h"), (7500, "2 h 5 min"), (86399, "1 d"), (273_600, "3 d 4 h")],
    ],
)
def test_a_time_is_written_in_its_two_largest_units(seconds, text):
    assert duration(seconds) == text
