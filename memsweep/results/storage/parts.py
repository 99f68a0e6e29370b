"""Parts: whole or absent Parquet files. How one is read and written, and which of its rows a reader sees."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from memsweep.results.storage.location import Location, ObjectPath
from memsweep.spec.config import recorded
from memsweep.spec.schema import SETTLED, Status

PARTS = "[!.]*.parquet"
"""Their names, as a pattern."""
PART_NAME = re.compile("[0-9a-f]{24}")
"""What we call them before the dot: by their content."""

RANKED = ["trial_id", "attempt_id", "status", "probes", "probe_steps", "finished_at"]
"""What `kept` looks at."""
LAUNCHES = ["sweep", "trial_id", "launch_id", "launched_at", "launch_rows", "probes"]
"""What `wanted_now` looks at."""

NEVER_NULL = frozenset(("trial_id", "attempt_id", "sweep", "status"))
"""What each row of a table with such a column has."""
KEYS = {
    "trials": ["trial_id", "attempt_id", "status"],  # a paused trial that is given up has two rows
    "steps": ["trial_id", "attempt_id", "step"],
    "examples": ["trial_id", "attempt_id", "example"],
    "positions": ["trial_id", "attempt_id", "position"],
    "class_sensitivity": ["trial_id", "attempt_id", "output_class", "input_class"],
    "loss_sensitivity": ["trial_id", "attempt_id", "step"],
    "critical_samples": ["trial_id", "attempt_id", "step", "part", "radius_multiple"],
    "permutations": ["trial_id", "attempt_id", "step", "features", "validation", "rho"],
    "jacobians": ["trial_id", "attempt_id", "layer"],
    "readouts": ["trial_id", "attempt_id", "item", "fitted_step", "applied_step"],
    "representations": ["trial_id", "attempt_id", "step", "part", "quantity", "layer"],
    "packs": ["attempt_id"],
    "wanted": ["sweep", "launch_id", "trial_id", "probes"],
}
"""What tells the rows of a table apart."""


class StoreError(Exception):
    """What is wrong with a results folder, and what to do next."""


def read_part(path: Location, schema: pa.Schema) -> pa.Table:
    """Raises StoreError where the file is no part, or can't be read, FileNotFoundError where there is none."""
    try:
        # opened here, because Arrow takes some paths for addresses, or for those of a home
        # one request for the whole of a small object takes less time than several for its columns
        source = open(path, "rb") if isinstance(path, Path) else pa.BufferReader(path.read_bytes())  # noqa: SIM115
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _not_read(path, error) from error
    try:
        with source, pq.ParquetFile(source) as file:
            held = set(file.schema_arrow.names)  # built anew at each asking
            present = [name for name in schema.names if name in held]
            table = file.read(columns=present)
        columns = [
            table[field.name].cast(field.type) if field.name in held else pa.nulls(len(table), field.type)
            for field in schema
        ]
        rows = pa.table(columns, schema=schema)
        rows.validate(full=True)  # a flipped bit may make a text that is none
        _check_means_something(rows)
        return rows
    except (pa.ArrowException, OSError, UnicodeError, ValueError) as error:
        if getattr(error, "errno", None) is not None:  # of the system, not of what the bytes say
            raise _not_read(path, error) from error
        raise StoreError(
            f"{path} is no whole Parquet part ({str(error).splitlines()[0]}). Move it out of the folder, e.g. into "
            f"{path.parent.parent / 'damaged'}, then launch again: only what it held is run again."
        ) from error


def _not_read(path: Location, error: Exception) -> StoreError:
    reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
    return StoreError(
        f"{path} can't be read ({reason}). Leave it where it is: the part may be whole. See to its permissions, its "
        "disk or the network, then try again."
    )


def _check_means_something(rows: pa.Table) -> None:
    """Raises ValueError where it isn't told of what a row is, or a trial ended in a way that we don't know."""
    for name in NEVER_NULL & set(rows.column_names):
        if rows[name].null_count:
            raise ValueError(f"rows without {name}")
    if "status" in rows.column_names:
        unknown = set(rows["status"].unique().to_pylist()) - set(Status)
        if unknown:
            raise ValueError(f"status {min(unknown)!r}, which this version of memsweep does not know")


