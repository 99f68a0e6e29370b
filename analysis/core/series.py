"""Quantities along an axis with their intervals, a curve for each value of one column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from pandas.api.types import is_numeric_dtype

from memsweep.analysis.core import figures, frames, statistics
from memsweep.spec.schema import Status

OVER_SEEDS = "Mean over seeds; bars: 95 % bootstrap interval over seeds."


FEW = 5
"""Up to this many values of x are ticks themselves, if they are whole or the axis is logarithmic."""


def summarize(frame: pd.DataFrame, quantities: Mapping[str, pd.Series[Any]], by: Sequence[str]) -> pd.DataFrame:
    """Returns a row per quantity and group: mean over seeds with its bootstrap interval over seeds, at 95 %.

    frame: one row a seed and group.  quantities: name -> its value in each row; NaN is a seed without a result, as is
    every row of a trial that failed, diverged or is not stored.  by: columns that make a group.
    Returns quantity, by, estimate, low, high, seeds, missing; a quantity without a value in any row is left out.
    """
    good = frames.usable(frame)
    pieces = [
        statistics.over_seeds(frame.assign(value=values.where(good)), by, "value").assign(quantity=name)
        for name, values in quantities.items()
        if values.where(good).notna().any()
    ]
    columns = ["quantity", *by, "estimate", "low", "high", "seeds", "missing"]
    return pd.concat(pieces, ignore_index=True)[columns] if pieces else pd.DataFrame(columns=columns)


def at_times(trial: pd.DataFrame, x: str, times: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    """Returns the values of one trial's last measurement at or before each time.

    trial: its rows, by `frames.read` of frames.CURVES.  x: the column of times.  names: columns of values.
    A trial that finished before its budget was spent, since it was fitted or solved, keeps its last values (`ended` is
    1 there). A trial that ended otherwise has NaN after its last measurement, and a trial without a result has only
    NaN.
    """
    measured = trial.dropna(subset=x).sort_values(x)
    values, at = measured[[*names]].to_numpy(float), measured[x].to_numpy(float)
    filled, ended = np.full((len(times), len(names)), np.nan), np.zeros(len(times), int)
    if len(at) and trial["status"].iloc[0] in frames.USABLE:
        is_early = measured["step"].iloc[-1] < frames.budget(trial).iloc[0]
        latest, is_over = np.searchsorted(at, times, side="right") - 1, times > at[-1]
        ended[is_over] = int(trial["status"].iloc[0] == Status.FINISHED and is_early)
        has_value = (latest >= 0) & (~is_over | (ended > 0))
        filled[has_value] = values[latest[has_value]]
    return pd.DataFrame({x: times, **dict(zip(names, filled.T, strict=True)), "ended": ended})


def at_every(rows: pd.DataFrame, setting: Sequence[str], places: Sequence[str]) -> pd.DataFrame:
    """Returns the rows, and a row without values for each place of a setting that a trial lacks, so that it is missing.

    rows: one a trial and place, or one a trial with NaN in the first of `places`.  setting: columns that make a
    setting.
    A setting without stored rows has the places of all other settings.
    """
    stored = rows.dropna(subset=places[0])
    everywhere = stored[[*places]].drop_duplicates()
    trials = rows[["trial_id", "seed", "status", *setting]].drop_duplicates("trial_id")
    settings = trials.merge(stored[[*setting]].drop_duplicates(), how="left", on=[*setting], indicator="match")
    has_places = (settings["match"] == "both").to_numpy()
    wanted = trials[has_places].merge(stored[[*setting, *places]].drop_duplicates(), on=[*setting])
    wanted = pd.concat([wanted, trials[~has_places].merge(everywhere, how="cross")], ignore_index=True)
    matches = wanted.merge(
        stored[["trial_id", *places]].drop_duplicates(), "left", [*("trial_id", *places)], indicator="at"
    )
    return pd.concat([stored, wanted[(matches["at"] == "left_only").to_numpy()]], ignore_index=True)


def of_every_kind(summary: pd.DataFrame) -> pd.DataFrame:
    """Returns the summary with the clean set's rows (kind 'none') repeated for every kind of noise."""
    is_clean = summary["kind"] == "none"
    kinds = summary.loc[~is_clean, "kind"].unique()
    return pd.concat([summary[~is_clean], *(summary[is_clean].assign(kind=kind) for kind in kinds)], ignore_index=True)


def draw(
    summary: pd.DataFrame, ax: Axes, what: tuple[str, str, str], selection: Mapping[str, Any], axis: Mapping[str, Any]
) -> Axes:
    """Draws a quantity against x, a curve for each value of a column; returns the axis.

    what: quantity, column of x, column of the curves.  selection: column -> value of the drawn rows.  axis:
    arguments of Axes.set.
    """
    quantity, x, curves = what
    chosen = figures.having(summary[summary["quantity"] == quantity], selection)
    if chosen["estimate"].isna().all():
        return figures.empty(ax, f"no finished trial has a value for {quantity}")
    groups, ordered = list(chosen.groupby(curves, sort=True)), is_numeric_dtype(chosen[curves])
    for (key, points), look in zip(groups, figures.looks(len(groups), ordered=ordered), strict=True):
        figures.curve(ax, points.sort_values(x), x, label=frames.text(key, chosen[curves].unique()), **look)
    ax.set(**{"xlabel": frames.short(x), "ylabel": quantity, **axis})
    logarithmic = [side for side in (ax.xaxis, ax.yaxis) if side.get_scale() == "log"]
    # beyond three decades powers of ten are easier to read
    figures.plain_ticks(*(side for side in logarithmic if np.divide(*side.get_view_interval()[::-1]) < 1000))
    places = np.sort(chosen[x].unique().astype(float))
    if len(places) <= FEW and (ax.get_xscale() == "log" or (places % 1 == 0).all()):
        figures.grid_ticks(ax.xaxis, places)
    figures.legend(ax, frames.short(curves) if ordered else None)
    return ax


def figure(
    name: str,
    title: str,
    note: str,
    what: tuple[str, str, str],
    selection: Mapping[str, Any] | None = None,
    **axis: Any,
) -> figures.Figure:
    """Returns a figure that draws rows of `summarize` by `draw`."""
    selection = selection or {}
    return figures.Figure(
        name,
        title,
        partial(draw, what=what, selection=selection, axis=axis),
        f"{note} {OVER_SEEDS}",
        rows=figures.of_quantity(what[0], **selection),
    )
