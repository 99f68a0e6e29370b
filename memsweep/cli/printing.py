"""Rows as a table, CSV, JSON lines, Parquet or Markdown."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from enum import StrEnum
from numbers import Number
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


class Format(StrEnum):
    """Formats of printed rows."""

    TABLE = "table"
    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"
    MARKDOWN = "markdown"


def say(sentence: str) -> None:
    """Prints a message on stderr, separate from the output."""
    print(sentence, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Returns a time in its two largest units: 9.6 s, 48 s, 4 min 10 s, 2 h 5 min, 3 d 4 h."""
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        whole = round(seconds / part) * part
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{seconds:.1f} s" if 0 < seconds < 9.95 else f"{seconds:.0f} s"


def print_rows(
    rows: list[dict[str, Any]], output: Format, *, columns: Sequence[str] = (), vertical: bool = False
) -> None:
    """Prints rows with the same columns; `vertical` prints a single row as a column in the table format.

    columns: column names of an empty result, in formats for programs.
    """
    import pyarrow as pa

    from memsweep.spec.schema import cell

    if vertical and output is Format.TABLE:
        width = max(map(len, rows[0]))
        for name, value in rows[0].items():
            print(f"{name:<{width}}  {value}")
        return
    if rows:
        print_table(pa.Table.from_pylist([{k: cell(v) for k, v in row.items()} for row in rows]), output)
    elif output is not Format.TABLE:
        print_table(pa.table({name: pa.nulls(0) for name in columns}), output)


def print_table(table: pa.Table, output: Format) -> None:
    """Prints a table in this format on stdout."""
    if output is Format.PARQUET:
        import pyarrow.parquet as pq

        pq.write_table(_plain_columns(table, nested=True), sys.stdout.buffer)
    elif output is Format.CSV:
        import pyarrow.csv

        pyarrow.csv.write_csv(_plain_columns(table, nested=False), sys.stdout.buffer)
    elif output is Format.JSONL:
        for row in table.to_pylist():
            print(_json(row))
    elif output is Format.MARKDOWN:
        for row in [table.column_names, ["---"] * table.num_columns, *zip(*map(_texts, table.columns), strict=True)]:
            print("| " + " | ".join(text.replace("|", "\\|").replace("\n", " ") for text in row) + " |")
    else:
        for line in _aligned(table):
            print(line)


def _plain_columns(table: pa.Table, *, nested: bool) -> pa.Table:
    """Returns the table; columns that the format cannot store become text."""
    import pyarrow as pa

    for i, column in enumerate(table.columns):
        kind = column.type
        is_text = pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_duration(kind)
        if "interval" in str(kind) or (is_text and not nested):
            texts = [None if value is None else _shown(value) for value in column.to_pylist()]
            table = table.set_column(i, table.column_names[i], pa.array(texts, pa.string()))
    return table


def _aligned(table: pa.Table) -> Iterator[str]:
    """Yields lines of a header, a rule and rows, numbers right-aligned; plain text, to be copied and compared."""
    columns = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        texts = _texts(column)
        width = max(map(len, [name, *texts]))
        to_right = all(isinstance(value, Number) or value is None for value in column.to_pylist()) and texts
        columns.append([text.rjust(width) if to_right else text.ljust(width) for text in [name, "-" * width, *texts]])
    for row in zip(*columns, strict=True):
        yield "  ".join(row).rstrip()


def _texts(column: pa.ChunkedArray) -> list[str]:
    return [_shown(value) for value in column.to_pylist()]


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list | dict):
        return _json(value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _json(value: Any) -> str:
    """Returns the value as JSON, which has no infinite numbers: they become null."""
    import json

    return json.dumps(_finite(value), default=str, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
