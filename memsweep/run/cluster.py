"""The Ray cluster of a launch, started on this machine with a token or joined by address; its health and its size."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

# the tables and our progress output replace Tune's log files, state files and console output
os.environ |= {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "TUNE_GLOBAL_CHECKPOINT_S": "3600", "RAY_AIR_NEW_OUTPUT": "0"}
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")  # else relative paths in the user's code break
# Ray reads RAY_AUTH_MODE when it is imported. If the user's program imported Ray first, Ray reads the mode again when
# it starts a cluster, unless another caller has made it read the mode in between
IS_RAY_IMPORTED = "ray" in sys.modules
if not IS_RAY_IMPORTED:
    os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_prestart_worker_first_driver", "0")  # Tune starts its workers itself and uses no others
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch's large tensors are in pages of 2 MiB: a worker clears fewer

import psutil

logging.getLogger("ray.widgets.util").setLevel(logging.WARNING)  # else Ray advises to install widgets, in a notebook
with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "IProgress not found")  # the same advice of tqdm, which Ray imports
    import ray

from memsweep.run import ray_start
from memsweep.run.jobs import ClusterError
from memsweep.run.recovery import interruption
from memsweep.run.recovery.watchdog import no_orphans
from memsweep.spec import processors

HEALTH_SECONDS = 2.0
RAY_FOLDER = os.path.dirname(ray.__file__)
OBJECTS_SHARE, LEAST_OBJECTS_BYTES = 0.1, 80 << 20
"""Share of a job's memory for Ray's object store, which holds only small messages here; the least that Ray takes."""
RAY_UNITS = 10_000
"""Units of a resource that Ray counts."""
SOCKET_BYTES = 103 if sys.platform == "darwin" else 107
"""Longest path of a socket."""
SOCKET = "/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.99"
"""Longest socket path that Ray creates, below its folder."""


class Health:
    """The health of the local raylet, through which this driver communicates; without it the driver hangs forever.

    When the head node dies, the driver ends by itself after a minute.
    """

    def __init__(self) -> None:
        self.is_lost = False
        self.remarks: list[str] = []
        self._node_id = ray.get_runtime_context().get_node_id()
        self._over = threading.Event()

    def watch(self) -> None:
        """Checks the raylet until `end` is called; interrupts the main thread, as Ctrl-C does, if the raylet dies."""
        while not self._over.wait(HEALTH_SECONDS):
            alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
            if self._node_id not in alive and not self._over.is_set():
                self.is_lost = True
                signal.raise_signal(signal.SIGINT)
                return

    def end(self) -> None:
        """Stops `watch`."""
        self._over.set()


@contextmanager
def cluster(address: str | None = None, meanwhile: Callable[[], object] = lambda: None) -> Iterator[Health]:
    """Yields the health of a Ray cluster that lasts for a launch: a new local cluster, or the running one at `address`.

    meanwhile: called while a local cluster starts.
    Raises ClusterError where this process is already connected to a Ray cluster.
    """
    if ray.is_initialized():
        raise ClusterError(
            "this program is already connected to a Ray cluster, but a launch makes a new connection. Call "
            "ray.shutdown() before the launch."
        )
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    with ExitStack() as started:
        if address is None:
            folder = started.enter_context(
                _temporary_folder()
            )  # deleted after the processes that write to it have ended
            started.enter_context(no_orphans())
            _ensure_token()
            started.callback(_shut_down)
            with interruption.blocked():  # Ray's processes must survive a signal to all of a job
                # "local", because a bare ray.init() might join another user's cluster
                with ray_start.hastened_start(meanwhile):
                    ray.init(address="local", include_dashboard=False, _temp_dir=folder, **allotted(), **quiet)
                interruption.arm()
        else:
            started.callback(ray.shutdown)
            with interruption.blocked():  # else Ray's own handler could end this process
                _join(address, quiet)
                interruption.arm()
        health = Health()
        watcher = threading.Thread(target=health.watch, daemon=True)
        watcher.start()
        try:
            yield health
        finally:
            health.end()
            watcher.join()


def _join(address: str, options: Mapping[str, Any]) -> None:
    """Connects to a running cluster.  Raises ClusterError where the tokens differ."""
    try:
        ray.init(address=address, **options)
    except ray.exceptions.AuthenticationError as error:
        raise ClusterError(
            f"--address {address}: this process and the cluster differ in their tokens. Set the cluster's token in "
            "RAY_AUTH_TOKEN, or in the file that RAY_AUTH_TOKEN_PATH names; for a cluster without tokens, set "
            "RAY_AUTH_MODE=disabled."
        ) from error


def _shut_down() -> None:
    """Ends a local cluster: its processes ignore SIGTERM, for which Ray would wait a second each."""
    for process in psutil.Process().children():
        with suppress(psutil.Error):
            if process.name() not in ("gcs_server", "raylet") and any(RAY_FOLDER in word for word in process.cmdline()):
                process.kill()
    if (node := getattr(ray._private.worker, "_global_node", None)) is not None:
        end = node.kill_all_processes
        node.kill_all_processes = lambda **how: end(**{**how, "allow_graceful": False})
    ray.shutdown()


def allotted() -> dict[str, int]:
    """Returns the options of `ray.init` for what this process may use; by default Ray takes the whole machine.

    GPUs are left out: Ray reads CUDA_VISIBLE_DEVICES itself.
    """
    options = {"num_cpus": processors.allotted()}
    memory = processors.memory()
    if memory < processors.installed_memory():
        objects = max(LEAST_OBJECTS_BYTES, int(OBJECTS_SHARE * memory))
        options |= {"object_store_memory": objects, "_memory": max(memory - objects, 1)}
    return options


def _ensure_token() -> None:
    """Ensures that this program's cluster has a token that no other user can read."""
    token = secrets.token_hex(32)
    if IS_RAY_IMPORTED:  # Ray may have read its token already; without a file, it would write a world-readable token
        path = Path.home() / ".ray" / "auth_token"
        if not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys() and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
                file.write(token)
    else:
        os.environ.setdefault("RAY_AUTH_TOKEN", token)  # for this process only, not stored


