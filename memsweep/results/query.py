"""The tables in pandas and in SQL: read-only, one SELECT, and nothing but the tables within its reach."""

from __future__ import annotations

import difflib
import os
import re
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from memsweep.results.location import Location
from memsweep.results.store import Store
from memsweep.schema import SCHEMAS

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
"""Settings of DuckDB under which a statement reaches no file, no network and no variable of ours."""


class QueryError(Exception):
    """Why a statement can't be answered."""


def default_results() -> str:
    """MEMSWEEP_RESULTS, or ./results."""
    return os.environ.get("MEMSWEEP_RESULTS", "results")


def table(name: str, results: str | Location | Store) -> pd.DataFrame:
    """One table as readers see it: each trial once. Raises QueryError for a name that is no table."""
    if name not in SCHEMAS:
        raise QueryError(_no_table(name))
    frame: pd.DataFrame = _store(results).current(name).to_pandas()
    return frame


def sql(statement: str, results: str | Location | Store) -> pd.DataFrame:
    """The answer to one SELECT, as pandas."""
    frame: pd.DataFrame = run(statement, results).to_pandas()
    return frame


def run(statement: str, results: str | Location | Store) -> pa.Table:
    """The answer to one SELECT over trials, steps, packs, wanted and the tables of probes.

    results: a folder, or what is known of it (a Snapshot answers many statements and reads each table once).
    Raises QueryError, with DuckDB's own words, for anything else; StoreError for a damaged part.
    """
    store = _store(results)
    with duckdb.connect(":memory:", config=LOCKED_DOWN) as connection:
        try:
            _check_is_one_select(connection, statement)
            for name in SCHEMAS:
                if re.search(rf"\b{name}\b", statement, re.IGNORECASE):
                    connection.register(name, store.current(name))
            connection.execute("set timezone = 'UTC'")
            connection.execute("set lock_configuration = true")
            return _told_apart(connection.sql(statement).to_arrow_table())
        except duckdb.CatalogException as error:
            raise QueryError(_explained(str(error))) from error
        except (duckdb.Error, RuntimeError, UnicodeError, TypeError) as error:
            raise QueryError(f"the statement can't be answered. {error}") from error


def _store(results: str | Location | Store) -> Store:
    return results if isinstance(results, Store) else Store(results)


def _told_apart(table: pa.Table) -> pa.Table:
    """Columns of equal name get a number: trial_id, trial_id_1."""
    names: list[str] = []
    for name in table.column_names:
        number, free = 0, name
        while free in names:
            number += 1
            free = f"{name}_{number}"
        names.append(free)
    return table.rename_columns(names)


def _check_is_one_select(connection: duckdb.DuckDBPyConnection, statement: str) -> None:
    statements = connection.extract_statements(statement)
    if len(statements) != 1:
        raise QueryError(f"one SELECT at a time: found {len(statements)} statements.")
    found = _kind(statements[0])
    if found != duckdb.StatementType.SELECT.name:
        raise QueryError(f"only SELECT: query reads the tables and never changes anything; found {found}.")


def _kind(statement: duckdb.Statement) -> str:
    """The statement's kind; duckdb's Python package has no name for the newest kinds (CONNECT), which are no SELECT."""
    try:
        return statement.type.name
    except ValueError:
        return statement.query.strip().partition(" ")[0].upper()


def _explained(message: str) -> str:
    missing = message.partition("Table with name ")[2].partition(" ")[0]
    return _no_table(missing) if missing else f"the statement can't be answered. {message}"


def _no_table(name: str) -> str:
    near = difflib.get_close_matches(name, SCHEMAS, 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"there is no table {name!r}; the tables are {', '.join(SCHEMAS)}.{hint}"
