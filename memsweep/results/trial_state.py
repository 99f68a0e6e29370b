"""State of a trial, from its stored row: settled, failed, running or missing. No other file decides it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from memsweep.spec.config import RECORDED, recorded
from memsweep.spec.schema import Status

SETTLED = (Status.FINISHED, Status.PRUNED, Status.DIVERGED)
"""Statuses of trials that are never run again."""
RETRIED = (Status.OUT_OF_MEMORY, Status.FAILED, Status.QUARANTINED)
"""Statuses of trials that an error ended, and that run again only with --retry."""
USABLE = (Status.FINISHED.value, Status.PRUNED.value)
"""Statuses whose last measurement is a result. A diverged trial has no result: its weights are not finite."""
UNPRUNED = (Status.FINISHED.value, Status.DIVERGED.value)
"""Statuses of settled trials that no search ended early."""
UNSETTLED = RUNNING, FAILED, MISSING = "running", "failed", "missing"
"""States of trials that are not settled; the states of settled trials are the statuses in SETTLED."""

End: TypeAlias = tuple[str, frozenset[str]]
"""Status of a stored trial, and what it recorded beside its measurements, as in `Store.ends`."""

NOT_STORED: End = ("", frozenset())


def state(end: End, records: frozenset[str], *, is_running: bool = False) -> str:
    """Returns a trial's state: its status if it is settled and all it must record is stored, else UNSETTLED.

    end: as stored, or NOT_STORED.  records: what it must record (`wanted.records`, `TrialConfig.recorded`).
    """
    status, stored = end
    if is_settled(status) and records <= stored:
        return status
    if is_running:
        return RUNNING
    return FAILED if is_failed(status) else MISSING


def ends(rows: pa.Table) -> dict[str, End]:
    """Returns trial_id -> its end, from the columns trial_id, status and RECORDED; equal ends are one object."""
    names = ["status", *RECORDED]
    texts = pc.binary_join_element_wise(*(pc.fill_null(rows[name], "") for name in names), "\n")
    codes = texts.combine_chunks().dictionary_encode()
    distinct = [text.split("\n") for text in codes.dictionary.to_pylist()]
    shared: list[End] = [(status, recorded(*items)) for status, *items in distinct]
    return dict(zip(rows["trial_id"].to_pylist(), map(shared.__getitem__, codes.indices.to_pylist()), strict=True))


def ended(rows: pa.Table) -> pa.Table:
    """Returns the rows of trials that are not paused.  rows: with the column status."""
    return rows.filter(pc.invert(pc.equal(rows["status"], Status.INTERRUPTED.value)))


def failed(rows: pa.Table) -> pa.Table:
    """Returns the rows of trials that an error ended.  rows: with the column status."""
    return rows.filter(pc.is_in(rows["status"], value_set=pa.array([status.value for status in RETRIED])))


def end_of(row: Mapping[str, Any]) -> End:
    """Returns a trial's end from its row of `trials`."""
    return row["status"], recorded(*(row[name] for name in RECORDED))


def is_settled(status: str) -> bool:
    """Returns whether a trial with this status is never trained again; "" is the status of a trial without a row."""
    return status in SETTLED


def is_failed(status: str) -> bool:
    """Returns whether an error ended a trial with this status."""
    return status in RETRIED


def is_paused(status: str) -> bool:
    """Returns whether a trial with this status goes on from its checkpoint in the next launch."""
    return status == Status.INTERRUPTED
