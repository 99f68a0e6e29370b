"""Reads the runs of ended trials from the tables. This file does not import MLflow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from memsweep.results.mlflow import projection
from memsweep.results.mlflow.projection import Plan, TrialRun, Wanted
from memsweep.results.storage.store import Store
from memsweep.spec.config import RECORDED
from memsweep.spec.options import SHARES, SHARES_AT_END

ENDS = ("trial_id", "attempt_id", "status", "finished_at", "wall_seconds", *RECORDED)
"""Columns of `trials` that say how a trial ended."""
_SUMS = dict.fromkeys(name for pair in SHARES.values() for name in pair)
_STEPS = ("trial_id", "step", *_SUMS, "gradient_norm")
_TRIALS = (
    *(*ENDS, "pack_id", "cause", "host", "code_fingerprint", "code_commit", "parameter_count", "step_count"),
    *(*_SUMS, *dict.fromkeys(name for pair in SHARES_AT_END.values() for name in pair)),
    *("gradient_norm", *projection.NUMBERS_AT_END),
)


def trial_runs(
    store: Store,
    plan: Plan,
    ends: Mapping[str, Mapping[str, Any]],
    tags_of: Callable[[Wanted], Mapping[str, str]],
) -> dict[str, TrialRun]:
    """Returns trial_id -> run of the trials with these ends, in order, with all of its tags.

    ends: trial_id -> its row of `trials`, with the columns ENDS.  tags_of: returns tags that are added.
    Raises StoreError.
    """
    attempts, trials = {end["attempt_id"] for end in ends.values()}, pa.array(list(ends), pa.string())

    def rows_of(table: str, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
        rows = store.rows_of(table, attempts, columns)
        return rows.filter(pc.is_in(rows["trial_id"], value_set=trials)).to_pylist()

    rows = {(row["trial_id"], version(row)): row for row in rows_of("trials", _TRIALS)}
    steps = _by_attempt(rows_of("steps", _STEPS))
    metrics = _by_attempt(rows_of("metrics") if any(end["metrics"] for end in ends.values()) else ())
    runs = {}
    for trial, end in ends.items():
        key, wanted = (trial, end["attempt_id"]), plan.trials[trial]
        curves = steps.get(key, ()), metrics.get(key, ())
        run = projection.trial_run(plan.sweep, wanted, rows[trial, version(end)], *curves)
        runs[trial] = replace(run, tags={**run.tags, **tags_of(wanted)})
    return runs


def version(row: Mapping[str, Any]) -> str:
    """Returns attempt and status of a trial's row or of its run's tags; a paused attempt may become pruned later."""
    return f"{row.get('attempt_id')} {row.get('status')}"


def _by_attempt(rows: Iterable[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Returns (trial_id, attempt_id) -> its rows."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["trial_id"], row["attempt_id"]), []).append(row)
    return groups
