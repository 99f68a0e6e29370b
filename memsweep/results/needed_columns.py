"""Which columns a SELECT needs, so that a query reads these of a wide table, and not all."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import duckdb
import pyarrow as pa

SCAN = "PYTHON_ARROW_SCAN"
"""Name of the nodes in DuckDB's plan that read a table."""


def needed(
    connection: duckdb.DuckDBPyConnection, statement: str, schemas: Mapping[str, pa.Schema]
) -> dict[str, list[str] | None]:
    """Returns the columns of each table that must be read to answer one SELECT; None: all.

    These are the columns whose names occur in the statement, if DuckDB's plan for empty tables reads no others, as it
    does for `*` or a row as a value. Where nothing is named, as in count(*), the plan reads the first column. A natural
    join compares columns that no word names: it needs all.
    """
    everything = dict.fromkeys(schemas)
    if re.search(r"\bnatural\b", statement, re.IGNORECASE):
        return everything
    mentioned = {
        name: [column for column in schema.names if re.search(rf"\b{re.escape(column)}\b", statement, re.IGNORECASE)]
        for name, schema in schemas.items()
    }
    columns = {name: list(dict.fromkeys([schema.names[0], *mentioned[name]])) for name, schema in schemas.items()}
    for name, schema in schemas.items():
        connection.register(name, schema.empty_table())
    try:
        ((_, plan),) = connection.execute(f"explain (format json) {statement}").fetchall()
        read = {column for node in json.loads(plan) for column in _read(node)}
    except duckdb.Error:  # the answer raises it again, with the columns of stored rows
        return everything
    finally:
        for name in schemas:
            connection.unregister(name)
    allowed = {column for names in columns.values() for column in names}
    return {**columns} if read and read <= allowed else everything  # DESCRIBE reads none, and shows all


def _read(node: Mapping[str, Any]) -> Iterator[str]:
    """Yields the columns that the scans of a plan read."""
    if node["name"] == SCAN:
        columns = node["extra_info"].get("Projections", ())
        yield from [columns] if isinstance(columns, str) else columns
    for child in node.get("children", ()):
        yield from _read(child)
