"""Runs Ray's processes on one node of a SLURM job, for a launch on several nodes; `slurm.py` writes the job.

    python -m memsweep.run.slurm_node address                      prints the address of this node for other nodes
    python -m memsweep.run.slurm_node start ADDRESS PORT           runs Ray, until the job's token is deleted
    python -m memsweep.run.slurm_node wait ADDRESS PORT N SECONDS  waits for N nodes; prints how many have joined

A signal to all processes of the job must end none of Ray's before the launch has saved what is in training. Sockets
and logs are in a folder of the job, whose path is short enough for sockets.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from memsweep.run import cluster
from memsweep.run.cluster import allotted
from memsweep.run.recovery import interruption
from memsweep.run.recovery.watchdog import no_orphans

CLIENT_PORTS = 10000
"""Distance of the port for Ray's clients from the port of the head; the default is the same for all jobs."""


def address() -> str:
    """Returns the address of this node on the network of the job's last node.

    A name would not do: Ray resolves it on its own way, and some systems give a machine's name its loopback address.
    """
    listed = subprocess.run(
        ["scontrol", "show", "hostnames", os.environ["SLURM_JOB_NODELIST"]], capture_output=True, text=True, check=True
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((socket.gethostbyname(listed.stdout.split()[-1]), 9))  # sends nothing
        return str(probe.getsockname()[0])


def start(head: str, port: int) -> None:
    """Runs Ray on this node until the job's token is deleted; the first node of the job is the head."""
    folder = Path("/tmp", f"ms-{os.environ['SLURM_JOB_ID']}-{os.environ['SLURM_PROCID']}")
    shutil.rmtree(folder, ignore_errors=True)  # of the same job, before it was queued again
    folder.mkdir(mode=0o700)  # fails if another user has created it
    options = allotted()
    words = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block"]
    words += [f"--{name.strip('_').replace('_', '-')}={value}" for name, value in options.items()]
    words += ["--min-worker-port=0", "--max-worker-port=0"]
    if os.environ["SLURM_PROCID"] == "0":
        words += ["--head", f"--node-ip-address={head}", f"--port={port}", "--include-dashboard=false"]
        words += [f"--temp-dir={folder}/ray"]
        if importlib.util.find_spec("grpc"):  # without it, Ray refuses the option
            words += [f"--ray-client-server-port={port + CLIENT_PORTS}"]
    else:
        _wait(head, port)
        words += [f"--address={head}:{port}", f"--temp-dir={folder}/ray"]
    with no_orphans():
        ray = subprocess.Popen(words)
        while _is_wanted() and ray.poll() is None:
            time.sleep(0.5)
        ray.kill()
    shutil.rmtree(folder, ignore_errors=True)


def joined(head: str, port: int, count: int, seconds: float) -> int:
    """Returns the number of nodes that have joined, after waiting for `count` of them, at most `seconds`."""
    with cluster.cluster(f"{head}:{port}"):
        until = time.monotonic() + seconds
        while (nodes := sum(node["Alive"] for node in cluster.ray.nodes())) < count and time.monotonic() < until:
            time.sleep(0.5)
    return int(nodes)


def _is_wanted() -> bool:
    """Returns whether the token exists; it is opened, because a shared folder may list deleted files for a while."""
    try:
        with open(os.environ["RAY_AUTH_TOKEN_PATH"], "rb"):
            return True
    except OSError:
        return False


def _wait(head: str, port: int) -> None:
    """Returns when the head accepts connections, or the job ends."""
    while _is_wanted():
        try:
            socket.create_connection((head, port), timeout=5).close()
            return
        except OSError:
            time.sleep(0.5)


if __name__ == "__main__":
    if sys.argv[1] == "address":
        print(address())
    elif sys.argv[1] == "wait":
        print(joined(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])))
    else:
        with interruption.blocked(signal.SIGINT):
            start(sys.argv[2], int(sys.argv[3]))
