"""Parts, which are Parquet files that are complete or absent: reading, writing, and which rows readers see."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from memsweep.results import trial_state
from memsweep.results.storage import own_columns
from memsweep.results.storage.location import Location, ObjectPath
from memsweep.spec.config import RECORDED, recorded
from memsweep.spec.schema import Status
from memsweep.spec.schema.own_probes import PLACES, is_own_table

PARTS = "[!.]*.parquet"
"""Pattern of the file names of parts."""
PART_NAME = re.compile("[0-9a-f]{24}")
"""Stem of a part's file name: a hash of its content."""

RANKED = ["trial_id", "attempt_id", "status", *RECORDED, "finished_at", "code_fingerprint"]
"""Columns that `kept` and `accepted.counts` read."""
LAUNCHES = ["sweep", "trial_id", "launch_id", "launched_at", "launch_rows", "probes", "metrics"]
"""Columns that `wanted_now` reads."""

REMEDIES = {
    (errno.ENOSPC,): "The disk is full, of bytes or of files (df, df -i): free some, then launch again.",
    (errno.EDQUOT,): "Your quota is used up, of bytes or of files (quota -s): free some, then launch again; "
    "memsweep compact merges small files.",
    (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP): "The file system has no locks: memsweep doctor tests it.",
}
"""Numbers of errors of a file system -> what to do."""

LARGE = 10_000
"""Rows from which on a part's columns are read in parallel; below them, starting threads takes longer."""
NEVER_NULL = frozenset(("trial_id", "attempt_id", "sweep", "status"))
"""Columns that must not be null in any table."""
KEYS = {
    # a paused trial that is pruned later has two rows, and so has a trial whose kept network is probed later
    "trials": ["trial_id", "attempt_id", "status", "probes"],
    "steps": ["trial_id", "attempt_id", "step"],
    "live": ["trial_id", "attempt_id", "begun_at", "step"],
    "examples": ["trial_id", "attempt_id", "example"],
    "positions": ["trial_id", "attempt_id", "position"],
    "class_sensitivity": ["trial_id", "attempt_id", "output_class", "input_class"],
    "loss_sensitivity": ["trial_id", "attempt_id", "step"],
    "critical_samples": ["trial_id", "attempt_id", "step", "part", "radius_multiple"],
    "exposure": ["trial_id", "attempt_id", "step", "example"],
    "permutations": ["trial_id", "attempt_id", "step", "features", "validation", "rho"],
    "memorization": ["trial_id", "attempt_id", "part", "example"],
    "jacobians": ["trial_id", "attempt_id", "layer"],
    "readouts": ["trial_id", "attempt_id", "item", "fitted_step", "applied_step"],
    "representations": ["trial_id", "attempt_id", "step", "part", "quantity", "layer"],
    "states": ["trial_id", "attempt_id", "step"],
    "weights": ["trial_id", "attempt_id", "step"],
    "packs": ["attempt_id"],
    "metrics": ["trial_id", "attempt_id", "step", "part", "metric", "name"],
    "wanted": ["sweep", "launch_id", "trial_id", "probes", "metrics"],
    "launches": ["launch"],
    "notes": ["sweep", "action", "text", "noted_at"],
    "forgotten": ["sweep", "launch_id"],
}
"""Table -> columns that identify a row."""


def keys(table: str) -> list[str]:
    """Returns the columns that identify a row of a table."""
    return PLACES.names if is_own_table(table) else KEYS[table]


class StoreError(Exception):
    """A problem of a results folder; the message names the remedy."""


def read_part(path: Location, schema: pa.Schema, own: Sequence[str] | None = ()) -> pa.Table:
    """Returns the rows of a part, with the columns and types of `schema`; missing columns are null.

    own: columns of own hyperparameters that are added as they are stored, where the part has them; None: all of them.
    Raises FileNotFoundError if the file does not exist, StoreError if it can't be read or is not a valid part.
    """
    with _opened(path) as file:
        others = own_columns.stored_names(file.schema_arrow.names, own) if own is None or own else []
        table = file.read(columns=[*schema.names, *others], use_threads=file.metadata.num_rows >= LARGE)
        schema = pa.schema([*schema, *(table.schema.field(name) for name in others)]) if others else schema
        stored = set(table.column_names)
        columns = [
            table[field.name].cast(field.type) if field.name in stored else pa.nulls(len(table), field.type)
            for field in schema
        ]
        rows = pa.table(columns, schema=schema)
        rows.validate(full=True)  # a flipped bit may make invalid UTF-8
        _check_values(rows)
        return rows