@contextmanager
def _temporary_folder() -> Iterator[str | None]:
    """Yields the folder for Ray's sockets and logs; None: Ray's default folder, whose path is short enough.

    Raises ClusterError where no folder with a short enough path is writable.
    """
    name = next((name for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ), "")  # in Ray's order
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
    ray_folder = os.path.join(folder, "ray")  # world-writable, inside a private folder
    try:
        if not folder or not _is_short(ray_folder):
            raise ClusterError(
                f"{name}={usual}: too long for the paths of Ray's sockets, at most {SOCKET_BYTES} bytes, and "
                "/tmp, /var/tmp and /dev/shm can't be used. Set RAY_TMPDIR to a folder with a short path."
            )
        yield ray_folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_short(folder: str) -> bool:
    """Returns whether the socket paths below Ray's folder fit the system's limit."""
    return len(os.fsencode(folder + SOCKET)) <= SOCKET_BYTES


def worker_count(device: str, workers_per_gpu: int = 1) -> int:
    """Returns the number of packs that run at the same time: workers_per_gpu a GPU, or one a CPU core."""
    resources = ray.cluster_resources()
    return max(1, int(resources.get("GPU", 1)) * workers_per_gpu if device == "cuda" else int(resources.get("CPU", 1)))


def worker_resources(device: str, workers_per_gpu: int = 1) -> dict[str, float]:
    """Returns what a worker takes of the cluster: a processor, on cuda also its share of a GPU."""
    if device != "cuda":
        return {"cpu": 1}
    # Ray counts ten-thousandths: rounded up, the shares of six workers would be more than a GPU
    return {"cpu": 1, "gpu": RAY_UNITS // workers_per_gpu / RAY_UNITS}


def has_gpu() -> bool:
    """Returns whether the cluster has a GPU."""
    return bool(ray.cluster_resources().get("GPU", 0))