def kept(attempts: pa.Table) -> pa.Array:
    """Rows of the attempts that readers see, in the order of their trials' first rows."""
    best: dict[str, tuple[tuple[Any, ...], int]] = {}
    columns = (attempts[name].to_pylist() for name in ("trial_id", "attempt_id", "status", "probes", "probe_steps"))
    times = attempts["finished_at"].cast(pa.int64()).to_pylist()
    for row, (trial, attempt, status, probes, steps, when) in enumerate(zip(*columns, times, strict=True)):
        settled = status in SETTLED
        probed = len(recorded(probes, steps))
        rank = (not settled, -probed, (when or 0) if settled else -(when or 0), attempt)
        if trial not in best or rank < best[trial][0]:
            best[trial] = (rank, row)
    return pa.array([row for _, row in best.values()], pa.int64())


def wanted_now(rows: pa.Table) -> pa.Array:
    """Rows of `wanted` that count, each sweep's trials once, in order: those of its newest launch that is whole.

    A launch is whole once as many of its rows are stored as it began with (`launch_rows`), and so is each round that a
    search adds. Rows without a launch, of an older version, all count until there is a launch; of two of them that want
    different probes of a trial, the one with more counts.
    """
    probe_count = pc.add(pc.count_substring(rows["probes"], ","), pc.cast(pc.not_equal(rows["probes"], ""), pa.int32()))
    table = pa.table(
        {
            "launch": pc.binary_join_element_wise(rows["sweep"], pc.fill_null(rows["launch_id"], ""), "\n"),
            "sweep": rows["sweep"],
            "trial_id": rows["trial_id"],
            "at": pc.fill_null(rows["launched_at"].cast(pa.int64()), 0),
            "needed": pc.fill_null(rows["launch_rows"], 0),
            "probe_count": pc.fill_null(probe_count, 0),
            "row": pa.array(range(len(rows)), pa.int64()),
        }
    )
    table = table.sort_by([("probe_count", "descending"), ("row", "ascending")])
    each = table.take(_firsts(table, ["launch", "trial_id"]))
    launches = each.group_by(["sweep", "launch"], use_threads=False).aggregate(
        [("row", "count"), ("needed", "min"), ("at", "max")]
    )
    newest: dict[str, dict[str, Any]] = {}
    for launch in sorted(launches.to_pylist(), key=lambda launch: (launch["at_max"], launch["launch"])):
        if launch["row_count"] >= launch["needed_min"]:
            newest[launch["sweep"]] = launch
    names = pa.array([launch["launch"] for launch in newest.values()], pa.string())
    counts = pa.array([launch["row_count"] for launch in newest.values()], pa.int64())
    stored = counts.take(pc.index_in(each["launch"], value_set=names).combine_chunks())  # null: of another launch
    return _sorted(each.filter(pc.fill_null(pc.less_equal(each["needed"], stored), False))["row"])


def check_is_whole(values: Iterator[Any]) -> None:
    for value in values:
        if isinstance(value, float) and not value.is_integer():
            raise ValueError(f"{value} is no whole number")


def unique(rows: pa.Table, table: str) -> pa.Table:
    """Rows of a table without copies, in order: what tells them apart is in their columns."""
    first = _firsts(rows, KEYS[table])
    return rows if len(first) == len(rows) else rows.take(first)


def _firsts(rows: pa.Table, keys: list[str]) -> pa.Array:
    """The first row of each combination of these columns, in order."""
    numbered = rows.select(keys).append_column("number", pa.array(range(len(rows)), pa.int64()))
    return _sorted(numbered.group_by(keys, use_threads=False).aggregate([("number", "min")])["number_min"])


def attempt_pairs(table: pa.Table) -> pa.Array:
    """Trial and attempt as one text.  table: with trial_id and attempt_id.  Returns [rows]."""
    return pc.binary_join_element_wise(table["trial_id"], table["attempt_id"], "/").combine_chunks()


def _sorted(values: pa.ChunkedArray) -> pa.Array:
    array = values.combine_chunks()
    return array.take(pc.array_sort_indices(array))


def digest(content: Any) -> str:
    return hashlib.blake2b(content, digest_size=12).hexdigest()


def write_whole(path: Location, content: Any) -> None:
    """The file appears under its name complete, or not at all, even if the machine stops meanwhile."""
    try:
        if isinstance(path, ObjectPath):
            path.write_bytes(content)
        else:
            _write_whole(path, content)
    except OSError as error:
        full = " The disk is full." if error.errno == errno.ENOSPC else ""
        raise StoreError(f"{path}: can't be written ({error.strerror or error}).{full}") from error


def _write_whole(path: Path, content: Any) -> None:
    temporary = path.parent / f".{path.stem}-{os.getpid()}.tmp"
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
