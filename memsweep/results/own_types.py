"""Checks that own hyperparameters have the types that stored trials and other sweeps of a launch give them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import pyarrow as pa

from memsweep.results.storage.own_columns import stored_names
from memsweep.results.storage.parts import read_part
from memsweep.results.storage.store import Store
from memsweep.spec.fields import own
from memsweep.spec.schema import SCHEMAS
from memsweep.spec.sweep import Sweep, SweepError


def check(sweeps: Iterable[Sweep], store: Store | None) -> None:
    """Raises SweepError where an own field has values of different types, in these sweeps or in stored trials."""
    given = [(name, value, f"{sweep.name}: {place}") for sweep in sweeps for name, value, place in sweep.own_values()]
    if given and (sentences := list(own.conflicts([*(_stored(store) if store else ()), *given]))):
        raise SweepError(sentences)


def _stored(store: Store) -> Iterator[tuple[str, Any, str]]:
    """Yields (dotted field, value, where it stands), one value for each own column of each part of `trials`."""
    schema = pa.schema([SCHEMAS["trials"].field("trial_id")])
    for path in store.parts("trials"):
        with suppress(FileNotFoundError):  # merged meanwhile
            rows = read_part(path, schema, None)
            for name in stored_names(rows.column_names):
                for row in rows.filter(rows[name].is_valid()).slice(0, 1).to_pylist():
                    yield own.own_field(name), row[name], f"trial {row['trial_id']} in {store.results}"
