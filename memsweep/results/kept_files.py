"""Files that rows of a table name: kept networks and kept states of training.

results/<folder>/<hash of the content>.safetensors. A file is complete before its rows are written, so a row names a
file that exists.
"""

from __future__ import annotations

import json
from collections.abc import Collection

from memsweep.results.storage import clock
from memsweep.results.storage.location import Location
from memsweep.results.storage.parts import digest, write_whole
from memsweep.results.storage.store import LEFTOVER_SECONDS, Store

FOLDERS = {"weights": "networks", "states": "kept_states"}
"""Table -> folder of the files that its column `file` names."""


def path_of(store: Store, table: str, name: str) -> Location:
    """Returns the path of a file.  name: as in the table's column `file`."""
    return store.results / FOLDERS[table] / f"{name}.safetensors"


def write(store: Store, table: str, content: bytes) -> str:
    """Writes a file, unless it exists, and returns its name.  Raises StoreError."""
    name = digest(content)
    if not (path := path_of(store, table, name)).exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    return name


def damaged(store: Store) -> list[tuple[Location, str]]:
    """Returns (file, problem) for files that rows name and that are missing or changed."""
    problems = []
    for table in FOLDERS:
        for name in sorted(set(store.current(table, ["file"])["file"].to_pylist())):
            path = path_of(store, table, name)
            try:
                if digest(path.read_bytes()) != name:
                    problems.append((path, "the content has changed"))
            except OSError as error:
                problems.append((path, error.strerror or str(error)))
    return problems


def delete_useless(store: Store, training: Collection[str]) -> int:
    """Deletes files that no row names, except those of trials in training; returns their number.

    training: ids of trials that a checkpoint holds.  The caller holds the lock of launches.
    """
    count = 0
    for table, folder in FOLDERS.items():
        named = set(store.read(table, ["file"])["file"].to_pylist())
        for path in store.results.glob(f"{folder}/[!.]*.safetensors"):
            is_old = clock.now(store.results) - path.stat().st_mtime > LEFTOVER_SECONDS
            if path.stem not in named and is_old and not _trials_in(path) & set(training):
                path.unlink(missing_ok=True)
                count += 1
    return count


def _trials_in(path: Location) -> set[str]:
    """Returns the trials of a file: its header is their list, or that of a checkpoint."""
    try:
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        note = json.loads(header["__metadata__"]["memsweep"])
        return set(note["members"] if isinstance(note, dict) else note)
    except (ValueError, KeyError, TypeError, OSError):
        return set()
