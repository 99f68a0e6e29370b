"""Differences of two sweeps, or of two versions of a user's code, at the settings and seeds that both have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from memsweep.analysis.core import figures, frames, statistics
from memsweep.results import notes
from memsweep.results.storage.store import Store, StoreError
from memsweep.spec.options import SHARES, SHARES_AT_END

MEASURES = {**SHARES, **SHARES_AT_END}
"""Name of a measure -> (sum, count) columns of `trials`."""
USUAL = ("validation_accuracy", "validation_squared_error", "validation_loss_nats")
"""Measures of which the first that has values is compared by default."""
ALL = "mean of all settings"
MOST_LABELS = 40
"""Most settings that a figure names."""


class Difference(NamedTuple):
    """Second minus first, by setting."""

    first: str
    second: str
    apart: dict[str, tuple[str, str]]  # field in which the two differ as a whole -> its values
    settings: int  # in both
    rows: pd.DataFrame
    """measure, setting, columns of the fields that differ between settings, first and second (means over the seeds in
    both), estimate (mean of second - first over seeds), low, high (95 % bootstrap interval over seeds), seeds (in both,
    with a result in both), missing (in both, without)."""

    def __str__(self) -> str:
        fields = [f"{name} ({first}, {second})" for name, (first, second) in self.apart.items()]
        where = f"they differ in {', '.join(fields)}" if fields else "their fields are the same"
        return f"{self.second} - {self.first}: {self.settings:,} settings are in both; {where}."


def compare(first: str, second: str, store: Store, measures: Sequence[str] = ()) -> Difference:
    """Returns the differences of two sweeps at the settings that both have, paired by seed.

    first, second: SWEEP, or SWEEP@CODE for the trials that ran one version of a user's code: the beginning of its
    fingerprint, as in `trials.code_fingerprint`. A field that has one value in each, but not the same, makes no setting
    differ: it is what the two are compared for.
    measures: names of MEASURES; default: the first of USUAL that has values.
    Raises StoreError for an unknown sweep, code or measure, and where no setting and seed is in both.
    """
    if unknown := [name for name in measures if name not in MEASURES]:
        raise StoreError(f"there is no measure {unknown[0]!r}; the measures are {', '.join(MEASURES)}.")
    sides = _trials(first, store), _trials(second, store)
    both = pd.concat(sides, ignore_index=True)
    fields = frames.setting_fields(both)
    values = {name: [_distinct(side, name) for side in sides] for name in fields}
    apart = {name: (a[0], b[0]) for name, (a, b) in values.items() if len(a) == len(b) == 1 and a != b}
    keys = [name for name in frames.varying(both) if name not in apart]
    pairs = sides[0].merge(sides[1], on=[*keys, "seed"], suffixes=("_first", "_second"))
    if pairs.empty:
        raise StoreError(_nothing_in_common(first, second, sides, keys))
    chosen = list(measures) or [next((name for name in USUAL if _has_values(pairs, name)), USUAL[0])]
    rows = pd.concat([_by_setting(pairs, keys, name) for name in chosen], ignore_index=True)
    by_field = {frames.field_of(name): pair for name, pair in apart.items()}
    return Difference(first, second, by_field, _count(pairs, keys), rows)


def draw(difference: Difference, ax: Axes) -> Axes:
    """Draws the first measure's differences with their intervals, a line a setting; returns the axis."""
    measure = difference.rows["measure"].iloc[0]
    rows = difference.rows[difference.rows["measure"] == measure]
    if rows["estimate"].isna().all():
        return figures.empty(ax, f"no setting has a {measure.replace('_', ' ')} in both")
    by_size = len(rows) > MOST_LABELS
    rows = rows.sort_values("estimate") if by_size else rows.iloc[::-1]
    places = np.arange(len(rows))
    errors = np.stack([rows["estimate"] - rows["low"], rows["high"] - rows["estimate"]])
    ax.axvline(0, color="0.45", linewidth=0.9, linestyle="--")
    ax.errorbar(rows["estimate"], places, xerr=np.nan_to_num(errors), fmt="o", ms=3, elinewidth=0.7, capsize=0)
    ax.set_yticks([] if by_size else places, [] if by_size else rows["setting"].tolist())
    ax.set_ylabel("settings, by difference" if by_size else "")
    ax.set_xlabel(f"{measure.replace('_', ' ')}: {difference.second} - {difference.first}")
    ax.set_ylim(-0.7, len(rows) - 0.3)
    figures.set_height(ax, max(2.0, 0.6 + 0.16 * min(len(rows), MOST_LABELS)))
    return ax


