"""State of each trial that a sweep wants: settled, failed, running or missing. No other file decides it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import pyarrow.compute as pc

from memsweep.results import wanted
from memsweep.results.storage.store import Store
from memsweep.spec.config import recorded
from memsweep.spec.schema import RETRIED, SETTLED, Status

End: TypeAlias = tuple[str, frozenset[str]]
"""Status of a stored trial, and what its probes recorded, as in `Store.ends`."""

NOT_STORED: End = ("", frozenset())
UNSETTLED = RUNNING, FAILED, MISSING = "running", "failed", "missing"
"""States of trials that are not settled; the states of settled trials are the statuses in SETTLED."""
USABLE = (Status.FINISHED.value, Status.PRUNED.value)
"""Statuses whose last measurement is a result. A diverged trial has no result: its weights are not finite."""


def state(end: End, records: frozenset[str], *, is_running: bool = False) -> str:
    """Returns a trial's state: its status if it is settled and all requested probes are recorded, else UNSETTLED.

    end: as stored, or NOT_STORED.  records: what its probes must record (`wanted.records`, `TrialConfig.recorded`).
    """
    status, stored = end
    if status in SETTLED and records <= stored:
        return status
    if is_running:
        return RUNNING
    return FAILED if status in RETRIED else MISSING


def end_of(row: Mapping[str, Any]) -> End:
    """Returns a trial's end from its row of `trials`."""
    return row["status"], recorded(row["probes"], row["probe_steps"])


def states(store: Store) -> dict[str, dict[str, str]]:
    """Returns sweep -> trial_id -> state, for all wanted trials; sweeps are sorted by name."""
    ends, running = store.ends(), store.running()
    names = ["sweep", "trial_id", "probes"]
    rows = store.current("wanted", names)
    if pc.any(pc.not_equal(rows["probes"], "")).as_py():
        rows = store.current("wanted", [*names, "configuration"])  # configurations are long texts
    by_sweep: dict[str, dict[str, str]] = {}
    for row in rows.to_pylist():
        trial_id = row["trial_id"]
        stands = state(ends.get(trial_id, NOT_STORED), wanted.records(row), is_running=trial_id in running)
        by_sweep.setdefault(row["sweep"], {})[trial_id] = stands
    return dict(sorted(by_sweep.items()))
