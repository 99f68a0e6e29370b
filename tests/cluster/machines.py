"""Machines of a Ray cluster, played by raylets of this one or by network namespaces, and what tests break of them."""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from tests.processes import family, free_port, kill

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
PORT, DASHBOARD = 6399, 8299
"""Of a head in a namespace of its own; on loopback they are whatever is free."""


class Host(NamedTuple):
    """Where processes of a machine run."""

    address: str
    prefix: tuple[str, ...] = ()  # of every command on it
    cable: str | None = None  # the end of it that is not in the namespace

    def plug(self, state: str) -> None:
        """The cable in, `up`, or out, `down`."""
        _ip("link", "set", self.cable, state)


LOOPBACK = Host("127.0.0.1")
_NETWORKS = itertools.count()


def cluster_environment() -> dict[str, str]:
    """What cluster.env sets, with the programs of this environment."""
    lines = (ROOT / "cluster.env").read_text().splitlines()
    own = dict(line.split("=", 1) for line in lines if line.startswith("RAY_"))
    return {**os.environ, **own, "PATH": f"{BIN}:{os.environ['PATH']}"}


class Machine:
    """What `ray start` has begun on a host."""

    def __init__(self, host: Host, words: Sequence[str], environment: Mapping[str, str]):
        self.host = host
        # below /tmp, because the paths of sockets must be short; one each, because hosts share this disk
        self.folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
        self.log = self.folder / "start.log"
        command = ["ray", "start", "--block", f"--node-ip-address={host.address}", f"--temp-dir={self.folder}", *words]
        with open(self.log, "wb") as log:
            # --block: all are children of ours; never `ray stop`, which ends those of others
            self.process = subprocess.Popen(
                [*host.prefix, *command, "--disable-usage-stats"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def raylet(self, seconds: float = 60) -> psutil.Process:
        until = time.monotonic() + seconds
        while True:
            for process in family(self.process.pid):
                with suppress(psutil.Error):
                    if process.name() == "raylet":
                        return process
            assert self.process.poll() is None and time.monotonic() < until, self.log.read_text()
            time.sleep(0.1)

    @property
    def node_id(self) -> str:
        (found,) = {word.partition("=")[2] for word in self.raylet().cmdline() if word.startswith("--node_id=")}
        return found

    def kill(self) -> None:
        """All of it at once, as when the power fails."""
        kill(family(self.process.pid))
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Machines:
    """A head, where drivers run, by default without workers, and machines of one processor each."""

    def __init__(
        self,
        hosts: Sequence[Host],
        environment: Mapping[str, str] | None = None,
        dashboard: bool = False,
        head_processors: int = 0,
    ):
        self.hosts = hosts
        self.head_processors = head_processors
        self.environment = {**cluster_environment(), "RAY_AUTH_TOKEN": secrets.token_hex(32), **(environment or {})}
        self.dashboard = dashboard
        self.workers: list[Machine] = []
        self.begin()

    def begin(self) -> None:
        """The head, and a machine on each other host."""
        first = self.hosts[0]
        port, page = (free_port(), free_port()) if first is LOOPBACK else (PORT, DASHBOARD)
        self.address, self.page = f"{first.address}:{port}", f"http://{first.address}:{page}"
        words = ["--head", f"--port={port}", f"--dashboard-port={page}"]
        words += [f"--num-cpus={self.head_processors}", f"--ray-client-server-port={free_port()}"]
        words += [f"--dashboard-host={first.address}", f"--include-dashboard={self.dashboard}"]
        self.head = Machine(first, words, self.environment)
        self.head.raylet()  # comes after what others talk to
        for host in self.hosts[1:]:
            self.add(host)

    def add(self, host: Host | None = None, environment: Mapping[str, str] | None = None) -> Machine:
        """One more; default: where the last one was."""
        host = host or self.hosts[-1]
        words = [f"--address={self.address}", "--num-cpus=1"]
        self.workers.append(Machine(host, words, {**self.environment, **(environment or {})}))
        return self.workers[-1]

    def kill(self) -> None:
        for machine in (*self.workers, self.head):
            machine.kill()
        self.workers = []


def on_loopback(count: int = 3) -> list[Host]:
    return [LOOPBACK] * count


@contextmanager
def in_namespaces(count: int = 3) -> Iterator[list[Host]]:
    """Hosts that reach each other by a bridge alone; the first one's namespace is the head's.

    Raises subprocess.CalledProcessError where this user may not make any.
    """
    own = f"msw{os.getpid() % 100_000}{chr(97 + next(_NETWORKS) % 26)}"  # at most 15 letters with what follows
    bridge, names = own, [f"{own}-{i}" for i in range(count)]
    try:
        _ip("link", "add", bridge, "type", "bridge")
        _ip("link", "set", bridge, "up")
        hosts = []
        for i, name in enumerate(names):
            address, inside = f"10.197.13.{i + 1}", ("-n", name)
            _ip("netns", "add", name)
            _ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("link", "set", name, "master", bridge, "up")
            _ip(*inside, "addr", "add", f"{address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip(*inside, "link", "set", device, "up")
            _ip(*inside, "route", "add", "default", "dev", "eth0")  # by which Ray finds its own address
            hosts.append(Host(address, ("ip", "netns", "exec", name), name))
        yield hosts
    finally:
        for name in names:
            _ip("link", "del", name, check=False)
            _ip("netns", "del", name, check=False)
        _ip("link", "del", bridge, check=False)


def may_have_namespaces() -> bool:
    """Whether this user may make some, and join them."""
    with suppress(subprocess.CalledProcessError, FileNotFoundError), in_namespaces(1) as hosts:
        return subprocess.run([*hosts[0].prefix, "true"], capture_output=True).returncode == 0
    return False


def _ip(*words: str | None, check: bool = True) -> None:
    subprocess.run(["ip", *filter(None, words)], check=check, capture_output=True)
