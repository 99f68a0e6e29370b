"""Merges the many small parts of a results folder into few, and drops rows of attempts that no reader sees.

Safe beside readers and writers: merged parts are whole before those they hold are deleted, what a writer adds meanwhile
is not touched, and whoever finds a part gone looks again (`Store.read`). Interrupted, it leaves rows twice, which
readers pass over and the next compaction drops.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from memsweep.results.storage.location import Location, sizes
from memsweep.results.storage.parts import PARTS, attempt_pairs, unique
from memsweep.results.storage.store import Store
from memsweep.spec.schema import SCHEMAS

TARGET_BYTES = 1 << 27
"""Of a merged part on the disk, about, at most. In memory it may be ten times as large."""
TABLES = (*(name for name in SCHEMAS if name != "trials"), "trials")
"""In this order: `trials` says which attempts of the others nobody sees, so it loses its own rows last."""


class Compacted(NamedTuple):
    """What became of one table."""

    table: str
    parts_before: int
    parts: int
    rows_dropped: int


def compact(store: Store, target_bytes: int = TARGET_BYTES) -> list[Compacted]:
    """A row a table that has parts. Raises StoreError, before anything is deleted, where a part can't be read.

    One compaction at a time; a launch may go on.
    """
    with store.lock("compact"):
        return [_compact(store, table, target_bytes) for table in TABLES if store.parts(table)]


def _compact(store: Store, table: str, target_bytes: int) -> Compacted:
    before, dropped, is_merged = store.parts(table), 0, True
    while is_merged:  # merged parts are smaller than what they hold, and may find room in one another
        is_merged = False
        for group in _groups(sizes(store.results / table, PARTS), target_bytes):
            rows = store.rows_in(table, group)
            kept = _seen(store, table, rows)
            if len(group) == 1 and len(kept) == len(rows):
                continue
            merged = store.write_part(table, kept) if len(kept) else None
            for path in group:
                if path != merged:
                    path.unlink(missing_ok=True)
            dropped, is_merged = dropped + len(rows) - len(kept), True
    return Compacted(table, len(before), len(store.parts(table)), dropped)


def _groups(parts: Mapping[Location, int], target_bytes: int) -> Iterator[list[Location]]:
    """Parts that are merged into one, each group of about `target_bytes`; large parts are groups of their own.

    parts: with their bytes.
    """
    group: list[Location] = []
    size = 0
    for path, own in sorted(parts.items()):
        if group and size + own > target_bytes:
            yield group
            group, size = [], 0
        group.append(path)
        size += own
    if group:
        yield group


def _seen(store: Store, table: str, rows: pa.Table) -> pa.Table:
    """Rows once, without those of attempts that lost against another of their trial; what has no end yet is kept."""
    if {"trial_id", "attempt_id"} <= set(rows.column_names):
        rows = rows.filter(pc.invert(pc.is_in(attempt_pairs(rows), value_set=store.lost_attempts())))
    return unique(rows, table)
