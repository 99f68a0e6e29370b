"""Merges small parts of a results folder into few large parts, and drops rows that readers skip or sweeps forgot.

It may run beside readers and writers: a merged part is complete before the parts it replaces are deleted, parts that a
writer adds meanwhile are not touched, and a reader that misses a part lists the parts again (`Store.read`). An
interrupted compaction leaves duplicate rows, which readers skip and the next compaction drops.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from memsweep.results.storage import forgotten
from memsweep.results.storage.location import Location, sizes
from memsweep.results.storage.parts import PARTS, attempt_pairs, unique
from memsweep.results.storage.store import LockedError, Store

TARGET_BYTES = 1 << 27
"""Approximate largest size of a merged part on disk. In memory a part may be ten times as large."""
LAST = ("trials", "wanted")
"""Compacted after the other tables: `trials` determines which attempts of these are dropped, and `wanted` which trials
are forgotten."""


class Compacted(NamedTuple):
    """Result of compacting one table."""

    table: str
    parts_before: int
    parts: int
    rows_dropped: int


class Deleted(NamedTuple):
    """What forgotten sweeps alone wanted; empty while a launch runs, which may want it again."""

    trials: pa.Array  # ids
    attempts: pa.Array  # in which no other trial ran
    is_forgotten: bool = False  # whether rows of `wanted` of forgotten launches are deleted


def compact(store: Store, target_bytes: int = TARGET_BYTES) -> list[Compacted]:
    """Compacts all tables, and returns one result per table that has parts.

    A lock allows one compaction at a time; a launch may run meanwhile, and then what forgotten sweeps wanted stays.
    Raises StoreError, before the parts concerned are deleted, if a part can't be read; LockedError.
    """
    with store.lock("compact"), ExitStack() as launches:
        deleted = _deleted(store, launches)
        tables = (*(name for name in store.tables() if name not in ("live", *LAST)), *LAST)
        return [_compact(store, table, target_bytes, deleted) for table in tables if store.parts(table)]


def _deleted(store: Store, launches: ExitStack) -> Deleted:
    """Returns what is deleted.  launches: prevents launches until it is closed."""
    if forgotten.are_there(store):
        with suppress(LockedError):
            launches.enter_context(store.lock("launch"))
            gone = forgotten.trials(store)
            rows = store.read("trials", ["trial_id", "attempt_id"])
            is_gone = pc.is_in(rows["trial_id"], value_set=gone)
            stay = pc.unique(rows["attempt_id"].filter(pc.invert(is_gone)))
            attempts = pc.unique(rows["attempt_id"].filter(is_gone))
            return Deleted(gone, attempts.filter(pc.invert(pc.is_in(attempts, value_set=stay))), True)
    return Deleted(*(pa.array([], pa.string()) for _ in range(2)))


def _compact(store: Store, table: str, target_bytes: int, deleted: Deleted) -> Compacted:
    before, dropped, is_merged = store.parts(table), 0, True
    while is_merged:  # merged parts are smaller than their sources, so they may be merged again
        is_merged = False
        for group in _groups(sizes(store.results / table, PARTS), target_bytes):
            rows = store.rows_in(table, group)
            kept = _seen(store, table, rows, deleted)
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


def _seen(store: Store, table: str, rows: pa.Table, deleted: Deleted) -> pa.Table:
    """Returns the rows without duplicates, lost attempts and deleted trials; rows of trials without an end are kept."""
    if {"trial_id", "attempt_id"} <= set(rows.column_names):
        is_out = pc.is_in(attempt_pairs(rows), value_set=store.lost_attempts())
        rows = rows.filter(pc.invert(pc.or_(is_out, pc.is_in(rows["trial_id"], value_set=deleted.trials))))
    elif "attempt_id" in rows.column_names:
        rows = rows.filter(pc.invert(pc.is_in(rows["attempt_id"], value_set=deleted.attempts)))
    elif table == "wanted" and deleted.is_forgotten:
        rows = rows.filter(forgotten.remembered(rows, store.read("forgotten", forgotten.LAUNCH)))
    return unique(rows, table)
