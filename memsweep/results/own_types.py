"""Checks that own hyperparameters and columns of own probes have the types that stored rows and other sweeps give."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import pyarrow as pa

from memsweep.results.storage.own_columns import stored_names
from memsweep.results.storage.own_tables import declared_by
from memsweep.results.storage.parts import read_part
from memsweep.results.storage.store import Store
from memsweep.spec.config import TrialConfig
from memsweep.spec.fields import own
from memsweep.spec.schema import SCHEMAS, own_probes
from memsweep.spec.sweep import Sweep, SweepError


def check(sweeps: Iterable[Sweep], store: Store | None) -> None:
    """Raises SweepError where an own field has values of different types, in these sweeps or in stored trials."""
    given = [(name, value, f"{sweep.name}: {place}") for sweep in sweeps for name, value, place in sweep.own_values()]
    if given and (sentences := list(own.conflicts([*(_stored(store) if store else ()), *given]))):
        raise SweepError(sentences)


def table_problems(trials: Iterable[TrialConfig], store: Store | None) -> list[str]:
    """Returns a sentence for each table of a user's probe that these trials, or stored rows, use differently.

    A table holds the rows of one import path, and each of its columns has one type.  Raises ConfigError.
    """
    sentences, declared = [], dict[str, str]()
    for path in dict.fromkeys(path for trial in trials for path in own_probes.paths(trial.probes)):
        table, schema = own_probes.table_of(path), own_probes.schema_of(path)
        if (other := declared.setdefault(table, path)) != path:
            sentences.append(f"probes = {path!r} and {other!r}: both name the table {table}; rename one of them.")
        elif store is not None:
            sentences += _table_conflicts(path, schema, store, table)
    return sentences


def _table_conflicts(path: str, schema: pa.Schema, store: Store, table: str) -> Iterator[str]:
    fields = [
        field for stored in store.stored_schemas(table) for field in stored if field.name not in own_probes.PLACES.names
    ]
    where = store.results / table
    if others := sorted({declared_by(field) for field in fields} - {path}):
        yield (
            f"probes = {path!r}: {where} holds rows of {others[0]!r}, and one table holds the rows of one probe; "
            "rename the probe, or launch into another --results."
        )
        return
    for field in fields:
        position = schema.get_field_index(field.name)
        if position >= 0 and schema.field(position).type != field.type:
            yield (
                f"probes = {path!r}: column {field.name} is declared as {_name(schema.field(position).type)}, and is "
                f"{_name(field.type)} in {where}: the values of a column have one type; rename the column, or launch "
                "into another --results."
            )
            return


def _name(kind: pa.DataType) -> str:
    return next((name for name, other in own_probes.KINDS.items() if other == kind), str(kind))


def _stored(store: Store) -> Iterator[tuple[str, Any, str]]:
    """Yields (dotted field, value, where it stands), one value for each own column of each part of `trials`."""
    schema = pa.schema([SCHEMAS["trials"].field("trial_id")])
    for path in store.parts("trials"):
        with suppress(FileNotFoundError):  # merged meanwhile
            rows = read_part(path, schema, None)
            for name in stored_names(rows.column_names):
                for row in rows.filter(rows[name].is_valid()).slice(0, 1).to_pylist():
                    yield own.own_field(name), row[name], f"trial {row['trial_id']} in {store.results}"
