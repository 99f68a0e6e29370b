"""Where MLflow is, and the start of the process that fills it beside a launch. Light: every launch imports it.

That process never stands in a launch's way: it is of the lowest priority, imports MLflow only when there is something
to write, outlives the launch until MLflow holds all of it, and then ends by itself (`follow.py`).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from contextlib import suppress

from memsweep.results.location import Location, local_folder
from memsweep.results.store import Store

URI_VARIABLE = "MLFLOW_TRACKING_URI"
NO_TRACKING = "none"
LOG = "tracking.log"
DETACHED = '{ echo 19 > /proc/self/autogroup; } 2> /dev/null; nice -n 19 "$@" &'
"""Linux shares the processor among sessions first: one of its own must be nice as a whole, or it takes half of it."""
LOOK_SECONDS = 2.0
"""Between looks at the parts, at least."""


def tracking_uri(given: str | None, results: Location) -> str | None:
    """Where MLflow is: as given, else MLFLOW_TRACKING_URI, else a database in the results folder, or, where that
    is in an object store, in a folder of this user's. None: nowhere."""
    chosen = given or os.environ.get(URI_VARIABLE) or default_uri(results)
    return None if chosen == NO_TRACKING else chosen


def default_uri(results: Location) -> str:
    return f"sqlite:///{local_folder(results) / 'mlflow.db'}"


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
