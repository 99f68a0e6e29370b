"""Writes the trials of a sweep to one file that other programs read without memsweep."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from memsweep.results import query
from memsweep.results.storage.own_columns import stored_names
from memsweep.results.storage.store import Store, StoreError
from memsweep.spec.config import FIELDS

WRITERS: dict[str, Callable[[pa.Table, Any], None]] = {
    ".parquet": pq.write_table,
    ".csv": pyarrow.csv.write_csv,
}
"""Suffix of a file -> the function that writes a table to it."""


def export(store: Store, sweep: str, out: Path, table: str = "trials") -> int:
    """Writes a table's rows of a sweep to one file, replaced whole, and returns the number of rows.

    Each trial counts once, as in `memsweep.table`. Rows of other tables than `trials` have the fields, the seed and the
    status of their trial too.
    out: a name that ends in .parquet or .csv.
    Raises QueryError for an unknown sweep or table; StoreError for another suffix, for lists in a .csv, and where the
    file can't be written.
    """
    if out.suffix not in WRITERS:
        raise StoreError(f"{out}: the name must end in .parquet or .csv.")
    rows = _with_fields(query.rows(table, store, sweep), table, store.of_sweep(sweep))
    if lists := [column.name for column in rows.schema if pa.types.is_nested(column.type)] * (out.suffix == ".csv"):
        raise StoreError(f"{out}: column {lists[0]} holds lists, which CSV can't; use a name that ends in .parquet.")
    temporary = out.with_name(f".{out.name}-{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            WRITERS[out.suffix](rows, file)
        os.replace(temporary, out)
    except OSError as error:
        raise StoreError(f"{out}: can't be written ({error.strerror or error}).") from error
    finally:
        temporary.unlink(missing_ok=True)
    return len(rows)


def _with_fields(rows: pa.Table, table: str, store: Store) -> pa.Table:
    """Returns the rows with the columns of their trial's fields that they lack."""
    if table == "trials" or "trial_id" not in rows.column_names:
        return rows
    trials = store.trials()
    names = ["status", *(spec.column for spec in FIELDS.values()), *stored_names(trials.column_names)]
    trials = trials.select(["trial_id", *names])
    places = pc.index_in(rows["trial_id"], value_set=trials["trial_id"].combine_chunks())
    for name in names:
        if name not in rows.column_names:
            rows = rows.append_column(trials.schema.field(name), trials[name].take(places))
    return rows
