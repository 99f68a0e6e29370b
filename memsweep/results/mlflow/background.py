"""Where MLflow is, and the start of the process that fills it beside a launch. Light: every launch imports it.

That process never stands in a launch's way: it is of the lowest priority, imports MLflow only when there is something
to write, outlives the launch until MLflow holds all of it, and then ends by itself (`follow.py`).
"""

from __future__ import annotations

import difflib
import os
import re
import subprocess
import sys
import time
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import urlsplit

from memsweep.results.storage.location import Location, local_folder, state_folder
from memsweep.results.storage.store import Store

URI_VARIABLE = "MLFLOW_TRACKING_URI"
NO_TRACKING = "none"
LOG = "tracking.log"
DETACHED = '{ echo 19 > /proc/self/autogroup; } 2> /dev/null; nice -n 19 "$@" &'
"""Linux shares the processor among sessions first: one of its own must be nice as a whole, or it takes half of it."""
LOOK_SECONDS = 2.0
"""Between looks at the parts, at least."""
SERVERS = ("http", "https")
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
HOSTED = ("databricks", "databricks-uc", "uc")
ALLOWED = (
    "allowed are http://host:port, https://..., sqlite:///path, postgresql://..., mysql://..., mssql://... (with a "
    "driver, such as postgresql+psycopg://), databricks, and none"
)


class TrackingError(Exception):
    """Why MLflow can't be filled or shown, and what to do next."""


def tracking_uri(given: str | None, results: Location) -> str | None:
    """Where MLflow is: as given, else MLFLOW_TRACKING_URI, else a database in the results folder, or, where that
    is in an object store, in a folder of this user's. None: nowhere.

    Raises TrackingError where MLflow can't be at such a place, whether or not anything answers there.
    """
    chosen = given or os.environ.get(URI_VARIABLE) or default_uri(results)
    return None if chosen == NO_TRACKING else checked(chosen)


def checked(uri: str) -> str:
    """The URI, the path of a database in it whole. Raises TrackingError where MLflow can't be at such a place."""
    if path := sqlite_path(uri):
        return f"sqlite:///{path}"
    scheme, colon, rest = uri.partition(":")
    kind, _, _ = scheme.partition("+")
    if colon and kind in (*SERVERS, *DATABASES):
        parts = urlsplit(uri)
        is_whole = parts.hostname if kind in SERVERS else kind != "sqlite" or not parts.netloc
        if not rest.startswith("//") or not is_whole:
            raise TrackingError(f"{shown(uri)}: the place of MLflow is not whole; {ALLOWED}.")
        return uri
    plugins = {entry.name for entry in entry_points(group="mlflow.tracking_store")}
    if scheme in (*HOSTED, *plugins):
        return uri
    near = difflib.get_close_matches(kind.lower(), (*SERVERS, *DATABASES), 1)
    if not colon or scheme == "file":
        hint = f" A folder holds no MLflow any more: sqlite:///{rest.removeprefix('//') if colon else uri}/mlflow.db?"
    elif near:
        hint = f" Did you mean {shown(f'{near[0]}:{rest}')}?"
    else:
        hint = f" Did you mean http://{shown(uri)}?" if rest.partition("/")[0].isdecimal() else ""
    raise TrackingError(f"{shown(uri)}: MLflow can't be there; {ALLOWED}.{hint}")


def sqlite_path(uri: str) -> Path | None:
    """The file of a database of SQLite, its whole path; None where it is none, or has options."""
    path = uri.removeprefix("sqlite:///")
    if path == uri or path in ("", ":memory:") or set("?%") & set(path) or path.startswith("file:"):
        return None
    return Path(os.path.expanduser(path)).absolute()


def default_uri(results: Location) -> str:
    folder = local_folder(results)
    if set("?%") & set(str(folder)):  # in a URI, the one begins options and the other codes of characters
        folder = state_folder(folder)
    return f"sqlite:///{folder / 'mlflow.db'}"


def shown(text: object) -> str:
    """On one line, and without the name and password that a URI may hold."""
    return re.sub(r"(?<=://)[^/@\s]+@", "", " ".join(str(text).split()))


def start(store: Store, uri: str) -> str | None:
    """Starts a process that follows the launch of this folder. Returns why it could not, or None; waits for nothing.

    The process belongs to nobody, and is started before `watchdog.py` marks what is to end with the launch.
    """
    track = [sys.executable, "-m", "memsweep", "track", "--follow", "--results", str(store.results.resolve())]
    try:
        with open(local_folder(store.results) / LOG, "ab") as log:
            subprocess.run(
                ["/bin/sh", "-c", DETACHED, "sh", *track],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C does not reach it
                env={**os.environ, URI_VARIABLE: uri},  # not among the arguments, which everybody may read
                check=True,
            )
    except (OSError, subprocess.CalledProcessError) as error:
        return f"its process could not be started ({error})"
    return None


def step_aside(store: Store) -> None:
    """Takes the lowest priority that the system has, then waits for the first trial that ends, or for the launch to."""
    os.nice(19)
    with suppress(AttributeError, OSError):  # not every system has it, or allows it
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    while not store.parts("trials") and store.is_locked("launch"):
        time.sleep(LOOK_SECONDS)
