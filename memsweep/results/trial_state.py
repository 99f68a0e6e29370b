"""How each trial that a sweep wants stands: settled, failed, running or missing. The one place that decides it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import pyarrow.compute as pc

from memsweep.results import wanted
from memsweep.results.storage.store import Store
from memsweep.spec.config import recorded
from memsweep.spec.schema import RETRIED, SETTLED, Status

End: TypeAlias = tuple[str, frozenset[str]]
"""How a stored trial ended, and what its probes left, as in `Store.ends`."""

NOT_STORED: End = ("", frozenset())
UNSETTLED = RUNNING, FAILED, MISSING = "running", "failed", "missing"
"""States of trials that are not settled; the others are the statuses in SETTLED."""
USABLE = (Status.FINISHED.value, Status.PRUNED.value)
"""Statuses whose last measurement is a result. A diverged trial has none: its weights are not numbers."""


def state(end: End, records: frozenset[str], *, is_running: bool = False) -> str:
    """Returns how a trial stands: settled where it has ended for good and has left all that is wanted.

    end: as stored, or NOT_STORED.  records: what its probes are to leave (`wanted.records`, `TrialConfig.recorded`).
    """
    status, stored = end
    if status in SETTLED and records <= stored:
        return status
    if is_running:
        return RUNNING
    return FAILED if status in RETRIED else MISSING


def end_of(row: Mapping[str, Any]) -> End:
    """How a trial ended, by its row of `trials`."""
    return row["status"], recorded(row["probes"], row["probe_steps"])


def states(store: Store) -> dict[str, dict[str, str]]:
    """Sweep -> trial_id -> state, of all that is wanted."""
    ends, running = store.ends(), store.running()
    names = ["sweep", "trial_id", "probes"]
    rows = store.current("wanted", names)
    if pc.any(pc.not_equal(rows["probes"], "")).as_py():
        rows = store.current("wanted", [*names, "configuration"])  # which is long
    found: dict[str, dict[str, str]] = {}
    for row in rows.to_pylist():
        trial_id = row["trial_id"]
        stands = state(ends.get(trial_id, NOT_STORED), wanted.records(row), is_running=trial_id in running)
        found.setdefault(row["sweep"], {})[trial_id] = stands
    return dict(sorted(found.items()))
