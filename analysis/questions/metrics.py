"""How do a user's metrics change over training?"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from memsweep.analysis.core import figures, frames, series, statistics
from memsweep.analysis.questions.learning_curves import spaced

QUERY = frames.METRICS
SETTINGS = 6
"""Largest number of settings drawn in a figure, evenly chosen in the sweep's order."""
QUANTITY = ("metric", "name", "part")
FIGURES = ()
"""They depend on the metrics of a sweep: `figures_of`."""


def select(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of at most SETTINGS settings, with a column `setting` that names each."""
    fields = frames.varying(rows)
    names = frames.labels(rows, fields) if fields and len(rows) else pd.Series("all trials", rows.index, dtype=object)
    settings = names.unique()
    places = np.unique(np.linspace(0, len(settings) - 1, min(SETTINGS, len(settings))).round().astype(int))
    return rows.assign(setting=names)[names.isin(settings[places])]


def summarize(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns a row per metric, name, part, setting and step: mean over seeds with its bootstrap interval at 95 %.

    rows: of the table `metrics` with the fields of their trials (`frames.read`), filtered by `select`; a trial without
    values is one row. A seed's value at a step is that of its last measurement until then. A trial that finished before
    its budget keeps its last value (`ended` counts these seeds); a trial that failed or diverged has none.
    """
    columns = [*QUANTITY, "setting", "step", "estimate", "low", "high", "seeds", "missing", "ended"]
    pieces = []
    for quantity, measured in rows.dropna(subset="step").groupby([*QUANTITY], sort=True):
        others = rows[~rows["trial_id"].isin(measured["trial_id"])].drop_duplicates("trial_id")
        every = pd.concat([measured, others.assign(step=np.nan, value=np.nan)])
        times = spaced(np.sort(measured["step"].unique()))
        curves = [
            series.at_times(trial, "step", times, ["value"]).assign(setting=trial["setting"].iloc[0])
            for _, trial in every.groupby("trial_id", sort=False)
        ]
        shown, by = pd.concat(curves, ignore_index=True), ["setting", "step"]
        estimated = statistics.over_seeds(shown, by, "value")
        estimated = estimated.merge(shown.groupby(by)["ended"].sum().reset_index(), on=by)
        pieces.append(estimated.assign(**dict(zip(QUANTITY, map(str, quantity), strict=True))))
    return pd.concat(pieces, ignore_index=True)[columns] if pieces else pd.DataFrame(columns=columns)


def draw(summary: pd.DataFrame, ax: Axes, metric: str, name: str, part: str) -> Axes:
    """Draws one value of a metric on one part of the data over steps, a curve a setting."""
    chosen = frames.having(summary, {"metric": metric, "name": name, "part": part})
    if chosen["estimate"].isna().all():
        return figures.empty(ax, f"no finished trial has a value for {metric}")
    curves = list(chosen.groupby("setting", sort=False))
    for (setting, points), look in zip(curves, figures.looks(len(curves), ordered=False), strict=True):
        figures.curve(ax, points, "step", label=str(setting), **look)
    ax.set(xscale="log", xlabel="steps", ylabel=f"{name}, {part}")
    figures.plain_ticks(ax.xaxis)
    figures.legend(ax)
    return ax


def figures_of(summary: pd.DataFrame) -> list[figures.Figure]:
    """Returns a figure for each value of each metric, on each part of the data."""
    return [
        figures.Figure(
            f"{metric.replace(':', '.')}-{name}-{part}",
            f"{metric}: {name}, {part} data",
            partial(draw, metric=metric, name=name, part=part),
            f"At most {SETTINGS} settings, evenly chosen. {series.OVER_SEEDS}",
            rows=partial(frames.having, values={"metric": metric, "name": name, "part": part}),
            fixed="metrics are traced over the steps of training, of few settings",
        )
        for metric, name, part in summary[[*QUANTITY]].drop_duplicates().itertuples(index=False)
    ]
