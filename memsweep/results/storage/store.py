"""The store of a results folder: writes parts, and reads tables from them. Needs neither torch nor ray.

results/<table>/<hash of the content>.parquet   one part, written by a worker or a launch
results/tracking.json                           what MLflow holds, or why it can't be filled, see status.py
results/<name>.lock                             held by the process that launches, or tracks, see locks.py
results/locks/, running/                        parts of a launch; trials of packs in training; see launch_lock.py
results/running.json                            packs in training; valid only while the lock is held
results/progress.json                           steps, rate and packs of the launch that runs, see progress.py
results/programs.json                           how programs are executed here, chosen at their first launch
results/networks/, kept_states/                 kept weights and states of training, see kept_files.py
results/given/                                  data given to launches from Python, see data/given.py
results/searches.json                           progress of the search of each sweep, as a sentence
results/studies/                                Optuna's journals, one per sweep
results/checkpoints/                            packs in training, see run/checkpoints.py
results/identity                                name of the folder, for several folders on one MLflow server

A results folder is a folder on a disk or a prefix in an object store, see location.py.
"""

from __future__ import annotations

import copy
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from memsweep.results import trial_state
from memsweep.results.storage import accepted, forgotten, launch_lock, locks, own_columns
from memsweep.results.storage.accepted import Accepted
from memsweep.results.storage.location import Location, LocationError, ObjectPath, location
from memsweep.results.storage.notes import Notes
from memsweep.results.storage.parts import (
    LAUNCHES,
    RANKED,
    attempt_pairs,
    check_is_whole,
    digest,
    kept,
    keys,
    read_part,
    remedy,
    unique,
    wanted_now,
    write_whole,
)
from memsweep.results.storage.parts import StoreError as StoreError
from memsweep.results.storage.reading import Reading
from memsweep.spec.config import RECORDED
from memsweep.spec.part import Part
from memsweep.spec.schema import SCHEMAS
from memsweep.spec.schema.columns import ATTEMPT
from memsweep.spec.schema.own_probes import is_own_table

LEFTOVER_SECONDS = 3600
"""Age at which temporary files are deleted as leftovers."""


class LockedError(StoreError):
    """Another process holds a lock of the results folder."""


