"""Starts the cluster of cluster.sh, and runs commands at its controller."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged", "unshare", "nsenter", "ip")
SPACES = ("unshare", "--mount", "--propagation", "private", "--net", "--uts", "--pid", "--fork", "--kill-child")


def reason_against() -> str:
    """Returns why the cluster can't run here; "": it can."""
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        return f"not installed: {', '.join(missing)}"
    if os.geteuid() != 0:
        return "needs root, for namespaces"
    tried = subprocess.run([*SPACES, "ip", "link", "add", "try", "type", "bridge"], capture_output=True, text=True)
    return tried.stderr.strip() and f"no namespaces here: {tried.stderr.strip()}"


class Cluster:
    """A running cluster; `pid` is the process of its controller's namespace."""

    def __init__(self, state: Path, pid: int):
        self.state, self.pid = state, pid

    def __call__(self, *words: object, check: bool = True, **environment: str) -> str:
        """Runs a command at the controller; returns its stdout."""
        enter = ["nsenter", "-t", str(self.pid), "--mount", "--net", "--uts", "--pid", f"--wd={Path.cwd()}", "--"]
        ended = subprocess.run(
            [*enter, *map(str, words)],
            capture_output=True,
            text=True,
            env={**os.environ, "SLURM_CONF": str(self.state / "slurm.conf"), **environment},
        )
        assert not check or ended.returncode == 0, ended.stderr
        return ended.stdout.strip()

    def state_of(self, job: str) -> set[str]:
        """Returns the states of a job, or of all jobs of an array."""
        return {line.split("=")[1] for line in self("scontrol", "show", "job", job).split() if "JobState=" in line}

    def wait(self, job: str, *states: str, seconds: float = 240) -> set[str]:
        """Waits until all jobs of this id are in one of the states, by default ended; returns their states."""
        wanted, until = {*(states or ("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED"))}, time.monotonic() + seconds
        while not (now := self.state_of(job)) <= wanted:
            assert time.monotonic() < until, f"job {job}: {now} after {seconds} s"
            time.sleep(0.5)
        return now


@contextmanager
def cluster(state: Path, nodes: int = 2, processors: int = 8) -> Iterator[Cluster]:
    """Yields a cluster of these nodes, each of which claims that many processors; ends it, with all that runs in it."""
    script = str(Path(__file__).with_name("cluster.sh"))
    with open(state / "cluster.log", "w") as log:
        outer = subprocess.Popen(
            [*SPACES, "--mount-proc", script, str(state), str(nodes), str(processors)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        until = time.monotonic() + 60
        while not (state / "ready").exists():
            assert outer.poll() is None and time.monotonic() < until, (state / "cluster.log").read_text()
            time.sleep(0.1)
        yield Cluster(state, psutil.Process(outer.pid).children()[0].pid)
    finally:
        outer.send_signal(signal.SIGKILL)  # --kill-child: its child is killed too, and with it the namespace
        outer.wait()
