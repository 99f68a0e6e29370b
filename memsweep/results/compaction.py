"""Merges small parts of a results folder into few large parts, and drops rows of attempts that readers skip.

It may run beside readers and writers: a merged part is complete before the parts it replaces are deleted, parts that a
writer adds meanwhile are not touched, and a reader that misses a part lists the parts again (`Store.read`). An
interrupted compaction leaves duplicate rows, which readers skip and the next compaction drops.
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
"""Approximate largest size of a merged part on disk. In memory a part may be ten times as large."""
TABLES = (*(name for name in SCHEMAS if name != "trials"), "trials")
"""Order of compaction: `trials` determines which attempts of the other tables are dropped, so it comes last."""


class Compacted(NamedTuple):
    """Result of compacting one table."""

    table: str
    parts_before: int
    parts: int
    rows_dropped: int


def compact(store: Store, target_bytes: int = TARGET_BYTES) -> list[Compacted]:
    """Compacts all tables, and returns one result per table that has parts.

    A lock allows one compaction at a time; a launch may run meanwhile.
    Raises StoreError, before the parts concerned are deleted, if a part can't be read; LockedError.
    """
    with store.lock("compact"):
        return [_compact(store, table, target_bytes) for table in TABLES if store.parts(table)]


def _compact(store: Store, table: str, target_bytes: int) -> Compacted:
    before, dropped, is_merged = store.parts(table), 0, True
    while is_merged:  # merged parts are smaller than their sources, so they may be merged again
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
    """Yields groups of parts to merge, each of about `target_bytes`; a larger part is a separate group.

    parts: part -> bytes.
    """
    group: list[Location] = []
    size = 0
    for path, part_bytes in sorted(parts.items()):
        if group and size + part_bytes > target_bytes:
            yield group
            group, size = [], 0
        group.append(path)
        size += part_bytes
    if group:
        yield group


def _seen(store: Store, table: str, rows: pa.Table) -> pa.Table:
    """Returns the rows without duplicates and without lost attempts; rows of trials that have not ended are kept."""
    if {"trial_id", "attempt_id"} <= set(rows.column_names):
        rows = rows.filter(pc.invert(pc.is_in(attempt_pairs(rows), value_set=store.lost_attempts())))
    return unique(rows, table)
