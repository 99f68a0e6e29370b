"""Columns `own_<name>` of `trials`, which hold own hyperparameters: their types, and tables that differ in them.

A number column is int64 if all stored numbers are whole, else float64. Types in one folder agree, since a launch is
refused where they would not; in folders that were merged by hand, a column of several types is text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from memsweep.spec.fields.own import is_own_column
from memsweep.spec.schema.columns import column

MEANING = "own hyperparameter, named by the user"


def columns_of(rows: Sequence[Mapping[str, Any]]) -> list[pa.Field]:
    """Returns the own columns of rows that are about to be written, sorted by name."""
    values: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in row.items():
            if is_own_column(name):
                values.setdefault(name, []).append(value)
    return [column(name, common(map(_type, values[name])), MEANING) for name in sorted(values)]


def stored_names(names: Iterable[str], wanted: Sequence[str] | None = None) -> list[str]:
    """Returns the own columns among these names, sorted.  wanted: None: all of them."""
    return sorted(name for name in names if is_own_column(name) and (wanted is None or name in wanted))


def joined(
    tables: Sequence[pa.Table], wanted: Sequence[str] | None = None, order: Sequence[str] | None = None
) -> pa.Table:
    """Returns the rows of all tables, which may differ in their own columns; values of an absent column are null.

    wanted: own columns that the result has; None: those of any table.  order: of columns; None: own columns last.
    """
    first = tables[0].schema
    types: dict[str, list[pa.DataType]] = {name: [] for name in wanted or ()}
    for table in tables:
        for name in stored_names(table.column_names):
            types.setdefault(name, []).append(table.schema.field(name).type)
    if not types:
        return pa.concat_tables(tables)
    plain = [field for field in first if not is_own_column(field.name)]
    added = [column(name, common(types[name]), MEANING) for name in sorted(types)]
    schema = pa.schema([*plain, *added], metadata=first.metadata)
    schema = schema if order is None else pa.schema([schema.field(name) for name in order], metadata=first.metadata)
    return pa.concat_tables([_with_columns(table, schema) for table in tables])


def _with_columns(table: pa.Table, schema: pa.Schema) -> pa.Table:
    present = set(table.column_names)
    columns = [
        # not safe: a whole number beyond 2**53 is rounded, where the column is real
        table[field.name].cast(field.type, safe=False) if field.name in present else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def _type(value: Any) -> pa.DataType:
    if value is None:
        return pa.null()
    if isinstance(value, bool):
        return pa.bool_()
    return pa.int64() if isinstance(value, int) else pa.float64() if isinstance(value, float) else pa.string()


def common(types: Iterable[pa.DataType]) -> pa.DataType:
    """Returns the type that holds values of all these types; a column without values has the type null."""
    present = {kind for kind in types if not pa.types.is_null(kind)}
    if len(present) <= 1:
        return present.pop() if present else pa.null()
    return pa.float64() if present <= {pa.int64(), pa.float64()} else pa.string()
