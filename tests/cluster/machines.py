"""Machines of a Ray cluster, played by raylets of this one, and launches on it: what the tests of failures break."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from memsweep.results.store import Store

ROOT = Path(__file__).parents[2]
LAUNCH = [
    "launch",
    "smoke",
    "--set",
    "optimizer.epochs=1500",
    "--set",
    "seeds=0:6",
    "--members",
    "6",
    "--compile",
    "never",
    "--checkpoint",
    "1s",
    "--tracking-uri",
    "none",
]
"""24 trials in 4 packs, of some seconds each."""
TRIALS = 24


def cluster_environment() -> dict[str, str]:
    """What cluster.env sets, without a token, and without a path."""
    lines = (ROOT / "cluster.env").read_text().splitlines()
    own = dict(line.split("=", 1) for line in lines if line.startswith("RAY_"))
    return {**own, "RAY_AUTH_MODE": "disabled"}


class Machines:
    """A head without workers, and machines of one processor each."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.address = cluster.address
        self.raylets = []

    def add(self, **options):
        self.raylets.append(self.cluster.add_node(num_cpus=1, **options))

    def raylet(self, number: int) -> psutil.Process:
        return psutil.Process(self.raylets[number].all_processes["raylet"][0].process.pid)


@contextmanager
def machines(count: int = 2) -> Iterator[Machines]:
    """A cluster; its processes end with it."""
    os.environ.update(cluster_environment())
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    found = Machines(cluster)
    try:
        for _ in range(count):
            found.add()
        yield found
    finally:
        family = psutil.Process().children(recursive=True)
        with suppress(Exception):  # parts of it were killed
            cluster.shutdown()
        for process in family:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(family, timeout=20)


class Launch:
    """A launch in a process of its own."""

    def __init__(self, results, folder: Path, *options: str, environment: dict[str, str] | None = None):
        self.results = results
        self.log = open(folder / "launch.log", "a+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "memsweep", *LAUNCH, "--results", str(results), *options],
            **{"cwd": ROOT, "env": {**os.environ, **(environment or {})}},
            **{"stdin": subprocess.DEVNULL, "stdout": self.log, "stderr": self.log},
        )

    def wait_for_checkpoint(self, seconds: float = 150) -> None:
        """Until a pack is in training and has saved something."""
        until = time.monotonic() + seconds
        while not self._has_saved():
            assert self.process.poll() is None and time.monotonic() < until, self.said()
            time.sleep(0.1)

    def _has_saved(self) -> bool:
        with suppress(Exception):  # no folder yet
            return any(Store(self.results).results.glob("checkpoints/[!.]*.safetensors"))
        return False

    def workers(self) -> list[psutil.Process]:
        """At work in any process that the tests have started."""
        family = psutil.Process().children(recursive=True)
        found = []
        for process in family:
            with suppress(psutil.Error):
                if "ResourceTrainable" in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def end(self, seconds: float = 400) -> int:
        """Its exit code."""
        try:
            return self.process.wait(seconds)
        finally:
            self.kill()

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def said(self) -> str:
        self.log.seek(0)
        return self.log.read()
