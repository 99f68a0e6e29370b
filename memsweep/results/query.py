"""Reads the tables in pandas and in SQL: a single read-only SELECT that can reach only the tables."""

from __future__ import annotations

import difflib
import os
import re
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from memsweep.results import columns, live, other_code
from memsweep.results.needed_columns import needed
from memsweep.results.storage.location import Location
from memsweep.results.storage.snapshot import Snapshot
from memsweep.results.storage.store import Store

if TYPE_CHECKING:
    import pandas as pd

LOCKED_DOWN: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": False,
    "python_enable_replacements": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "temp_directory": "",
}
"""Settings of DuckDB under which a statement can reach no file, no network and no Python variable."""


NOT_PRINTABLE = re.compile(r"\b(BIT|BIGNUM|UNION|VARIANT|TIME WITH TIME ZONE)\b")
"""Types of DuckDB that Arrow receives as uninterpretable bytes or with loss."""
DAY_MICROSECONDS = 24 * 3600 * 1_000_000


class QueryError(Exception):
    """A statement can't be answered; the message gives the reason."""


def default_results() -> str:
    """Returns the environment variable MEMSWEEP_RESULTS, or "results"."""
    return os.environ.get("MEMSWEEP_RESULTS", "results")


def table(name: str, results: str | Location | Store, sweep: str | None = None) -> pd.DataFrame:
    """Returns a table with the kept attempt of each trial.

    sweep: selects the rows of trials that this sweep wants; for `packs`, the packs in which any of these trials ran.
    Raises QueryError for an unknown table or sweep.
    """
    frame: pd.DataFrame = rows(name, results, sweep).to_pandas()
    return frame


def rows(name: str, results: str | Location | Store, sweep: str | None = None) -> pa.Table:
    """Returns the same rows as `table`, as an Arrow table."""
    store = _store(results) if sweep is None else _store(results).of_sweep(sweep)
    if name not in (tables := store.tables()):
        raise QueryError(_no_table(name, tables))
    return _current(name, store) if sweep is None else _of_sweep(_current(name, store), sweep, store)


def sql(statement: str, results: str | Location | Store) -> pd.DataFrame:
    """Returns the answer to one SELECT as pandas; see `run`.  Raises QueryError, StoreError."""
    frame: pd.DataFrame = run(statement, results).to_pandas()
    return frame


def run(statement: str, results: str | Location | Store) -> pa.Table:
    """Returns the answer to one SELECT over trials, steps, packs, wanted, launches and the tables of probes.

    `trials_of_other_code` has the rows of trials whose code no sweep accepts; each table of attempts has such a table.

    Decimals, such as DuckDB's sum of whole numbers, become int64 if they are whole and fit, else float64. Spans of time
    become durations, or ISO 8601 texts if any span has months.
    results: a folder or a store (a Snapshot answers many statements and reads each table once).
    Raises QueryError with DuckDB's message if the statement is not one valid SELECT; StoreError for a damaged part.
    """
    store = _store(results)
    with duckdb.connect(":memory:", config=LOCKED_DOWN) as connection:
        try:
            _check_is_one_select(connection, statement)
            names = store.tables()
            tables = _tables(connection, statement, store, names)
            for name in other_code.tables(names) if other_code.SUFFIX in statement.lower() else ():
                tables[name] = other_code.rows(name, store)
            for name, rows in tables.items():
                connection.register(name, rows)
            connection.execute("set timezone = 'UTC'")
            connection.execute("set lock_configuration = true")
            answer = connection.sql(statement)
            _check_is_printable(answer)
            return _as_numbers(_with_unique_names(answer.to_arrow_table()))
        except duckdb.CatalogException as error:
            raise QueryError(_explained(str(error), names)) from error
        except duckdb.BinderException as error:
            better = columns.advice(str(error), statement, {name: rows.column_names for name, rows in tables.items()})
            raise QueryError(better or f"the statement can't be answered. {error}") from error
        except (duckdb.Error, RuntimeError, UnicodeError, TypeError) as error:
            raise QueryError(f"the statement can't be answered. {error}") from error


def _tables(
    connection: duckdb.DuckDBPyConnection, statement: str, store: Store, names: list[str]
) -> dict[str, pa.Table]:
    """Returns the tables that a statement names, with the columns that it needs."""
    used = [name for name in names if re.search(rf"\b{name}\b", statement, re.IGNORECASE)]
    columns: dict[str, list[str] | None] = {}
    if not isinstance(store, Snapshot) and other_code.SUFFIX not in statement.lower():  # a snapshot keeps whole tables
        columns = needed(connection, statement, {name: store.schema(name) for name in used})
    return {name: _current(name, store, columns.get(name)) for name in used}


def _current(name: str, store: Store, columns: list[str] | None = None) -> pa.Table:
    """Returns the rows of a table that readers see; those of `steps` with measurements of trials in training."""
    return live.with_steps(store) if name == "steps" else store.current(name, columns)


