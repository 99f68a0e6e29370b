"""Merges small parts of a results folder into few large parts, and drops rows that readers skip or sweeps forgot.

`compact` is the verb; a launch calls `merge_small` behind itself, which drops nothing but duplicates.
It may run beside readers and writers: a merged part is complete before the parts it replaces are deleted, parts that a
writer adds meanwhile are not touched, and a reader that misses a part lists the parts again (`Store.read`). An
interrupted compaction leaves duplicate rows, which readers skip and the next compaction drops.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import ExitStack, suppress
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from memsweep.results.live import LIVE
from memsweep.results.storage import forgotten, own_columns
from memsweep.results.storage.location import Location, sizes
from memsweep.results.storage.parts import PARTS, attempt_pairs, stored_schema, unique
from memsweep.results.storage.store import LockedError, Store

TARGET_BYTES = 1 << 27
"""Approximate largest size of a merged part on disk. In memory a part may be ten times as large."""
SMALL_BYTES = 1 << 22
"""Size on disk below which a launch merges a part. Larger parts stay, so that a row is not written again and again."""
BATCH, BATCH_BYTES = 128, 1 << 22
"""Most parts, and about the most bytes, that a launch merges at a time: less than a second of work."""
LEFT_ALONE = (LIVE, "wanted")
"""Tables that a launch does not merge: `live` is deleted as trials end, and `wanted` has few parts of many rows, which
take eighty times as much memory as disk."""
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
        tables = (*(name for name in store.tables() if name not in (LIVE, *LAST)), *LAST)
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
        for group in _groups(sorted(sizes(store.results / table, PARTS).items()), target_bytes):
            rows = store.rows_in(table, group)
            kept = _seen(store, table, rows, deleted)
            if len(group) == 1 and len(kept) == len(rows):
                continue
            _replace(store, table, group, kept)
            dropped, is_merged = dropped + len(rows) - len(kept), True
    return Compacted(table, len(before), len(store.parts(table)), dropped)


def merge_small(store: Store, most: int, is_due: Callable[[], bool], *, at_work: bool) -> None:
    """Merges small parts of each table that has more than `most` of them, a batch at a time while `is_due()`.

    Nothing happens while another compaction runs. Rows are kept, but for duplicates; parts with columns that this
    version does not know stay as they are.
    at_work: whether packs train: parts with rows of a pack without a row in `packs`, its last, stay as they are.
    Raises StoreError, before the parts concerned are deleted, if a part can't be read.
    """
    crowded = [table for table in store.tables() if table not in LEFT_ALONE and len(_small(store, table)) > most]
    if not crowded:
        return
    with suppress(LockedError), store.lock("compact", 0.0):
        ended = frozenset(store.read("packs", ["attempt_id"])["attempt_id"].to_pylist()) if at_work else None
        for table in crowded:
            while len(parts := _mergeable(store, table, ended)) > most:
                for group in _groups(parts.items(), BATCH_BYTES, BATCH):
                    if not is_due():
                        return
                    if len(group) > 1:
                        _replace(store, table, group, unique(store.rows_in(table, group), table))


def _small(store: Store, table: str) -> dict[Location, int]:
    """Returns small part -> bytes, the smallest first."""
    parts = sizes(store.results / table, PARTS)
    return {path: size for path, size in sorted(parts.items(), key=lambda part: part[1]) if size < SMALL_BYTES}


def _mergeable(store: Store, table: str, ended: frozenset[str] | None) -> dict[Location, int]:
    """Returns the small parts of known columns whose rows all belong to these attempts; None: to any."""
    columns = set(store.schema(table).names)
    parts = _small(store, table)
    schemas = zip(parts, store.each(stored_schema, list(parts)), strict=True)
    parts = {path: parts[path] for path, schema in schemas if _has_only(schema, columns)}
    if ended is None or "attempt_id" not in store.schema(table).names:
        return parts
    attempts = zip(parts, store.each(store.attempts_in, list(parts)), strict=True)
    return {path: parts[path] for path, of_part in attempts if of_part <= ended}


def _has_only(schema: pa.Schema, columns: Set[str]) -> bool:
    """Returns whether each column of a part is among these or holds an own hyperparameter."""
    names = set(schema.names)
    return names <= columns | set(own_columns.stored_names(names, None))


def _replace(store: Store, table: str, group: list[Location], rows: pa.Table) -> None:
    """Writes these rows as one part, then deletes the parts that held them."""
    merged = store.write_part(table, rows) if len(rows) else None
    for path in group:
        if path != merged:
            path.unlink(missing_ok=True)


def _groups(
    parts: Iterable[tuple[Location, int]], target_bytes: int, most: float = math.inf
) -> Iterator[list[Location]]:
    """Yields groups of parts to merge, each of about `target_bytes`; a larger part is a separate group.

    parts: (part, bytes).  most: parts of a group.
    """
    group: list[Location] = []
    size = 0
    for path, part_bytes in parts:
        if group and (size + part_bytes > target_bytes or len(group) >= most):
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