class Store(Notes, Reading):
    """A results folder, given by its path or address.

    create: creates the folder and checks that it is writable; else it must exist.  Raises StoreError.
    """

    def __init__(self, results: str | Location, *, create: bool = False):
        try:
            self.results = location(results)
        except LocationError as error:
            raise StoreError(str(error)) from error
        self._attempts: dict[Location, frozenset[str]] = {}  # cache of attempts_in; parts never change
        self._schemas = {}
        self._sweep: str | None = None
        self._accepted: Accepted | None = None
        if isinstance(self.results, ObjectPath):
            _check_answers(self.results)
        if create:
            self._create()
        elif not _is_dir(self.results):
            raise StoreError(f"no results at {results}: launch a sweep first, or choose another folder with --results.")

    def write(self, table: str, rows: Sequence[Mapping[str, Any]], columns: pa.Schema | None = None) -> Location:
        """Writes these rows as one part, and returns its path. Writing the same rows twice gives the same file.

        rows: columns of the table, of `trials` also own_* -> values; absent columns are null.
        columns: of the table; default: those of SCHEMAS.
        Raises StoreError for an unknown column, a value of another type, or a failed write.
        """
        columns = SCHEMAS[table] if columns is None else columns
        schema = pa.schema([*columns, *(own_columns.columns_of(rows) if table == "trials" else ())])
        unknown = {name for row in rows for name in row} - set(schema.names)
        if unknown:
            raise StoreError(
                f"table {table} has no column {', '.join(sorted(unknown))}; memsweep/spec/schema/ lists its columns."
            )
        try:
            part = pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
            for column in columns:  # Arrow silently truncates 2.5 to 2
                if pa.types.is_integer(column.type):
                    check_is_whole(row.get(column.name) for row in rows)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise StoreError(f"rows of table {table} don't fit its columns: {error}") from error
        return self.write_part(table, part)

    def write_part(self, table: str, rows: pa.Table) -> Location:
        """Writes rows with the types of the table as one part, and returns its path.  Raises StoreError."""
        sink = pa.BufferOutputStream()
        # the meanings of 129 columns are half of a small part, and of the time that it takes to read
        pq.write_table(rows, sink, compression="zstd", store_schema=is_own_table(table))
        content = sink.getvalue()
        path = self.results / table / f"{digest(content)}.parquet"
        if not path.exists():
            write_whole(path, content)
        return path

    def read(self, table: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Returns all rows of all parts, with the types of SCHEMAS. Columns that a part lacks are null.

        Rows of `wanted` that a forgotten launch wrote are left out; `read_ever` returns them too.
        columns: default: all, of `trials` also those of own hyperparameters.
        """
        if table != "wanted" or not self.parts("forgotten"):
            return self.read_ever(table, columns)
        names = self.schema(table).names if columns is None else list(columns)
        rows = self.read_ever(table, list(dict.fromkeys([*names, *forgotten.LAUNCH])))
        return rows.filter(forgotten.remembered(rows, self.read_ever("forgotten", forgotten.LAUNCH))).select(names)

    def read_ever(self, table: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Returns all rows of all parts, as `read`, with those of forgotten launches."""
        schema = self.schema(table)
        others = own_columns.stored_names(columns or ())
        wanted = pa.schema([schema.field(name) for name in columns or schema.names if name not in others])
        pieces = self._of_parts(table, lambda path: read_part(path, wanted, columns and others))
        return own_columns.joined([wanted.empty_table(), *pieces], columns and others, columns)

    def rows_in(self, table: str, parts: Sequence[Location]) -> pa.Table:
        """Returns all rows of these parts, including duplicates."""
        schema = self.schema(table)
        pieces = self.each(partial(read_part, schema=schema, own=None), parts)
        return own_columns.joined([schema.empty_table(), *pieces])

    def rows_of(self, table: str, attempts: set[str], columns: Sequence[str] | None = None) -> pa.Table:
        """Returns the rows of these attempts without duplicates; parts without these attempts are skipped."""
        schema = self.schema(table)
        names = schema.names if columns is None else list(dict.fromkeys([*columns, "attempt_id"]))
        wanted = pa.schema([schema.field(name) for name in dict.fromkeys([*names, *keys(table)])])
        others = None if columns is None else ()  # all own columns, or none

        def matching(path: Location) -> pa.Table:
            is_none = attempts.isdisjoint(self.attempts_in(path))
            return wanted.empty_table() if is_none else read_part(path, wanted, others)

        rows = own_columns.joined([wanted.empty_table(), *self._of_parts(table, matching)], others)
        rows = rows.filter(pc.is_in(rows["attempt_id"], value_set=pa.array(sorted(attempts), pa.string())))
        rows = unique(rows, table)
        return rows if columns is None else rows.select(names)

    def trials(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Returns one attempt per trial, of code that a sweep accepts.

        A settled attempt is preferred, then an attempt that recorded more, then the first settled or the last unsettled
        attempt.
        """
        table = self.read("trials", None if columns is None else list(dict.fromkeys([*columns, *RANKED])))
        if accepted.has_code(table):
            table = table.filter(accepted.counts(table, self._accepted_code()))
        rows = table.take(kept(table.select(RANKED)))
        return rows if columns is None else rows.select(list(columns))

    def of_sweep(self, sweep: str) -> Store:
        """Returns the store as this sweep reads it: it chooses attempts of the code that the sweep accepts."""
        view = copy.copy(self)
        view._sweep = sweep
        return view

    def accepting(self, code: Accepted) -> Store:
        """Returns the store as a launch reads it.  code: accepted by the launch; later changes of it count too."""
        view = copy.copy(self)
        view._accepted = code
        return view

    def _accepted_code(self) -> Accepted:
        if self._accepted is not None:
            return self._accepted
        return accepted.by_sweeps(self.current("wanted", accepted.NEEDED), self._sweep)

    def trial_rows(self, trial_ids: Collection[str]) -> dict[str, dict[str, Any]]:
        """Returns trial_id -> row of `trials`, for the stored trials among these."""
        table = self.trials()
        rows = table.filter(pc.is_in(table["trial_id"], value_set=pa.array(sorted(trial_ids), pa.string())))
        return {row["trial_id"]: row for row in rows.to_pylist()}

    def current(self, table: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Returns the rows that readers see: those of the kept attempt of each trial, or wanted now; no duplicates."""
        if table == "trials":
            return self.trials(columns)
        names = list(self.schema(table).names if columns is None else columns)
        if table == "wanted":
            rows = self.read(table, list(dict.fromkeys([*names, *LAUNCHES])))
            return rows.take(wanted_now(rows)).select(names)
        rows = self.read(table, list(dict.fromkeys([*names, *keys(table)])))
        if {"attempt_id", "trial_id"} <= {*keys(table)} and table != "live":  # of attempts that have not ended
            kept = self.trials(["trial_id", "attempt_id"])
            rows = rows.filter(pc.is_in(attempt_pairs(rows), value_set=attempt_pairs(kept)))
        return unique(rows, table).select(names)

    def lost_attempts(self) -> pa.Array:
        """Returns the attempts that lost against another attempt of the same code, as `attempt_pairs`."""
        rows = self.read("trials", RANKED)
        pairs, seen = attempt_pairs(rows), attempt_pairs(rows.take(kept(accepted.by_code(rows))))
        return pairs.filter(pc.invert(pc.is_in(pairs, value_set=seen)))

    def settled(self) -> dict[str, frozenset[str]]:
        """Returns trial_id -> what it recorded, for settled trials, which are never run again."""
        return {trial: items for trial, (status, items) in self.ends().items() if trial_state.is_settled(status)}

    def ends(self) -> dict[str, tuple[str, frozenset[str]]]:
        """Returns trial_id -> (status, what it recorded beside its measurements), for all stored trials."""
        return trial_state.ends(self.trials(["trial_id", "status", *RECORDED]))

    @contextmanager
    def lock(
        self, name: str = "launch", seconds: float = locks.LOCK_SECONDS, part: Part | None = None
    ) -> Iterator[None]:
        """Holds a lock that one process holds at a time; freed when that process ends, even by a crash.

        name: launch, track or compact, after the verb that holds it.  seconds: how long to try.
        part: of a launch; parts of one division hold its lock together.
        Raises LockedError; StoreError if the lock can't be created.
        """
        with ExitStack() as stack:
            try:
                is_launch = name == launch_lock.LAUNCH
                lock = launch_lock.hold(self.results, part, seconds) if is_launch else None
                stack.enter_context(lock or locks.hold(self.results, name, seconds))
            except locks.HeldError as error:
                raise LockedError(
                    f"memsweep {name} ({error}) is writing to {self.results}: wait for it, or use another --results."
                ) from error
            except OSError as error:
                message = f"can't be written ({error.strerror or error}).{remedy(error)}"
                raise StoreError(f"{self.results / name}.lock: {message}") from error
            yield

    def is_locked(self, name: str = "launch") -> bool:
        """Returns whether a live process holds the lock; `launch`: of a whole launch or of a part."""
        return launch_lock.is_held(self.results) if name == launch_lock.LAUNCH else locks.is_held(self.results, name)

    def attempts_in(self, path: Location) -> frozenset[str]:
        """Returns the attempts with rows in a part.  Raises FileNotFoundError, StoreError as `read_part`."""
        if path not in self._attempts:
            self._attempts[path] = frozenset(read_part(path, pa.schema([ATTEMPT]))["attempt_id"].unique().to_pylist())
        return self._attempts[path]

    def _create(self) -> None:
        try:
            self.results.mkdir(parents=True, exist_ok=True)
            if isinstance(self.results, ObjectPath):
                self.identity()  # a prefix exists once an object is below it
                return
            probe = self.results / f".writable-{secrets.token_hex(4)}.tmp"  # not a process id, which two hosts share
            probe.write_bytes(b"")
            now = probe.stat().st_mtime  # by the clock that dates the leftovers
            probe.unlink()
            for leftover in (*self.results.glob(".*.tmp"), *self.results.glob("*/.*.tmp")):
                with suppress(FileNotFoundError):  # its writer has renamed it
                    if now - leftover.stat().st_mtime > LEFTOVER_SECONDS:
                        leftover.unlink()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise StoreError(
                f"{self.results}: can't be written ({reason}); choose another folder with --results."
            ) from error


def store_if_there(results: str | Location) -> Store | None:
    """Returns the store, or None if nothing is stored yet. Raises StoreError if the location can't be reached."""
    try:
        place = location(results)
    except LocationError as error:
        raise StoreError(str(error)) from error
    if isinstance(place, ObjectPath):
        _check_answers(place)
    return Store(place) if place.exists() else None


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
            "environment, and AWS_ENDPOINT_URL unless the store is AWS."
        ) from error
