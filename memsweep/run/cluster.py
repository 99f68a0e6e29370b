"""The Ray cluster of a launch: started on this machine, with a token, or joined; its health and its room."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

# Tune's own log files, state files and console output are off: the tables and our progress take their place
os.environ |= {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "TUNE_GLOBAL_CHECKPOINT_S": "3600", "RAY_AIR_NEW_OUTPUT": "0"}
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")  # else relative paths of the user's are nowhere
# Ray decides when it is imported whether it asks for a token; where a program of the user's has imported it before us,
# it decides again as it starts a cluster, but only if nobody else has meanwhile
CAME_FIRST = "ray" in sys.modules
if not CAME_FIRST:
    os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray

from memsweep.run.jobs import ClusterError
from memsweep.run.recovery.watchdog import no_orphans
from memsweep.spec import processors

HEALTH_SECONDS = 2.0
SOCKET_BYTES = 103 if sys.platform == "darwin" else 107
"""Of the longest path that a socket can have."""
SOCKET = "/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.99"
"""The longest that Ray makes, below its folder."""


class Health:
    """Whether the raylet lives through which this driver hears of everything: without it, the driver waits for ever.

    (Without the head it ends by itself, after a minute.)
    """

    def __init__(self) -> None:
        self.is_lost = False
        self.remarks: list[str] = []
        self._own = ray.get_runtime_context().get_node_id()
        self._over = threading.Event()

    def watch(self) -> None:
        """Until `end`; interrupts the main thread, as Ctrl-C does, when the raylet is gone."""
        while not self._over.wait(HEALTH_SECONDS):
            alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
            if self._own not in alive and not self._over.is_set():
                self.is_lost = True
                signal.raise_signal(signal.SIGINT)
                return

    def end(self) -> None:
        self._over.set()


@contextmanager
def cluster(address: str | None = None) -> Iterator[Health]:
    """A Ray cluster for the time of a launch: of its own on this machine, or the running one at `address`."""
    if ray.is_initialized():
        raise ClusterError(
            "this program is connected to a Ray cluster, and a launch needs a connection of its own: call "
            "ray.shutdown() before it."
        )
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    with ExitStack() as started:
        if address is None:
            folder = started.enter_context(_temporary_folder())  # deleted after those who write there have ended
            started.enter_context(no_orphans())
            _ensure_token()
            # "local" on purpose: a bare ray.init() might join a stranger's cluster
            ray.init(
                address="local", num_cpus=processors.allotted(), include_dashboard=False, _temp_dir=folder, **quiet
            )
        else:
            ray.init(address=address, **quiet)
        health = Health()
        watcher = threading.Thread(target=health.watch, daemon=True)
        watcher.start()
        try:
            yield health
        finally:
            health.end()
            watcher.join()
            ray.shutdown()


def _ensure_token() -> None:
    """Sees that there is a token for a cluster of this program, which nobody else can read."""
    token = secrets.token_hex(32)
    if CAME_FIRST:  # then Ray may have read its own token, reads none again, and would make one that everybody can read
        path = Path.home() / ".ray" / "auth_token"
        if not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys() and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
                file.write(token)
    else:
        os.environ.setdefault("RAY_AUTH_TOKEN", token)  # this program's own, stored nowhere


@contextmanager
def _temporary_folder() -> Iterator[str | None]:
    """Where Ray has its sockets and logs: None, for where it has them by itself, or where their paths are short enough.

    Raises ClusterError where there is no such place.
    """
    name = next((name for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ), "")  # as Ray looks for it
    usual = os.environ.get(name, "/tmp")
    if _is_short(os.path.join(usual, "ray")) and os.path.isabs(usual):
        yield None
        return
    for place in filter(None, ("/tmp", "/var/tmp", os.environ.get("XDG_RUNTIME_DIR"), "/dev/shm")):
        with suppress(OSError):
            folder = tempfile.mkdtemp(prefix="ray-", dir=place)
            break
    else:
        folder = ""
    ray_folder = os.path.join(folder, "ray")  # one that others may write to, in one that they may not
    try:
        if not folder or not _is_short(ray_folder):
            raise ClusterError(
                f"{name}={usual}: Ray's sockets can't be there, since the whole path of a socket has {SOCKET_BYTES} "
                "bytes at most, nor in /tmp, /var/tmp and /dev/shm. Set RAY_TMPDIR to a folder with a short path."
            )
        yield ray_folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_short(folder: str) -> bool:
    """Whether the paths of the sockets that Ray makes below its folder are short enough for the system."""
    return len(os.fsencode(folder + SOCKET)) <= SOCKET_BYTES


def worker_count(device: str) -> int:
    """Packs that run at the same time: one a GPU, or one a CPU core."""
    return max(1, int(ray.cluster_resources().get("GPU" if device == "cuda" else "CPU", 1)))


def has_gpu() -> bool:
    return bool(ray.cluster_resources().get("GPU", 0))
