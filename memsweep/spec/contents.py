"""The user's files as tasks, `file:PATH`: the hash of their content, which is part of a trial's identity."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

FILE = "file:"
"""Prefix of a task that is a file or a folder of the user's."""
BLOCK_BYTES = 1 << 20

_Files = tuple[tuple[str, int, int], ...]
"""(path below the task's path, time of the last change, bytes) of each file."""


def is_file(task: str) -> bool:
    """Returns whether a task is a file or a folder of the user's."""
    return task.startswith(FILE)


def is_function(task: str) -> bool:
    """Returns whether a task is a function of the user's, named by an import path."""
    return ":" in task and not is_file(task)


def path_of(task: str) -> Path:
    """Returns the path of a task that is a file or a folder, with ~ expanded."""
    return Path(task.removeprefix(FILE)).expanduser()


def content_of(task: str, *, again: bool = False) -> str:
    """Returns 16 hexadecimal digits over the content of a task's file or folder; "" if it can't be read.

    A file is hashed again when its size or the time of its last change differs. The files of a folder are listed once
    per process, or `again`.
    """
    if again:
        _listed.cache_clear()
    try:
        path = path_of(task)
        status = path.stat()
        is_folder = stat.S_ISDIR(status.st_mode)
        return _hashed(path, _listed(path) if is_folder else (("", status.st_mtime_ns, status.st_size),))
    except OSError:
        return ""


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
