"""Curves of trials in training, for the report's section "In training". They are no estimates, and none is stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from memsweep.analysis.core import figures, frames
from memsweep.results import live
from memsweep.results.storage.store import Store

SETTINGS = len(figures.CATEGORIES)
"""Most settings drawn: a colour each."""
TRIALS_A_SETTING = 3
"""Most trials drawn of a setting."""
POINTS = 200
"""Most measurements drawn of a curve, evenly chosen, the last one included."""

ACCURACY, RIGHT_ANSWERS, SQUARED_ERROR = "accuracy", "share of right answers", "mean squared error"
MEASURES = {
    # measure: (part, whole) of train_ and validation_
    SQUARED_ERROR: ("squared_error_sum", "target_count"),
    RIGHT_ANSWERS: ("target_correct_count", "target_count"),
    ACCURACY: ("correct_count", "count"),
}
"""The first of which a trial has a value is the measure of its curves."""
TRAIN, VALIDATION = "train", "validation"
DASHES = {VALIDATION: "-", TRAIN: "--"}


@dataclass(frozen=True)
class Curves:
    """Trials in training of one sweep with the same measure, the drawn ones as a figure and its summary."""

    figure: figures.Figure
    summary: pd.DataFrame  # trial_id, setting, seed, step, train, validation
    count: str  # of trials in training, drawn and not drawn


def of_sweeps(store: Store) -> dict[str, pd.DataFrame]:
    """Returns sweep -> measurements of its trials in training; sweeps without such trials are left out.

    While no launch runs, these are the trials that were in training when a launch was killed.
    """
    rows = live.rows(store).to_pandas()
    if store.is_locked():
        rows = rows[rows["trial_id"].isin(store.running())]  # others wait for their turn since a former launch
    if rows.empty:
        return {}
    wanted = store.current("wanted", ["sweep", "trial_id"]).to_pandas().merge(rows, on="trial_id")
    return {str(sweep): measured.drop(columns="sweep") for sweep, measured in wanted.groupby("sweep")}


def newest(measured: pd.DataFrame) -> list[tuple[object, ...]]:
    """Returns what identifies these measurements: attempt, begin, number and last step of each trial."""
    by = measured.groupby(["trial_id", "attempt_id", "begun_at"])["step"].agg(["count", "max"])
    return list(by.reset_index().itertuples(index=False, name=None))


def curves(sweep: str, measured: pd.DataFrame, store: Store) -> Iterator[Curves]:
    """Yields the curves of a sweep, by measure; tasks of one kind have one measure.  measured: as from `of_sweeps`."""
    trials = frames.read(frames.TRIALS, sweep, store)
    fields = frames.varying(trials)
    names = frames.labels(trials, fields) if fields else pd.Series("all settings equal", trials.index)
    trials = pd.DataFrame({"trial_id": trials["trial_id"], "setting": names, "seed": trials["seed"]})
    rows = trials.merge(_with_measure(measured), on="trial_id")  # in the order of the sweep
    for measure, alike in rows.groupby("measure", sort=False):
        drawn, count = _drawn(alike)
        yield Curves(_figure(sweep, str(measure)), drawn, count)


def draw(summary: pd.DataFrame, ax: Axes, measure: str) -> Axes:
    """Draws a solid curve of validation and a dashed one of training for each trial, coloured by setting."""
    settings = summary["setting"].unique()
    for number, setting in enumerate(settings):
        color = figures.CATEGORIES[number % SETTINGS]
        ax.plot(np.nan, np.nan, color=color, label=setting, gid=f"{number}/")  # for the legend
        for i, (_, trial) in enumerate(summary[summary["setting"] == setting].groupby("trial_id", sort=False)):
            for part, dashes in DASHES.items():
                label = f"_{setting}, seed {trial['seed'].iloc[0]}, {part}"
                marker = "o" if len(trial) == 1 else ""
                (line,) = ax.plot(trial["step"], trial[part], dashes, marker=marker, color=color, label=label)
                line.set_gid(f"{number}/{i}{part}")
    for part, dashes in DASHES.items():
        ax.plot(np.nan, np.nan, dashes, color="0.45", label=part)
    ax.set(xlabel="steps trained", ylabel=measure)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlim(left=0)
    if measure == SQUARED_ERROR:
        ax.set_yscale("log")
    else:
        ax.set_ylim(bottom=0)
    figures.legend(ax)
    figures.set_height(ax, 2.9 + 0.13 * len(settings))
    return ax


def latest(summary: pd.DataFrame) -> pd.DataFrame:
    """Returns the last measurement of each drawn trial."""
    return summary.groupby("trial_id", sort=False).tail(1)


def _figure(sweep: str, measure: str) -> figures.Figure:
    note = (
        "Solid: validation; dashed: training, on labels as given. A line per trial, up to its last stored measurement; "
        f"of the first {SETTINGS} settings at most, {TRIALS_A_SETTING} trials each. Trials leave when they end, so "
        "these curves are no estimates."
    )
    name, title = measure.replace(" ", "-"), f"{sweep}: {measure} of trials in training"
    return figures.Figure(name, title, partial(draw, measure=measure), note, latest)


def _with_measure(measured: pd.DataFrame) -> pd.DataFrame:
    """Returns trial_id, step, measure, train and validation."""
    columns = measured[["trial_id", "step"]].assign(measure=None, **{TRAIN: np.nan, VALIDATION: np.nan})
    for measure, (part, whole) in MEASURES.items():
        has_value = columns["measure"].isna() & measured[f"train_{part}"].notna()
        columns.loc[has_value, "measure"] = measure
        for name in DASHES:
            shares = frames.share(measured[f"{name}_{part}"], measured[f"{name}_{whole}"])
            columns[name] = columns[name].where(~has_value, shares)
    return columns


def _drawn(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Returns the measurements of the trials that are drawn, and a sentence that counts all trials."""
    trials = rows.drop_duplicates("trial_id")
    chosen = trials[trials["setting"].isin(trials["setting"].unique()[:SETTINGS])]
    chosen = chosen[chosen.groupby("setting").cumcount() < TRIALS_A_SETTING]
    count, rest = len(trials), len(trials) - len(chosen)
    noun = "trial is" if count == 1 else "trials are"
    sentence = f"{count:,} {noun} in training" + (f"; {rest:,} of them not drawn." if rest else ", all drawn.")
    curves_of = rows[rows["trial_id"].isin(chosen["trial_id"])].groupby("trial_id", sort=False)
    pieces = [_thinned(trial) for _, trial in curves_of]
    return pd.concat(pieces)[["trial_id", "setting", "seed", "step", *DASHES]], sentence


def _thinned(trial: pd.DataFrame) -> pd.DataFrame:
    trial = trial.sort_values("step")
    return trial.iloc[np.unique(np.linspace(0, len(trial) - 1, POINTS).round().astype(int))]
