"""Where MLflow's default database is: in the results folder, or on a disk of this machine.

SQLite's write-ahead log needs memory that all its users share, so it does not work between machines; and the locks of
SQLite are unreliable on network file systems. The database is a copy of the tables: `memsweep track` fills it anywhere.
"""

from __future__ import annotations

import os
import platform
import stat
from pathlib import Path

from memsweep.results.storage.filesystem import mount_of
from memsweep.results.storage.location import Location, LocationError, state_path

DATABASE = "mlflow.db"
MACHINE = Path("/var/tmp")
"""Folder of this machine's disk, for users whose home is on a network file system too; kept when it starts again."""


def folder(results: Location) -> Path:
    """Returns the folder of the database: the results, the user's state folder, or one below MACHINE.

    Raises LocationError where another user has taken the place below MACHINE.
    """
    place = _preferred(results)
    if place == results.resolve() and not mount_of(place).is_shared:
        return place
    state = state_path(results.resolve())
    if mount_of(state).is_shared:
        return _of_machine(state.name)
    state.mkdir(parents=True, exist_ok=True)
    return state


def reason(results: Location) -> str:
    """Returns why the database is elsewhere and where, if a network file system is the reason; else ""."""
    mount = mount_of(_preferred(results))
    if not mount.is_shared:
        return ""
    return (
        f"{mount.point} is a network file system ({mount.kind}), where SQLite may lose data: MLflow's database is "
        f"{folder(results) / DATABASE}, on {platform.node()} alone"
    )


def _preferred(results: Location) -> Path:
    """Returns the folder of the database where all disks are local."""
    place = results.resolve()
    if isinstance(place, Path) and not set("?%") & set(str(place)):  # in a URI, ? begins options and % codes
        return place
    return state_path(place)


def _of_machine(name: str) -> Path:
    """Returns a folder of this name for this user alone, below MACHINE; creates it."""
    home = MACHINE / f"memsweep-{os.geteuid()}"
    try:
        home.mkdir(mode=0o700, exist_ok=True)
        status = home.lstat()
        if status.st_uid == os.geteuid() and stat.S_ISDIR(status.st_mode):
            (home / name).mkdir(exist_ok=True)
            return home / name
        problem = "it belongs to another user"
    except OSError as error:
        problem = error.strerror or str(error)
    raise LocationError(f"{home}: can't hold MLflow's database ({problem}). Choose another place with --tracking-uri.")
