"""Creates, upgrades or rebuilds MLflow's SQLite database, one process at a time.

MLflow creates and changes its tables in dozens of steps, and two processes that do it at once leave an unusable file.
Therefore a process first takes a lock beside the file, and checks the file again once it holds the lock.
"""

from __future__ import annotations

import math
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow.db
import sqlalchemy
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from memsweep.results.mlflow.background import TrackingError, sqlite_path
from memsweep.results.storage import locks

MIGRATIONS = Path(mlflow.db.__file__).parent / "store" / "db_migrations"
ERRORS = (MlflowException, sqlalchemy.exc.SQLAlchemyError, CommandError, sqlite3.Error)
"""Errors that MLflow may raise while it creates or changes its tables."""


def prepare(uri: str, is_default: bool, say: Callable[[str], None]) -> None:
    """Ensures that the database at this URI, if it is an SQLite file, has the schema of the installed MLflow.

    is_default: whether the database belongs to a results folder, and can be rebuilt from the tables; any other database
    is copied before it is changed.  say: called with a sentence if the database was upgraded or replaced.
    Raises TrackingError with the remedy.
    """
    path = sqlite_path(uri)
    if path is None or _is_current(path):
        return
    with _alone(path):
        if not _is_current(path):
            _repair(path, uri, is_default, say)


def _repair(path: Path, uri: str, is_default: bool, say: Callable[[str], None]) -> None:
    before = _revision(path)
    if before and before not in _revisions():
        remedy = "memsweep track rebuilds it" if is_default else "memsweep track fills a new one"
        raise TrackingError(
            f"{path} has the schema {before} of a newer MLflow than {version('mlflow')}. Upgrade MLflow, e.g. "
            f"pip install -U mlflow, or move the file away: {remedy}."
        )
    copy = None if is_default or not before else _copied(path, before)
    try:
        _upgrade(path, uri, is_default)
    except Exception as error:  # a migration may raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if not is_default:
            where = f" {copy} is a copy from before the upgrade." if copy else ""
            raise TrackingError(
                f"{path} can't be upgraded for MLflow {version('mlflow')} ({reason}). Move the file away, or choose "
                f"another database with --tracking-uri; then run memsweep track.{where}"
            ) from error
        aside = _moved_aside(path)
        _upgrade(path, uri, is_default)
        say(
            f"{path} could not be upgraded for MLflow {version('mlflow')}: it was renamed to {aside.name}, and a new "
            "database was created"
        )
    else:
        if before:
            backup = f"; {copy} is a copy from before the upgrade" if copy else ""
            say(f"{path} was upgraded for MLflow {version('mlflow')}, from schema {before}{backup}")


def _upgrade(path: Path, uri: str, is_default: bool) -> None:
    if _revision(path) or not path.exists() or not _tables(path):
        mlflow.db.upgrade.main([uri], standalone_mode=False)  # creates all tables in an empty file
    elif is_default:
        raise TrackingError("its creation was interrupted")
    else:
        MlflowClient(uri)  # adds MLflow's tables to the existing tables of other software


def _is_current(path: Path) -> bool:
    """Returns whether the database has the newest schema.

    Raises TrackingError if the file is not a database, or can't be opened: MLflow would try for minutes.
    """
    if not path.exists():
        return False
    try:
        return _revision(path) == _revisions()[0]
    except sqlite3.DatabaseError as error:
        raise TrackingError(
            f"{path} can't be opened as MLflow's database ({error}). Move the file away; memsweep track rebuilds it."
        ) from error


def _revision(path: Path) -> str | None:
    """Returns the revision of MLflow's schema in this database, or None without a schema."""
    if "alembic_version" not in _tables(path):
        return None
    with closing(sqlite3.connect(path)) as connection:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(row[0]) if row else None


def _tables(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {str(name) for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


@lru_cache
def _revisions() -> tuple[str, ...]:
    """Returns the schema revisions of the installed MLflow, the newest first."""
    return tuple(script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions())


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Holds the lock of the database file, and creates the file, writable for the group if the umask allows it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locks.hold(path.parent, path.name, math.inf):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o666))  # SQLite would make it unwritable for the group
            yield
    except OSError as error:
        raise TrackingError(
            f"{path}: MLflow's database can't be created or changed ({error.strerror or error}). Choose another "
            "with --tracking-uri, or make its folder writable."
        ) from error


def _copied(path: Path, revision: str) -> Path:
    copy = path.with_name(f"{path.name}.before-{revision}")
    with closing(sqlite3.connect(path)) as old, closing(sqlite3.connect(copy)) as new:
        old.backup(new)
    return copy


def _moved_aside(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.name}.old-{number}")).exists():
        number += 1
    path.replace(aside)
    for ending in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + ending).replace(aside.with_name(aside.name + ending))
    return aside


@sqlalchemy.event.listens_for(sqlalchemy.Engine, "connect")
def _write_ahead(connection: Any, _: Any) -> None:
    """Sets SQLite's write-ahead log: a run takes 4 ms of 34 less, and readers such as `memsweep ui` never wait."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
