"""Parts: whole or absent Parquet files, and which rows of them a reader sees. Needs neither torch nor ray.

results/<table>/<hash of the content>.parquet   one part, written by a worker or a launch, read by everybody
results/tracking.json                           what MLflow holds, or why it can't be filled, see status.py
results/<name>.lock                             held by the process that launches, or tracks, see locks.py
results/running.json                            trials handed to workers; true only while the lock is held
results/programs.json                           how programs are executed here, chosen at their first launch
results/searches.json                           how far the search of each sweep is, in a sentence
results/studies/                                what Optuna was asked and told, a journal a sweep
results/checkpoints/                            packs in training, see run/checkpoints.py
results/identity                                the folder's own name, where several share a server of MLflow

A results folder is one on a disk or a prefix in an object store, see location.py.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from memsweep.results.storage import locks
from memsweep.results.storage.location import Location, LocationError, ObjectPath, location
from memsweep.results.storage.parts import (
    KEYS,
    LAUNCHES,
    PART_NAME,
    PARTS,
    RANKED,
    attempt_pairs,
    check_is_whole,
    digest,
    kept,
    read_part,
    unique,
    wanted_now,
    write_whole,
)
from memsweep.results.storage.parts import StoreError as StoreError
from memsweep.spec.config import recorded
from memsweep.spec.schema import SCHEMAS, SETTLED

RUNNING = "running.json"
PROGRAMS = "programs.json"
SEARCHES = "searches.json"
TRACKING = "tracking.json"
IDENTITY = "identity"
_Piece = TypeVar("_Piece")
LEFTOVER_SECONDS = 3600
"""Temporary files older than this belong to nobody."""
READERS = 16
"""Parts of an object store that are read at a time: it takes long to answer, not to read."""


class LockedError(StoreError):
    """Another process holds a lock of the results folder."""


class Store:
    """A results folder, by its path or address. create: make it, and see that it can be written; else it must be there.

    Raises StoreError.
    """

    def __init__(self, results: str | Location, *, create: bool = False):
        try:
            self.results = location(results)
        except LocationError as error:
            raise StoreError(str(error)) from error
        self._attempts: dict[Location, frozenset[str]] = {}  # of the parts that rows_of has met; parts never change
        if isinstance(self.results, ObjectPath):
            _check_answers(self.results)
        if create:
            self._create()
        elif not _is_dir(self.results):
            raise StoreError(f"no results at {results}: launch a sweep first, or name another folder with --results.")

    def write(self, table: str, rows: Sequence[Mapping[str, Any]]) -> Location:
        """One part of these rows. The same rows make the same file, so that writing twice is harmless.

        Columns must be of SCHEMAS[table]; those that are absent are null. Raises StoreError when they are of another
        type, or the disk refuses.
        """
        schema = SCHEMAS[table]
        unknown = {name for row in rows for name in row} - set(schema.names)
        if unknown:
            raise StoreError(f"table {table} has no column {', '.join(sorted(unknown))}; schema.py lists its columns.")
        try:
            part = pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
            for column in schema:  # Arrow cuts 2.5 down to 2 without a word
                if pa.types.is_integer(column.type):
                    check_is_whole(row.get(column.name) for row in rows)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise StoreError(f"rows of table {table} don't fit its columns: {error}") from error
        return self.write_part(table, part)

    def write_part(self, table: str, rows: pa.Table) -> Location:
        """One part of rows that are typed by SCHEMAS already."""
        sink = pa.BufferOutputStream()
        pq.write_table(rows, sink, compression="zstd")
        content = sink.getvalue()
        path = self.results / table / f"{digest(content)}.parquet"
        if not path.exists():
            write_whole(path, content)
        return path

    def parts(self, table: str) -> list[Location]:
        return sorted((self.results / table).glob(PARTS))

    def read(self, table: str, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows of all parts, typed by SCHEMAS, whoever wrote them. Columns that a part lacks are null."""
        schema = SCHEMAS[table]
        wanted = schema if columns is None else pa.schema([schema.field(name) for name in columns])
        pieces = self._of_parts(table, lambda path: read_part(path, wanted))
        return pa.concat_tables([wanted.empty_table(), *pieces])

    def rows_in(self, table: str, parts: Sequence[Location]) -> pa.Table:
        """All rows of these parts, copies too."""
        schema = SCHEMAS[table]
        return pa.concat_tables([schema.empty_table(), *self._each(partial(read_part, schema=schema), parts)])

    def _of_parts(self, table: str, read: Callable[[Location], _Piece]) -> list[_Piece]:
        """What `read` gives of each part, also while parts are merged.

        A part that is gone is held by one that was whole before it went, and so is in the next listing. Until both are
        read, rows may be there twice.
        """

        def piece(path: Location) -> list[_Piece]:
            try:
                return [read(path)]
            except FileNotFoundError as error:
                if isinstance(path, Path) and os.path.lexists(path):  # then it has not been merged
                    raise StoreError(
                        f"{path} is there, and can't be opened: a link to a file that is gone? Restore that file, or "
                        "delete the link and launch again: only what it held is run again."
                    ) from error
                return []

        pieces, met = list[_Piece](), set[Location]()
        while new := [path for path in self.parts(table) if path not in met]:
            met.update(new)
            for found in self._each(piece, new):
                pieces += found
        return pieces

    def _each(self, act: Callable[[Location], _Piece], paths: Sequence[Location]) -> Iterator[_Piece]:
        """What `act` returns of each, in order."""
        if isinstance(self.results, Path) or len(paths) < 2:
            yield from map(act, paths)
        else:
            with ThreadPoolExecutor(READERS) as readers:
                yield from readers.map(act, paths)

    def rows_of(self, table: str, attempts: set[str], columns: Sequence[str] | None = None) -> pa.Table:
        """Rows of these attempts, each once; parts that hold none of them are passed over."""
        schema = SCHEMAS[table]
        names = list(schema.names if columns is None else dict.fromkeys([*columns, "attempt_id"]))
        wanted = pa.schema([schema.field(name) for name in dict.fromkeys([*names, *KEYS[table]])])

        def own(path: Location) -> pa.Table:
            return wanted.empty_table() if attempts.isdisjoint(self._attempts_in(path)) else read_part(path, wanted)

        rows = pa.concat_tables([wanted.empty_table(), *self._of_parts(table, own)])
        rows = rows.filter(pc.is_in(rows["attempt_id"], value_set=pa.array(sorted(attempts), pa.string())))
        return unique(rows, table).select(names)

    def trials(self, columns: Sequence[str] | None = None) -> pa.Table:
        """One attempt a trial: a settled one before others, then the one with most probes, then the first settled
        or the last of the others."""
        names = list(SCHEMAS["trials"].names if columns is None else columns)
        table = self.read("trials", list(dict.fromkeys([*names, *RANKED])))
        return table.take(kept(table.select(RANKED))).select(names)

    def trial_rows(self, trial_ids: Collection[str]) -> dict[str, dict[str, Any]]:
        """trial_id -> its row of `trials`, of those that are stored."""
        table = self.trials()
        own = table.filter(pc.is_in(table["trial_id"], value_set=pa.array(sorted(trial_ids), pa.string())))
        return {row["trial_id"]: row for row in own.to_pylist()}

    def current(self, table: str, columns: Sequence[str] | None = None) -> pa.Table:
        """A table as readers see it: rows of the kept attempt of each trial, each once; what is wanted now."""
        if table == "trials":
            return self.trials(columns)
        names = list(SCHEMAS[table].names if columns is None else columns)
        if table == "wanted":
            rows = self.read(table, list(dict.fromkeys([*names, *LAUNCHES])))
            return rows.take(wanted_now(rows)).select(names)
        keys = KEYS[table]
        rows = self.read(table, list(dict.fromkeys([*names, *keys])))
        if "attempt_id" in keys and "trial_id" in keys:
            kept = self.trials(["trial_id", "attempt_id"])
            rows = rows.filter(pc.is_in(attempt_pairs(rows), value_set=attempt_pairs(kept)))
        return unique(rows, table).select(names)

    def lost_attempts(self) -> pa.Array:
        """Of trials that have several attempts, those that readers don't see, as `attempt_pairs` tells them."""
        rows = self.read("trials", RANKED)
        pairs, seen = attempt_pairs(rows), attempt_pairs(rows.take(kept(rows)))
        return pairs.filter(pc.invert(pc.is_in(pairs, value_set=seen)))

    def settled(self) -> dict[str, frozenset[str]]:
        """Trials that are never run again -> the probes recorded with them."""
        return {trial: probes for trial, (status, probes) in self.ends().items() if status in SETTLED}

    def ends(self) -> dict[str, tuple[str, frozenset[str]]]:
        """Stored trials -> how each ended, and the probes recorded with it and the steps they were asked at."""
        names = ["trial_id", "status", "probes", "probe_steps"]
        rows = zip(*(column.to_pylist() for column in self.trials(names).columns), strict=True)
        return {trial: (status, recorded(probes, steps)) for trial, status, probes, steps in rows}

    def damaged(self) -> list[tuple[Location, str]]:
        """Parts that can't be read, or whose content is not what their name says."""
        found = []
        for table, schema in SCHEMAS.items():
            for path in self.parts(table):
                try:
                    read_part(path, schema)
                    own = digest(path.read_bytes())
                    rightful = path.parent / f"{own}.parquet"
                    is_copy = not PART_NAME.fullmatch(path.stem) and rightful.exists()  # and harms nobody
                    if path != rightful and not is_copy:
                        found.append((path, f"its content is not what its name says, but {rightful.name}'s"))
                except FileNotFoundError:
                    if isinstance(path, Path) and os.path.lexists(path):  # else it has been merged meanwhile
                        found.append((path, "a link to a file that is gone"))
                except (StoreError, OSError) as error:
                    found.append((path, str(error)))
        return found

    @contextmanager
    def lock(self, name: str = "launch", seconds: float = locks.LOCK_SECONDS) -> Iterator[None]:
        """Held by one process at a time; freed when that process ends, however it ends.

        name: launch, track or compact, as the verbs that hold it.  seconds: how long to try.  Raises LockedError.
        """
        with ExitStack() as held:
            try:
                held.enter_context(locks.hold(self.results, name, seconds))
            except locks.HeldError as error:
                raise LockedError(
                    f"memsweep {name} ({error}) is writing to {self.results}: wait for it, or use another --results."
                ) from error
            except OSError as error:
                path = self.results / f"{name}.lock"
                raise StoreError(f"{path}: can't be written ({error.strerror or error}).") from error
            yield

    def is_locked(self, name: str = "launch") -> bool:
        """Whether a live process holds the lock."""
        return locks.is_held(self.results, name)

    def _attempts_in(self, path: Location) -> frozenset[str]:
        if path not in self._attempts:
            schema = pa.schema([SCHEMAS[path.parent.name].field("attempt_id")])
            self._attempts[path] = frozenset(read_part(path, schema)["attempt_id"].unique().to_pylist())
        return self._attempts[path]

    def identity(self) -> str:
        """A name of this folder's own, given to it when first asked; a copy of the folder has the same."""
        path = self.results / IDENTITY
        if not path.exists():
            write_whole(path, f"{secrets.token_hex(8)}\n".encode())
        name = path.read_text(errors="replace").strip()
        if not re.fullmatch(r"[0-9a-f]+", name):
            raise StoreError(f"{path} is no folder's name: delete it, and memsweep track gives the folder a new one.")
        return name

    def note_running(self, trial_ids: Sequence[str]) -> None:
        """What the launch that holds the lock has handed to its workers."""
        write_whole(self.results / RUNNING, json.dumps(list(trial_ids)).encode())

    def note_programs(self, choices: Mapping[str, Mapping[str, Any]]) -> None:
        """Adds to what is stored of programs (by name), how they are executed here."""
        write_whole(self.programs_path, json.dumps({**self.programs(), **choices}, indent=1).encode())

    def programs(self) -> dict[str, dict[str, Any]]:
        """Of each program that was launched here, by name, how it is executed."""
        if not self.programs_path.exists():
            return {}
        try:
            return {name: dict(choice) for name, choice in json.loads(self.programs_path.read_text()).items()}
        except (ValueError, AttributeError, TypeError) as error:
            raise StoreError(
                f"{self.programs_path} can't be read ({error}): move it away, and programs are chosen anew."
            ) from error

    def note_search(self, sweep: str, said: str) -> None:
        """How far a sweep's search is, or what it has found."""
        write_whole(self.results / SEARCHES, json.dumps({**self.searches(), sweep: said}, indent=1).encode())

    def searches(self) -> dict[str, str]:
        """Of each sweep with a search, by name, how far it is; a file that is none tells nothing."""
        try:
            return {str(name): str(said) for name, said in json.loads((self.results / SEARCHES).read_text()).items()}
        except (OSError, ValueError, AttributeError):
            return {}

    def note_tracking(self, note: Mapping[str, Any]) -> None:
        """What MLflow holds of these results, or why it can't be filled."""
        write_whole(self.results / TRACKING, json.dumps(note, indent=1).encode())

    def tracking(self) -> dict[str, Any]:
        """What was noted last of MLflow; empty where nothing was, or in a file that is none."""
        try:
            return dict(json.loads((self.results / TRACKING).read_text()))
        except (OSError, ValueError, TypeError):
            return {}

    @property
    def programs_path(self) -> Location:
        return self.results / PROGRAMS

    def running(self) -> set[str]:
        """Trials that a live launch has handed to its workers; a file that is no list tells nothing."""
        if not self.is_locked():
            return set()
        try:
            return set(map(str, json.loads((self.results / RUNNING).read_text())))
        except (OSError, ValueError, TypeError):
            return set()

    def _create(self) -> None:
        try:
            self.results.mkdir(parents=True, exist_ok=True)
            if isinstance(self.results, ObjectPath):
                self.identity()  # a prefix is there once something is below it
                return
            probe = self.results / f".writable-{os.getpid()}"
            probe.write_bytes(b"")
            probe.unlink()
            for leftover in (*self.results.glob(".*.tmp"), *self.results.glob("*/.*.tmp")):
                if time.time() - leftover.stat().st_mtime > LEFTOVER_SECONDS:
                    leftover.unlink(missing_ok=True)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise StoreError(
                f"{self.results}: can't be written ({reason}); choose another folder with --results."
            ) from error