def stored_schema(path: Location) -> pa.Schema:
    """Returns the columns of a part as they are stored.  Raises FileNotFoundError, StoreError as `read_part`."""
    with _opened(path) as file:
        return file.schema_arrow


@contextmanager
def _opened(path: Location) -> Iterator[pq.ParquetFile]:
    """Yields the file of a part.  Raises FileNotFoundError; StoreError for errors in reading it too."""
    try:
        # Arrow opens and reads it: a thread of Arrow that frees a Python object while Python exits ends the process
        source = pa.OSFile(os.fsencode(path)) if isinstance(path, Path) else pa.BufferReader(path.read_buffer())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _not_read(path, error) from error
    try:
        with source, pq.ParquetFile(source, pre_buffer=False) as file:
            yield file
    except (pa.ArrowException, OSError, UnicodeError, ValueError) as error:
        if getattr(error, "errno", None) is not None:  # an error of the system, not of the file's content
            raise _not_read(path, error) from error
        raise StoreError(
            f"{path} is not a complete Parquet part ({str(error).splitlines()[0]}). Move it out of the folder, e.g. "
            f"into {path.parent.parent / 'damaged'}, then launch again: only the trials that it held run again."
        ) from error


def _not_read(path: Location, error: Exception) -> StoreError:
    number = getattr(error, "errno", None)  # Arrow's errors have the system's number, but another text
    reason = os.strerror(number) if number else str(error).splitlines()[0]
    return StoreError(
        f"{path} can't be read ({reason}). Do not move it: the part may be complete. Check its permissions, the disk "
        "and the network, then try again."
    )


def _check_values(rows: pa.Table) -> None:
    """Raises ValueError for rows without an identifying value, and for an unknown status."""
    for name in NEVER_NULL & set(rows.column_names):
        if rows[name].null_count:
            raise ValueError(f"rows without {name}")
    if "status" in rows.column_names:
        unknown = set(rows["status"].unique().to_pylist()) - set(Status)
        if unknown:
            raise ValueError(f"status {min(unknown)!r}, which this version of memsweep does not support")


def kept(attempts: pa.Table) -> pa.Array:
    """Returns the indices of the rows that readers see, one per trial, in the order of the trials' first rows.

    attempts: the columns RANKED of `trials`.
    """
    trials = np.asarray(attempts["trial_id"].combine_chunks().dictionary_encode().indices)  # numbered by first rows
    _, chosen = np.unique(trials, return_index=True)
    if len(chosen) < len(trials):
        repeated = np.flatnonzero(np.bincount(trials)[trials] > 1)
        best = repeated[_best(attempts.take(repeated))]
        chosen[trials[best]] = best
    return pa.array(chosen, pa.int64())


def _best(attempts: pa.Table) -> list[int]:
    """Returns the index of the best row of each trial."""
    best: dict[str, tuple[tuple[Any, ...], int]] = {}
    columns = (attempts[name].to_pylist() for name in ("trial_id", "attempt_id", "status"))
    records = zip(*(attempts[name].to_pylist() for name in RECORDED), strict=True)
    times = attempts["finished_at"].cast(pa.int64()).to_pylist()
    for row, (trial, attempt, status, items, when) in enumerate(zip(*columns, records, times, strict=True)):
        settled = trial_state.is_settled(status)
        rank = (not settled, -len(recorded(*items)), (when or 0) if settled else -(when or 0), attempt)
        if trial not in best or rank < best[trial][0]:
            best[trial] = (rank, row)
    return [row for _, row in best.values()]


