"""Quantities along an axis with their intervals, a curve for each value of one column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from memsweep.analysis.core import figures, frames, panels, statistics
from memsweep.analysis.core.arrangement import DEFAULT, View
from memsweep.spec.schema import Status

OVER_SEEDS = "Mean over seeds; bars: 95 % bootstrap interval over seeds."
GROUPS = ("axis", "block")
"""Columns that only divide a summary among figures."""
POWER = (
    "Exponents: slope of the logarithms by least squares, for each seed with 3 values or more; mean over seeds, with "
    "its 95 % bootstrap interval over seeds; thin lines. "
)


def summarize(frame: pd.DataFrame, quantities: Mapping[str, pd.Series[Any]], by: Sequence[str]) -> pd.DataFrame:
    """Returns a row per quantity and group: mean over seeds with its bootstrap interval over seeds, at 95 %.

    frame: one row a seed and group.  quantities: name -> its value in each row; NaN is a seed without a result, as is
    every row of a trial that failed, diverged or is not stored.  by: columns that make a group.
    Returns quantity, by, estimate, low, high, seeds, missing, values (as `statistics.over_seeds`); a quantity without a
    value in any row is left out.
    """
    good = frames.usable(frame)
    pieces = [
        statistics.over_seeds(frame.assign(value=values.where(good)), by, "value", has_values=True).assign(
            quantity=name
        )
        for name, values in quantities.items()
        if values.where(good).notna().any()
    ]
    columns = ["quantity", *by, "estimate", "low", "high", "seeds", "missing", "values"]
    return pd.concat(pieces, ignore_index=True)[columns] if pieces else pd.DataFrame(columns=columns)


def at_times(trial: pd.DataFrame, x: str, times: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    """Returns the values of one trial's last measurement at or before each time.

    trial: its rows, by `frames.read` of frames.CURVES.  x: the column of times.  names: columns of values.
    A trial that finished before its budget was spent, since it was fitted or solved, keeps its last values (`ended` is
    1 there). A trial that ended otherwise has NaN after its last measurement, and a trial without a result has only
    NaN.
    """
    every, status = trial[x].to_numpy(float), trial["status"].iloc[0]
    order = np.argsort(every, kind="stable")[: int(np.isfinite(every).sum())]  # rows without a measurement are last
    at, values = every[order], trial[[*names]].to_numpy(float)[order]
    filled, ended = np.full((len(times), len(names)), np.nan), np.zeros(len(times), int)
    if len(at) and status in frames.USABLE:
        is_early = trial["step"].iloc[order[-1]] < frames.budget(trial.iloc[:1]).iloc[0]
        latest, is_over = np.searchsorted(at, times, side="right") - 1, times > at[-1]
        ended[is_over] = int(status == Status.FINISHED and is_early)
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
    summary: pd.DataFrame,
    ax: Axes,
    what: tuple[str, str, str],
    selection: Mapping[str, Any],
    axis: Mapping[str, Any],
    view: View = DEFAULT,
    **plane: Any,
) -> Axes:
    """Draws a quantity against x, a curve for each value of a column; returns the axis.

    what: quantity, column of x, column of the curves.  selection: column -> value of the drawn rows.  axis:
    arguments of Axes.set.  view: other columns for x, curves and panels, of those before `estimate`.  plane: further
    fields of panels.Plane.  Columns that are neither selected nor drawn make panels.
    """
    quantity, x, curves = what
    of_quantity = summary[summary["quantity"] == quantity]
    chosen = frames.having(of_quantity, selection)
    if chosen["estimate"].isna().all():
        return figures.empty(ax, f"no finished trial has a value for {quantity}")
    fixed = {
        column: value
        for column, value in selection.items()
        if not isinstance(value, bool) and column not in GROUPS and of_quantity[column].nunique() > 1
    }
    of_series = panels.Plane(
        quantity,
        x,
        (curves,),
        axis,
        is_scaled=False,
        fixed=f"at {frames.label(fixed, of_quantity)}" if fixed else "",
        **plane,
    )
    return panels.draw(chosen, ax, keys(chosen, what, selection), of_series, view)


def keys(summary: pd.DataFrame, what: tuple[str, str, str], selection: Mapping[str, Any]) -> list[str]:
    """Returns the columns of a summary that can run along x or make curves or panels; arguments as of `draw`."""
    names = list(summary.columns)
    before = names[: names.index("estimate")] if "estimate" in names else []
    return [name for name in dict.fromkeys([*what[1:], *before]) if name not in ("quantity", "values", *selection)]


def figure(
    name: str,
    title: str,
    note: str,
    what: tuple[str, str, str],
    selection: Mapping[str, Any] | None = None,
    **axis: Any,
) -> figures.Figure:
    """Returns a figure that draws rows of `summarize` by `draw`; a view may choose other axes."""
    return _figure((name, title, note), what, selection or {}, axis, is_power=False)


def power(
    name: str,
    title: str,
    note: str,
    what: tuple[str, str, str],
    selection: Mapping[str, Any] | None = None,
    **axis: Any,
) -> figures.Figure:
    """Returns a figure as `figure` does, of a power law: on logarithmic axes each curve has its fitted exponent."""
    return _figure((name, title, note), what, selection or {}, axis, is_power=True)


def _figure(
    named: tuple[str, str, str],
    what: tuple[str, str, str],
    selection: Mapping[str, Any],
    axis: Mapping[str, Any],
    *,
    is_power: bool,
) -> figures.Figure:
    name, title, note = named
    return figures.Figure(
        name,
        title,
        partial(draw, what=what, selection=selection, axis=axis, is_power=is_power),
        f"{note} {POWER * is_power}{OVER_SEEDS}",
        rows=frames.of_quantity(what[0], **selection),
        axes=partial(keys, what=what, selection=selection),
    )