def _of_sweep(rows: pa.Table, sweep: str, store: Store) -> pa.Table:
    """Returns the rows of trials that this sweep wants, matched by sweep, trial_id or attempt_id, in this order."""
    wanted = store.current("wanted", ["sweep", "trial_id"])
    if not pc.any(pc.equal(wanted["sweep"], sweep)).as_py():
        there = ", ".join(sorted(set(wanted["sweep"].to_pylist()))) or "none"
        raise QueryError(f"no sweep {sweep!r} in {store.results}; there: {there}.")
    ids = wanted.filter(pc.equal(wanted["sweep"], sweep))["trial_id"]
    if "sweep" in rows.column_names:
        return rows.filter(pc.equal(rows["sweep"], sweep))
    if "trial_id" in rows.column_names:
        return rows.filter(pc.is_in(rows["trial_id"], value_set=ids.combine_chunks()))
    trials = store.trials(["trial_id", "attempt_id"])
    attempts = trials.filter(pc.is_in(trials["trial_id"], value_set=ids.combine_chunks()))["attempt_id"]
    return rows.filter(pc.is_in(rows["attempt_id"], value_set=attempts.combine_chunks()))


def _store(results: str | Location | Store) -> Store:
    return results if isinstance(results, Store) else Store(results)


def _with_unique_names(table: pa.Table) -> pa.Table:
    """Returns the table with a number appended to repeated column names: trial_id, trial_id_1."""
    names: list[str] = []
    for name in table.column_names:
        number, free = 0, name
        while free in names:
            number += 1
            free = f"{name}_{number}"
        names.append(free)
    return table.rename_columns(names)


def _as_numbers(table: pa.Table) -> pa.Table:
    """Returns the table without decimals and intervals, which pandas stores as objects; nulls stay nulls."""
    for i, column in enumerate(table.columns):
        if pa.types.is_interval(column.type):
            column = pa.chunked_array([_durations(column.to_pylist())])
        elif not column.type.equals(_number(column.type, pa.int64())):
            try:
                column = column.cast(_number(column.type, pa.int64()))
            except pa.ArrowInvalid:  # a whole number beyond int64
                column = column.cast(_number(column.type, pa.float64()))
        table = table.set_column(i, table.column_names[i], column)
    return table


def _number(kind: pa.DataType, whole: pa.DataType) -> pa.DataType:
    """Returns the type with decimals replaced, at any depth.  whole: type for decimals without a fraction."""
    if pa.types.is_decimal(kind):
        return whole if kind.scale == 0 else pa.float64()
    if pa.types.is_map(kind):
        return pa.map_(_number(kind.key_type, whole), _number(kind.item_type, whole))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_number(field.type, whole)) for field in kind])
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(_number(kind.value_type, whole)), kind.list_size)
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_number(kind.value_type, whole)))
    return kind


def _durations(spans: list[Any]) -> pa.Array:
    """Returns spans as microseconds, DuckDB's resolution; as texts if any span has months."""
    if any(span is not None and span.months for span in spans):
        texts = [span and f"P{span.months}M{span.days}DT{span.nanoseconds / 1e9:.6f}S" for span in spans]
        return pa.array(texts, pa.string())
    lengths = [None if span is None else span.days * DAY_MICROSECONDS + span.nanoseconds // 1000 for span in spans]
    return pa.array(lengths, pa.duration("us"))


def _check_is_printable(answer: duckdb.DuckDBPyRelation) -> None:
    """Raises QueryError for types that neither pandas nor Parquet supports."""
    for name, kind in zip(answer.columns, answer.types, strict=True):
        if NOT_PRINTABLE.search(str(kind)):
            raise QueryError(f"column {name!r} is a {kind}, which pandas and Parquet lack: cast it to varchar.")


def _check_is_one_select(connection: duckdb.DuckDBPyConnection, statement: str) -> None:
    statements = connection.extract_statements(statement)
    if len(statements) != 1:
        raise QueryError(f"found {len(statements)} statements: query runs one SELECT at a time.")
    kind = _kind(statements[0])
    if kind != duckdb.StatementType.SELECT.name:
        raise QueryError(f"found {kind}: only SELECT is allowed, because query never changes the tables.")


def _kind(statement: duckdb.Statement) -> str:
    """Returns the statement's kind; duckdb's Python package has no name for the newest kinds, for example CONNECT."""
    try:
        return statement.type.name
    except ValueError:
        return statement.query.strip().partition(" ")[0].upper()


def _explained(message: str, tables: list[str]) -> str:
    missing = message.partition("Table with name ")[2].partition(" ")[0]
    return _no_table(missing, tables) if missing else f"the statement can't be answered. {message}"


def _no_table(name: str, tables: list[str]) -> str:
    near = difflib.get_close_matches(name, tables, 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"there is no table {name!r}; the tables are {', '.join(tables)}.{hint}"
