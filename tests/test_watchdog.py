"""What a launch starts ends with it, however it ends and however young or orphaned it is."""

import subprocess
import sys

import psutil
import pytest

DRIVER = """
import os, signal, subprocess, time
from memsweep.run.recovery.watchdog import no_orphans
with no_orphans():
    # the shell ends at once: nothing leads from the driver to the sleeper any more
    shown = subprocess.run(["sh", "-c", "sleep 300 > /dev/null 2>&1 & echo $!"], capture_output=True, text=True)
    print(shown.stdout, flush=True)
    {end}
"""


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), signal.SIGKILL)", "raise SystemExit(3)", "pass"])
def test_an_orphan_just_born_ends_with_the_driver(end):
    driver = subprocess.run([sys.executable, "-c", DRIVER.format(end=end)], capture_output=True, text=True)
    sleeper = int(driver.stdout)
    _, alive = psutil.wait_procs([psutil.Process(sleeper)] if psutil.pid_exists(sleeper) else [], timeout=20)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def test_what_was_there_before_stays():
    with subprocess.Popen(["sleep", "300"]) as bystander:
        subprocess.run([sys.executable, "-c", DRIVER.format(end="pass")], capture_output=True, check=True)
        assert bystander.poll() is None
        bystander.kill()
