"""Reads the runs of ended trials from the tables, curves by column. This file does not import MLflow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memsweep.results.mlflow import projection
from memsweep.results.mlflow.projection import Curve, Plan, TrialRun, Wanted
from memsweep.results.storage.parts import attempt_pairs
from memsweep.results.storage.store import Store
from memsweep.spec.config import RECORDED
from memsweep.spec.options import SHARES, SHARES_AT_END

ENDS = ("trial_id", "attempt_id", "status", "finished_at", "wall_seconds", *RECORDED)
"""Columns of `trials` that say how a trial ended."""
_COUNTS = (*dict.fromkeys(name for pair in SHARES.values() for name in pair), "gradient_norm")
_TRIALS = (
    *(*ENDS, "pack_id", "cause", "host", "code_fingerprint", "code_commit", "parameter_count", "step_count"),
    *dict.fromkeys((*_COUNTS, *(name for pair in SHARES_AT_END.values() for name in pair))),
    *projection.NUMBERS_AT_END,
)

Values = dict[str, dict[int, float | None]]
"""Curves of the user's metrics of a trial: name -> step -> value."""


def trial_runs(
    store: Store,
    plan: Plan,
    ends: Mapping[str, Mapping[str, Any]],
    tags_of: Callable[[Wanted], Mapping[str, str]],
) -> dict[str, TrialRun]:
    """Returns trial_id -> run of the trials with these ends, in order, with all of its tags.

    ends: trial_id -> its row of `trials`, with the columns ENDS; at least one.  tags_of: returns tags that are added.
    Raises StoreError.
    """
    attempts, trials = {end["attempt_id"] for end in ends.values()}, pa.array(list(ends), pa.string())

    def rows_of(table: str, columns: Sequence[str] | None = None) -> pa.Table:
        rows = store.rows_of(table, attempts, columns)
        return rows.filter(pc.is_in(rows["trial_id"], value_set=trials))

    stored = rows_of("trials", _TRIALS)
    places = {(row["trial_id"], version(row)): i for i, row in enumerate(stored.select(ENDS).to_pylist())}
    chosen = stored.take([places[trial, version(end)] for trial, end in ends.items()])
    rows = chosen.to_pylist()
    metrics = rows_of("metrics").to_pylist() if any(end["metrics"] for end in ends.values()) else ()
    values = _values_by_attempt(metrics)
    user_values = [values.get((row["trial_id"], row["attempt_id"]), {}) for row in rows]
    steps = rows_of("steps", ("trial_id", "step", *_COUNTS))
    runs = {}
    for row, curves in zip(rows, _curves(chosen, rows, steps, user_values), strict=True):
        wanted = plan.trials[row["trial_id"]]
        run = projection.trial_run(plan.sweep, wanted, row, curves)
        runs[wanted.trial_id] = replace(run, tags={**run.tags, **tags_of(wanted)})
    return runs


def version(row: Mapping[str, Any]) -> str:
    """Returns attempt and status of a trial's row or of its run's tags; a paused attempt may become pruned later."""
    return f"{row.get('attempt_id')} {row.get('status')}"


def _values_by_attempt(metrics: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], Values]:
    """Returns (trial_id, attempt_id) -> the values of the user's metrics.  metrics: rows of the table."""
    values: dict[tuple[str, str], Values] = {}
    for row in metrics:
        name = f"{row['part']}_{row['metric'].replace(':', '.')}.{row['name']}"
        of_attempt = values.setdefault((row["trial_id"], row["attempt_id"]), {})
        of_attempt.setdefault(name, {})[row["step"]] = row["value"]
    return values


class _Measurements(NamedTuple):
    """The measurements of trials whose values MLflow gets, in the order of the trials and of the steps."""

    bounds: np.ndarray  # [trials + 1], where the measurements of each trial begin, and the end of the last one's
    steps: np.ndarray  # [measurements]
    milliseconds: np.ndarray  # [measurements], since 1970
    counts: pa.Table  # [measurements] rows of the columns _COUNTS


