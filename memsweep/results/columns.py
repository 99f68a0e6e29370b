"""Suggests columns for unknown names in SQL statements. It parses DuckDB's messages and reads no table."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence

from memsweep.spec.config import FIELDS
from memsweep.spec.fields.hints import LIKENESS, fields_meant, hint
from memsweep.spec.options import SHARES, SHARES_AT_END
from memsweep.spec.schema import SCHEMAS

_NO_TABLE = re.compile(r'Referenced table "([^"]+)" not found')
_NO_COLUMN = re.compile(r'(?:Referenced column|does not have a column named) "([^"]+)"')


def advice(message: str, statement: str, tables: Mapping[str, Iterable[str]]) -> str:
    """Returns a suggestion for the unknown column in DuckDB's message; "" for any other message.

    tables: the tables that the statement names -> their columns.

    >>> advice('Referenced table "model" not found!', "select model.width from trials", {"trials": ["model_width"]})
    "there is no column 'model.width'. Did you mean 'model_width'?"
    """
    table, column = _NO_TABLE.search(message), _NO_COLUMN.search(message)
    if not table and not column:
        return ""
    first = (table or column)[1]  # type: ignore[index]
    dotted = re.search(rf'\b{re.escape(first)}"?\s*\.\s*"?(\w+)', statement, re.IGNORECASE)
    name = f"{first}.{dotted[1]}" if dotted else first
    names = [column for names_of_table in tables.values() for column in names_of_table]
    if table and (not dotted or dotted[1] in names):  # the unknown name is the table's
        return ""
    if share := {**SHARES, **SHARES_AT_END}.get(name):
        return f"there is no column {name!r}: a share is {share[0]} * 1.0 / {share[1]}."
    aliases = re.findall(r'"([^"]+)"', message.partition("Candidate bindings:")[2])  # include the statement's aliases
    if near := _near(name, [*names, *aliases]):
        return f"there is no column {name!r}. {hint(near)}"
    elsewhere = _near(name, [column for schema in SCHEMAS.values() for column in schema.names])
    if not elsewhere:
        return f"there is no column {name!r}; docs/tables.md lists all columns."
    homes = [table for table, schema in SCHEMAS.items() if elsewhere[0] in schema.names]
    return f"there is no column {name!r} in these tables; {elsewhere[0]!r} is a column of {', '.join(homes)}."


def _near(name: str, columns: Sequence[str]) -> list[str]:
    """Returns columns that a name may mean: its spelling with underscores, a field's column, or a similar spelling."""
    plain = name.lower().replace(".", "_")
    if plain in columns:
        return [plain]
    fields = [FIELDS[field].column for field in fields_meant(name, FIELDS)]
    spelled = difflib.get_close_matches(plain, dict.fromkeys(columns), 3, LIKENESS)
    return [field for field in fields if field in columns] or spelled