def _trials(name: str, store: Store) -> pd.DataFrame:
    sweep, _, code = name.partition("@")
    notes.check_sweep(store, sweep)
    if not code:
        return frames.read(frames.TRIALS, sweep, store)
    wanted = store.current("wanted", ["sweep", "trial_id"]).to_pandas()
    trial_ids = wanted["trial_id"][wanted["sweep"] == sweep]
    stored = store.read("trials", ["trial_id", "code_fingerprint"]).to_pandas()
    codes = stored["code_fingerprint"][stored["trial_id"].isin(trial_ids)].dropna().unique()
    matching = [fingerprint for fingerprint in codes if fingerprint.startswith(code)]
    if len(matching) != 1:
        raise StoreError(
            f"{name}: {len(matching)} versions of code of sweep {sweep!r} begin with {code!r}; "
            f"there: {', '.join(sorted(codes)) or 'none'}."
        )
    view = Store(store.results).accepting({trial_id: matching for trial_id in trial_ids})
    trials = frames.read(frames.TRIALS, sweep, view)
    of_code: pd.DataFrame = trials[trials["code_fingerprint"] == matching[0]]
    return of_code


def _distinct(trials: pd.DataFrame, column: str) -> list[str]:
    """Returns the distinct values of a column as texts, in the order of trials; without the column, of None."""
    return [frames.text(value) for value in (trials[column].unique() if column in trials else [None])]


def _has_values(pairs: pd.DataFrame, measure: str) -> bool:
    return bool(_paired(pairs, measure).notna().all(axis=1).any())


def _paired(pairs: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Returns the measure of both sides, [pairs, 2]; NaN for a trial without a result."""
    part, whole = MEASURES[measure]
    values = {}
    for side in ("first", "second"):
        is_usable = pairs[f"status_{side}"].isin(frames.USABLE)
        values[side] = frames.share(pairs[f"{part}_{side}"], pairs[f"{whole}_{side}"]).where(is_usable)
    return pd.DataFrame(values)


def _by_setting(pairs: pd.DataFrame, keys: Sequence[str], measure: str) -> pd.DataFrame:
    values = _paired(pairs, measure)
    has_both = values.notna().all(axis=1)
    frame = pairs[[*keys, "seed"]].join(values.where(has_both)).assign(value=values["second"] - values["first"])
    frame["setting"] = frames.labels(frame, keys) if keys else ALL
    order = frame["setting"].unique()
    rows = _summary(frame, ["setting", *keys])
    rows = rows.sort_values("setting", key=lambda column: column.map({name: i for i, name in enumerate(order)}))
    if len(rows) > 1:
        whole = frame.groupby("seed")[["value", "first", "second"]].mean(skipna=False).reset_index()
        rows = pd.concat([_summary(whole.assign(setting=ALL), ["setting"]), rows])
    return rows.assign(measure=measure)[["measure", "setting", *keys, "first", "second", *_ESTIMATE]]


_ESTIMATE = ("estimate", "low", "high", "seeds", "missing")


def _summary(frame: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    means = frame.groupby(by, dropna=False, sort=True)[["first", "second"]].mean().reset_index()
    return statistics.over_seeds(frame, by, "value").merge(means, on=by)


def _count(pairs: pd.DataFrame, keys: Sequence[str]) -> int:
    return len(pairs[list(keys)].drop_duplicates()) if keys else 1


def _nothing_in_common(first: str, second: str, sides: tuple[pd.DataFrame, pd.DataFrame], keys: Sequence[str]) -> str:
    pairs = {name: [_distinct(side, name) for side in sides] for name in [*keys, "seed"]}
    reasons = [
        f"{frames.field_of(name)} is {' or '.join(a[:3])} in the first and {' or '.join(b[:3])} in the second"
        for name, (a, b) in pairs.items()
        if not set(a) & set(b)
    ]
    why = f": {'; '.join(reasons)}" if reasons else ""
    return f"{first} and {second} have no setting and seed in common{why}."