def store_if_there(results: str | Location) -> Store | None:
    """None where nothing is stored yet. Raises StoreError where it can't be told."""
    try:
        place = location(results)
    except LocationError as error:
        raise StoreError(str(error)) from error
    if isinstance(place, ObjectPath):
        _check_answers(place)
    return Store(place) if place.exists() else None


class Snapshot(Store):
    """What a results folder held when each of its tables was first asked for, and is read once: for many queries."""

    def __init__(self, results: str | Location):
        super().__init__(results)
        self._tables: dict[str, pa.Table] = {}

    def trials(self, columns: Sequence[str] | None = None) -> pa.Table:
        return self._once("trials", super().trials, columns)

    def current(self, table: str, columns: Sequence[str] | None = None) -> pa.Table:
        if table == "trials":
            return self.trials(columns)
        return self._once(table, partial(super().current, table), columns)

    def _once(self, table: str, read: Callable[[], pa.Table], columns: Sequence[str] | None) -> pa.Table:
        if table not in self._tables:
            self._tables[table] = read()
        return self._tables[table].select(self._tables[table].column_names if columns is None else list(columns))


def _is_dir(place: Location) -> bool:
    try:
        return place.is_dir()
    except OSError:
        return False


def _check_answers(place: ObjectPath) -> None:
    try:
        place.check()
    except LocationError as error:
        raise StoreError(str(error)) from error
    except OSError as error:
        raise StoreError(
            f"{place}: the object store can't be used ({error}). Check the bucket's name, the credentials in the "
            "environment, and AWS_ENDPOINT_URL where it is not AWS."
        ) from error
