"""What a launch shows while it runs: a bar on a terminal, lines now and then elsewhere."""

import os
import pty
import re
import subprocess
import sys

import pytest

from memsweep import progress
from memsweep.launch.packing import Tally

SHOWN = """
from memsweep.launch.packing import Tally
from memsweep.progress import Progress
with Progress("widths") as bar:
    bar.update(2, 8, Tally())
    bar.update(2, 8, Tally(settled=6, failed=1))
"""


def on_a_terminal(code):
    """What a program shows on a terminal of 100 columns."""
    master, slave = pty.openpty()
    environment = {**os.environ, "COLUMNS": "100", "TERM": "xterm"}
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
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())


def test_a_terminal_shows_a_bar():
    last = on_a_terminal(SHOWN).strip().splitlines()[-1]
    assert last.startswith("widths") and "8/8 trials" in last and "1 failed" in last and "trials/s" in last
    assert "━" in last


@pytest.fixture
def clock(monkeypatch):
    """Time, as a list of one number."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_elsewhere_there_are_lines_now_and_then(clock, capfd):
    with progress.Progress("widths") as lines:
        lines.update(2, 8, Tally())
        for _ in range(20):
            clock[0] += 1
            lines.update(2, 8, Tally(settled=3, failed=1))
        clock[0] += 1
        lines.update(2, 8, Tally(settled=6, failed=1))
    out, err = capfd.readouterr()
    assert out == ""
    first, *middle, last = err.splitlines()
    assert first == "widths: 2 of 8 trials, starting"
    assert middle == [
        "widths: 5 of 8 trials, 0.3 trials/s, 10 s left, 1 failed",
        "widths: 5 of 8 trials, 0.1 trials/s, 20 s left, 1 failed",
    ]
    assert last == "widths: 8 of 8 trials, 0.3 trials/s, 1 failed"


def test_what_is_stored_already_counts_as_done_and_not_into_the_rate(clock, capfd):
    with progress.Progress("widths") as lines:
        clock[0] += 50
        lines.update(8, 8, Tally())
    assert capfd.readouterr().err == "widths: 8 of 8 trials, starting\n"