def _curves(
    trials: pa.Table, rows: Sequence[Mapping[str, Any]], steps: pa.Table, user_values: Sequence[Values]
) -> list[dict[str, Curve]]:
    """Returns [trials] the curves of each trial, by key.

    trials: a row of `trials` per trial.  rows: the same rows.  steps: rows of `steps`.  user_values: [trials].
    """
    names = [sorted(values)[: projection.MOST_OWN_CURVES] for values in user_values]
    most = [_most_points(row, len(names_of_trial)) for row, names_of_trial in zip(rows, names, strict=True)]
    kept = _measurements(trials, rows, steps, most)
    numbers = {name: np.asarray(kept.counts[name], np.float64) for name in _COUNTS}  # NaN: no value
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = {name: numbers[total] / numbers[count] for name, (total, count) in SHARES.items()}
    curves: list[dict[str, Curve]] = [{} for _ in rows]
    for name, values in {**shares, "gradient_norm": numbers["gradient_norm"]}.items():
        finite = np.flatnonzero(np.isfinite(values))
        of_all = Curve(*(column[finite].tolist() for column in (values, kept.milliseconds, kept.steps)))
        bounds = np.searchsorted(finite, kept.bounds).tolist()
        for curves_of_trial, (begin, end) in zip(curves, pairwise(bounds), strict=True):
            if begin < end:
                curves_of_trial[name] = Curve(*(column[begin:end] for column in of_all))
    for i, (begin, end) in enumerate(pairwise(kept.bounds)):
        for name in names[i]:
            values = np.array([user_values[i][name].get(step) for step in kept.steps[begin:end].tolist()], np.float64)
            finite = np.flatnonzero(np.isfinite(values))
            if len(finite):
                times, at = kept.milliseconds[begin:end], kept.steps[begin:end]
                curves[i][name] = Curve(*(column[finite].tolist() for column in (values, times, at)))
    return curves


def _most_points(trial: Mapping[str, Any], user_curves: int) -> int:
    """Returns the largest number of points of each curve of a trial."""
    shares = sum(projection.share(trial, *columns) is not None for columns in SHARES.values())
    return min(projection.CURVE_POINTS, projection.MOST_POINTS // (shares + 1 + user_curves))


def _measurements(
    trials: pa.Table, rows: Sequence[Mapping[str, Any]], steps: pa.Table, most: Sequence[int]
) -> _Measurements:
    """Returns the measurements of each trial, the last of them from its row of `trials`.

    trials: a row of `trials` per trial.  rows: the same rows.  steps: rows of `steps`.  most: [trials] measurements.
    """
    of_trial = pc.index_in(attempt_pairs(steps), value_set=attempt_pairs(trials))
    steps, trial = steps.filter(of_trial.is_valid()), of_trial.drop_null().to_numpy()
    greatest = np.zeros(len(rows), np.int64)
    np.maximum.at(greatest, trial, steps["step"].to_numpy())
    last = np.array([count if (count := row["step_count"]) is not None else greatest[i] for i, row in enumerate(rows)])
    trial, step = np.append(trial, np.arange(len(rows))), np.append(steps["step"].to_numpy(), last)
    order = np.lexsort((step, trial))  # stable: of equal steps the row of `trials` is the last
    differs = (np.diff(trial[order]) != 0) | (np.diff(step[order]) != 0)
    order = order[np.append(differs, True)]
    bounds = np.searchsorted(trial[order], np.arange(len(rows) + 1))
    pieces = [
        order[projection.thinned(range(begin, end), count)]
        for (begin, end), count in zip(pairwise(bounds.tolist()), most, strict=True)
    ]
    order = np.concatenate(pieces)
    bounds = np.cumsum([0, *map(len, pieces)])
    trial, step = trial[order], step[order]
    ended = np.array([projection.milliseconds(row) for row in rows])[trial]
    seconds, last = np.array([row["wall_seconds"] or 0.0 for row in rows])[trial], last[trial]
    left = np.rint(1000 * seconds * (1 - step / np.where(last, last, 1)))
    times = np.where(last, np.maximum(1, ended - left), ended).astype(np.int64)
    counts = pa.concat_tables([steps.select(_COUNTS), trials.select(_COUNTS)]).take(order)
    return _Measurements(bounds, step, times, counts)
