"""The user's files as tasks, `file:PATH`, and data given from Python, `given:NAME`: the hash of their content.

It is part of a trial's identity.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

FILE = "file:"
"""Prefix of a task that is a file or a folder of the user's."""
GIVEN = "given:"
"""Prefix of a task whose data is given to a launch from Python."""
GIVEN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
BLOCK_BYTES = 1 << 20

_Files = tuple[tuple[str, int, int], ...]
"""(path below the task's path, time of the last change, bytes) of each file."""


def is_file(task: str) -> bool:
    """Returns whether a task is a file or a folder of the user's."""
    return task.startswith(FILE)


def is_given(task: str) -> bool:
    """Returns whether a task is data that is given to a launch from Python."""
    return task.startswith(GIVEN)


def has_content(task: str) -> bool:
    """Returns whether a task is a file, a folder or given data, whose content is part of a trial's identity."""
    return is_file(task) or is_given(task)


def is_valid(task: str) -> bool:
    """Returns whether a task with a content has a path or a name."""
    return task != FILE if is_file(task) else GIVEN_NAME.fullmatch(given_name(task)) is not None


def given_name(task: str) -> str:
    """Returns the name of given data."""
    return task.removeprefix(GIVEN)


def is_function(task: str) -> bool:
    """Returns whether a task is a function of the user's, named by an import path."""
    return ":" in task and not has_content(task)


def path_of(task: str) -> Path:
    """Returns the path of a task that is a file or a folder, with ~ expanded."""
    return Path(*_folder, Path(task.removeprefix(FILE)).expanduser())


_folder: list[str] = []
"""Where relative paths start; empty: in the current folder of the process."""


def start_in(folder: str) -> None:
    """Makes relative paths start in a folder, that of the launch, which workers of a cluster do not run in.

    folder: "": the current folder.
    """
    _folder[:] = [folder] if folder else []


def content_of(task: str, *, again: bool = False) -> str:
    """Returns 16 hexadecimal digits over the content of a task's file or folder, or of given data; "": there is none.

    A file is hashed again when its size or the time of its last change differs. The files of a folder are listed once
    per process, or `again`.
    """
    if is_given(task):
        return _given.get(given_name(task), "")
    if again:
        _listed.cache_clear()
    try:
        path = path_of(task)
        status = path.stat()
        is_folder = stat.S_ISDIR(status.st_mode)
        return _hashed(path, _listed(path) if is_folder else (("", status.st_mtime_ns, status.st_size),))
    except OSError:
        return ""


_given: dict[str, str] = {}


def give(contents: Mapping[str, str]) -> None:
    """Sets the content of each name of given data in this process, in place of all before."""
    _given.clear()
    _given.update(contents)


def forget() -> None:
    """Clears the caches, so that folders are listed and files are hashed again."""
    _listed.cache_clear()
    _hashed.cache_clear()


@lru_cache(maxsize=64)
def _listed(folder: Path) -> _Files:
    return tuple(sorted(_files(folder, "")))


def _files(folder: Path, prefix: str) -> Iterator[tuple[str, int, int]]:
    """Yields each file below a folder; hidden files and folders are left out."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _files(Path(entry.path), f"{prefix}{entry.name}/")
            else:
                status = entry.stat()
                yield f"{prefix}{entry.name}", status.st_mtime_ns, status.st_size


@lru_cache(maxsize=64)
def _hashed(path: Path, files: _Files) -> str:
    content = hashlib.blake2b(digest_size=8)
    for name, _, size in files:
        content.update(f"{name}\0{size}\0".encode())
        with (path / name if name else path).open("rb") as stream:
            while block := stream.read(BLOCK_BYTES):
                content.update(block)
    return content.hexdigest()
