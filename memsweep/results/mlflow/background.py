"""MLflow's URI, and the start of the background process that fills MLflow. Imports little: every launch imports it.

The process does not slow a launch down: it imports MLflow once a trial has ended, and then has the lowest priority.
Where trials train for long, it begins earlier at a low priority, since at the lowest it would not run beside busy
workers. It outlives the launch until MLflow holds all trials, and then ends (`follow.py`).
"""

from __future__ import annotations

import difflib
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import urlsplit

from memsweep.results.mlflow import place
from memsweep.results.storage.location import Location, LocationError, local_folder
from memsweep.results.storage.store import Store

URI_VARIABLE = "MLFLOW_TRACKING_URI"
NO_TRACKING = "none"
LOG = "tracking.log"
DETACHED = '{ echo 10 > /proc/self/autogroup; } 2> /dev/null; nice -n 10 "$@" &'
"""Starts a command in the background at a low priority. Linux divides the processor among sessions first: a new session
must be nice as a whole, or it takes half of the processor."""
LOWEST = 19
LIVE_SECONDS = 20.0
"""Time in which trials train without an end, before the process begins to show them."""
LOOK_SECONDS = 2.0
"""Shortest time between two listings of the parts."""
SERVERS = ("http", "https")
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
HOSTED = ("databricks", "databricks-uc", "uc")
ALLOWED = (
    "allowed are http://host:port, https://..., sqlite:///path, postgresql://..., mysql://..., mssql://... (with a "
    "driver, such as postgresql+psycopg://), databricks, and none"
)


class TrackingError(Exception):
    """MLflow can't be filled or shown; the message names the remedy."""


def tracking_uri(given: str | None, results: Location) -> str | None:
    """Returns MLflow's URI: `given`, else MLFLOW_TRACKING_URI, else `default_uri`; None if it is "none".

    Raises TrackingError for an invalid URI; does not connect to it.
    """
    chosen = given or os.environ.get(URI_VARIABLE) or default_uri(results)
    return None if chosen == NO_TRACKING else checked(chosen)


def checked(uri: str) -> str:
    """Returns the URI, with the absolute path of an SQLite database. Raises TrackingError for an invalid URI."""
    if path := sqlite_path(uri):
        return f"sqlite:///{path}"
    scheme, colon, rest = uri.partition(":")
    kind, _, _ = scheme.partition("+")
    if colon and kind in (*SERVERS, *DATABASES):
        parts = urlsplit(uri)
        is_whole = parts.hostname if kind in SERVERS else kind != "sqlite" or not parts.netloc
        if not rest.startswith("//") or not is_whole:
            raise TrackingError(f"{shown(uri)}: the URI is incomplete; {ALLOWED}.")
        return uri
    plugins = {entry.name for entry in entry_points(group="mlflow.tracking_store")}
    if scheme in (*HOSTED, *plugins):
        return uri
    near = difflib.get_close_matches(kind.lower(), (*SERVERS, *DATABASES), 1)
    if not colon or scheme == "file":
        folder = rest.removeprefix("//") if colon else uri
        hint = f" MLflow no longer uses a folder. Did you mean sqlite:///{folder}/mlflow.db?"
    elif near:
        hint = f" Did you mean {shown(f'{near[0]}:{rest}')}?"
    else:
        hint = f" Did you mean http://{shown(uri)}?" if rest.partition("/")[0].isdecimal() else ""
    raise TrackingError(f"{shown(uri)}: not a URI of MLflow; {ALLOWED}.{hint}")


def sqlite_path(uri: str) -> Path | None:
    """Returns the absolute path of an SQLite database; None for any other URI, or one with options."""
    path = uri.removeprefix("sqlite:///")
    if path == uri or path in ("", ":memory:") or set("?%") & set(path) or path.startswith("file:"):
        return None
    return Path(os.path.expanduser(path)).absolute()


def default_uri(results: Location) -> str:
    """Returns the URI of the SQLite database where `place.py` puts it.  Raises TrackingError where it can't be."""
    try:
        return f"sqlite:///{place.folder(results) / place.DATABASE}"
    except LocationError as error:
        raise TrackingError(str(error)) from error


def moved(uri: str, results: Location) -> str:
    """Returns where the default database is and why, if a network file system is the reason; else ""."""
    return place.reason(results) if uri == default_uri(results) else ""


def shown(text: object) -> str:
    """Returns the text on one line, without user names and passwords in URIs."""
    return re.sub(r"(?<=://)[^/@\s]+@", "", " ".join(str(text).split()))


def start(store: Store, uri: str) -> str | None:
    """Starts a process that follows the launch of this folder, without waiting. Returns an error message, or None.

    The process is detached, and must be started before `watchdog.py` marks the processes that end with the launch.
    """
    track = [sys.executable, "-m", "memsweep", "track", "--follow", "--results", str(store.results.resolve())]
    # the URI is not an argument, which all users may read
    return detach(track, local_folder(store.results) / LOG, {**os.environ, URI_VARIABLE: uri})


def detach(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> str | None:
    """Starts a command at a low priority that outlives this process; returns an error message, or None.

    log: file to which its output is appended.
    """
    try:
        with open(log, "ab") as output:
            subprocess.run(
                ["/bin/sh", "-c", DETACHED, "sh", *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C does not reach it
                env=environment,
                check=True,
            )
    except (OSError, subprocess.CalledProcessError) as error:
        return f"the background process could not be started ({error})"
    return None


def ends_with_job() -> bool:
    """Returns whether the process in the background would be ended early: SLURM ends all processes of a job."""
    return "SLURM_JOB_ID" in os.environ


def fill(store: Store, uri: str) -> str | None:
    """Fills MLflow, and returns when it holds all trials; returns an error message, or None."""
    track = [sys.executable, "-m", "memsweep", "track", "--results", str(store.results.resolve())]
    ended = subprocess.run(
        track, env={**os.environ, URI_VARIABLE: uri}, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    return shown(ended.stderr).removeprefix("memsweep: ") or "unknown error" if ended.returncode else None


def wait(store: Store) -> None:
    """Waits until a trial or the launch has ended, then takes the lowest priority, or until trials train for long."""
    live_since: float | None = None
    while not store.parts("trials") and store.is_locked("launch"):
        if store.parts("live"):
            live_since = live_since or time.monotonic()
            if time.monotonic() - live_since > LIVE_SECONDS:
                return
        time.sleep(LOOK_SECONDS)
    take_lowest_priority()


def take_lowest_priority() -> None:
    """Sets the lowest priority of the system for this process and its session."""
    os.nice(LOWEST)
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(LOWEST))
    with suppress(AttributeError, OSError):  # not every system has or allows this policy
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
