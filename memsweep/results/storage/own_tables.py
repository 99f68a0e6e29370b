"""Tables own_<name>, which hold the rows of users' probes: which there are in a folder, and their columns.

Their columns are those that their parts have. Types in one folder agree, since a launch is refused where they would
not; in folders that were merged by hand, a column of several types is text.
"""

from __future__ import annotations

from contextlib import suppress

import pyarrow as pa

from memsweep.results.storage.location import Location, folders
from memsweep.results.storage.own_columns import common
from memsweep.results.storage.parts import PARTS, stored_schema
from memsweep.spec.schema import SCHEMAS
from memsweep.spec.schema.own_probes import PATH, PLACES, PREFIX, is_own_table


class Tables:
    """The tables of one results folder."""

    results: Location
    _schemas: dict[Location, pa.Schema]  # cache of the columns of parts, which never change

    def tables(self) -> list[str]:
        """Returns the names of all tables: memsweep's, then those of users' probes that are stored."""
        return [*SCHEMAS, *filter(is_own_table, folders(self.results, f"{PREFIX}*"))]

    def parts(self, table: str) -> list[Location]:
        """Returns the paths of a table's parts, sorted."""
        return sorted((self.results / table).glob(PARTS))

    def schema(self, table: str) -> pa.Schema:
        """Returns the columns of a table.  Raises StoreError for a damaged part of a user's probe."""
        return SCHEMAS[table] if table in SCHEMAS else _joined([PLACES, *self.stored_schemas(table)])

    def stored_schemas(self, table: str) -> list[pa.Schema]:
        """Returns the columns of each part of a table of a user's probe."""
        for path in self.parts(table):
            if path not in self._schemas:
                with suppress(FileNotFoundError):  # merged meanwhile
                    self._schemas[path] = stored_schema(path)
        return [schema for path, schema in self._schemas.items() if path.parent.name == table]


def declared_by(field: pa.Field) -> str:
    """Returns the import path of the probe that declared a stored column."""
    return str((field.metadata or {}).get(PATH, b""), "utf-8", "replace")


def _joined(schemas: list[pa.Schema]) -> pa.Schema:
    fields: dict[str, list[pa.Field]] = {}
    for schema in schemas:
        for field in schema:
            fields.setdefault(field.name, []).append(field)
    return pa.schema([some[-1].with_type(common(field.type for field in some)) for some in fields.values()])
