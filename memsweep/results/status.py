"""How far each sweep is: wanted trials against what the tables say of them."""

from __future__ import annotations

from collections import Counter
from typing import Any

from memsweep.results.store import Store
from memsweep.schema import RETRIED, SETTLED, Status, error_line


def overview(store: Store) -> list[dict[str, Any]]:
    """One row a sweep: wanted, finished, other ends, running, failed and missing trials."""
    ends = _ends(store)
    running = store.running()
    wanted = store.current("wanted", ["sweep", "trial_id"])
    sweeps: dict[str, Counter[str]] = {}
    for sweep, trial_id in zip(wanted["sweep"].to_pylist(), wanted["trial_id"].to_pylist(), strict=True):
        end = ends.get(trial_id, "")
        if end in SETTLED:
            kind = end
        elif trial_id in running:
            kind = "running"
        else:
            kind = "failed" if end in RETRIED else "missing"
        sweeps.setdefault(sweep, Counter())[kind] += 1
    names = (Status.FINISHED.value, Status.PRUNED.value, Status.DIVERGED.value, "running", "failed", "missing")
    return [
        {"sweep": sweep, "wanted": counts.total(), **{name: counts[name] for name in names}}
        for sweep, counts in sorted(sweeps.items())
    ]


def failures(store: Store) -> list[tuple[str, str, str]]:
    """(trial, status, the error's own line and advice) of each trial that an error ended."""
    table = store.trials(["trial_id", "status", "cause"])
    rows = zip(*(table[name].to_pylist() for name in ("trial_id", "status", "cause")), strict=True)
    return [
        (trial, status, f"{error_line(cause)}. {Status(status).advice}")
        for trial, status, cause in rows
        if status in RETRIED
    ]


def _ends(store: Store) -> dict[str, str]:
    table = store.trials(["trial_id", "status"])
    return dict(zip(table["trial_id"].to_pylist(), table["status"].to_pylist(), strict=True))