def wanted_now(rows: pa.Table) -> pa.Array:
    """Returns the indices of the rows of `wanted` that count, ascending: those of each sweep's newest complete launch.

    A launch, or a round that a search adds to it, is complete once `launch_rows` of its rows are stored. Each trial of
    a sweep counts once. Rows without launch_id, from an older version, count until the sweep has a launch; of two rows
    with different probes or metrics for a trial, the row with more of them counts.
    rows: the columns LAUNCHES of `wanted`.
    """
    record_count = pc.add(*(_item_count(rows[name]) for name in ("probes", "metrics")))
    table = pa.table(
        {
            "launch": pc.binary_join_element_wise(rows["sweep"], pc.fill_null(rows["launch_id"], ""), "\n"),
            "sweep": rows["sweep"],
            "trial_id": rows["trial_id"],
            "at": pc.fill_null(rows["launched_at"].cast(pa.int64()), 0),
            "needed": pc.fill_null(rows["launch_rows"], 0),
            "record_count": record_count,
            "row": pa.array(np.arange(len(rows)), pa.int64()),
        }
    )
    table = table.sort_by([("record_count", "descending"), ("row", "ascending")])
    rows_once = table.take(_firsts(table, ["launch", "trial_id"]))
    launches = rows_once.group_by(["sweep", "launch"], use_threads=False).aggregate(
        [("row", "count"), ("needed", "min"), ("at", "max")]
    )
    newest: dict[str, dict[str, Any]] = {}
    for launch in sorted(launches.to_pylist(), key=lambda launch: (launch["at_max"], launch["launch"])):
        if launch["row_count"] >= launch["needed_min"]:
            newest[launch["sweep"]] = launch
    names = pa.array([launch["launch"] for launch in newest.values()], pa.string())
    counts = pa.array([launch["row_count"] for launch in newest.values()], pa.int64())
    stored = counts.take(
        pc.index_in(rows_once["launch"], value_set=names).combine_chunks()
    )  # null: a row of another launch
    return _sorted(rows_once.filter(pc.fill_null(pc.less_equal(rows_once["needed"], stored), False))["row"])


def _item_count(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Returns the number of items of each text, which are joined by commas; 0 for null."""
    count = pc.add(pc.count_substring(column, ","), pc.cast(pc.not_equal(column, ""), pa.int32()))
    return pc.fill_null(count, 0)


def check_is_whole(values: Iterator[Any]) -> None:
    """Raises ValueError for a float with a fraction."""
    for value in values:
        if isinstance(value, float) and not value.is_integer():
            raise ValueError(f"{value} is not a whole number")


def unique(rows: pa.Table, table: str) -> pa.Table:
    """Returns the rows of a table without duplicates of its keys, in order."""
    first = _firsts(rows, keys(table))
    return rows if len(first) == len(rows) else rows.take(first)


def _firsts(rows: pa.Table, keys: list[str]) -> pa.Array:
    """Returns the index of the first row of each combination of these columns, ascending."""
    numbered = rows.select(keys).append_column("number", pa.array(np.arange(len(rows)), pa.int64()))
    return _sorted(numbered.group_by(keys, use_threads=False).aggregate([("number", "min")])["number_min"])


def attempt_pairs(table: pa.Table) -> pa.Array:
    """Returns [rows] texts trial_id/attempt_id.  table: with the columns trial_id and attempt_id."""
    return pc.binary_join_element_wise(table["trial_id"], table["attempt_id"], "/").combine_chunks()


def _sorted(values: pa.ChunkedArray) -> pa.Array:
    array = values.combine_chunks()
    return array.take(pc.array_sort_indices(array))


def digest(content: Any) -> str:
    """Returns 24 hexadecimal digits that identify these bytes."""
    return hashlib.blake2b(content, digest_size=12).hexdigest()


def write_whole(path: Location, content: Any) -> None:
    """Writes a file atomically: it appears complete or not at all, even after a crash.  Raises StoreError."""
    try:
        if isinstance(path, ObjectPath):
            path.write_bytes(content)
        else:
            _write_whole(path, content)
    except OSError as error:
        raise StoreError(f"{path}: can't be written ({error.strerror or error}).{remedy(error)}") from error


def remedy(error: OSError) -> str:
    """Returns a sentence with the remedy, to follow a message on a failed write or lock; "" for other errors."""
    return next((f" {sentence}" for numbers, sentence in REMEDIES.items() if error.errno in numbers), "")


def _write_whole(path: Path, content: Any) -> None:
    temporary = path.parent / f".{path.stem}-{secrets.token_hex(4)}.tmp"  # not a process id, which two hosts share
    try:
        path.parent.mkdir(exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
