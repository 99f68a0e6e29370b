"""What several questions share: quantities along an axis, a curve for each value of one column, with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from pandas.api.types import is_numeric_dtype

from analysis import figures, frames, statistics

OVER_SEEDS = "Mean over seeds; bars: 95 % bootstrap interval over seeds."


FEW = 5
"""So many values of x are ticks themselves, if whole or on a logarithmic axis."""


def summarize(frame: pd.DataFrame, quantities: Mapping[str, pd.Series[Any]], by: Sequence[str]) -> pd.DataFrame:
    """A row per quantity and group: mean over seeds with its bootstrap interval over seeds, at 95 %.

    frame: one row a seed and group.  quantities: name -> its value in each row; NaN is a seed without a result, as is
    every row of a trial that failed, diverged or is not stored.  by: columns that make a group.
    Returns quantity, by, estimate, low, high, seeds, missing; a quantity that no row has is left out.
    """
    good = frames.usable(frame)
    pieces = [
        statistics.over_seeds(frame.assign(value=values.where(good)), by, "value").assign(quantity=name)
        for name, values in quantities.items()
        if values.where(good).notna().any()
    ]
    columns = ["quantity", *by, "estimate", "low", "high", "seeds", "missing"]
    return pd.concat(pieces, ignore_index=True)[columns] if pieces else pd.DataFrame(columns=columns)


def of_every_kind(summary: pd.DataFrame) -> pd.DataFrame:
    """With the clean set's rows (kind 'none') once for every kind of noise."""
    is_clean = summary["kind"] == "none"
    kinds = summary.loc[~is_clean, "kind"].unique()
    return pd.concat([summary[~is_clean], *(summary[is_clean].assign(kind=kind) for kind in kinds)], ignore_index=True)


def draw(
    summary: pd.DataFrame, ax: Axes, what: tuple[str, str, str], held: Mapping[str, Any], axis: Mapping[str, Any]
) -> Axes:
    """A quantity against x, a curve for each value of a column.

    what: quantity, column of x, column of the curves.  held: of all rows, those with these values.  axis: as Axes.set
    takes it.
    """
    quantity, x, curves = what
    chosen = figures.having(summary[summary["quantity"] == quantity], held)
    if chosen["estimate"].isna().all():
        return figures.empty(ax, f"no finished trial tells the {quantity}")
    groups, ordered = list(chosen.groupby(curves, sort=True)), is_numeric_dtype(chosen[curves])
    for (key, points), look in zip(groups, figures.looks(len(groups), ordered=ordered), strict=True):
        figures.curve(ax, points.sort_values(x), x, label=frames.text(key, chosen[curves].unique()), **look)
    ax.set(**{"xlabel": frames.short(x), "ylabel": quantity, **axis})
    logarithmic = [side for side in (ax.xaxis, ax.yaxis) if side.get_scale() == "log"]
    # beyond three decades powers of ten are plainer
    figures.plain_ticks(*(side for side in logarithmic if np.divide(*side.get_view_interval()[::-1]) < 1000))
    places = np.sort(chosen[x].unique().astype(float))
    if len(places) <= FEW and (ax.get_xscale() == "log" or (places % 1 == 0).all()):
        figures.grid_ticks(ax.xaxis, places)
    figures.legend(ax, frames.short(curves) if ordered else None)
    return ax


def figure(
    name: str, title: str, note: str, what: tuple[str, str, str], held: Mapping[str, Any] | None = None, **axis: Any
) -> figures.Figure:
    """A figure of `summarize`'s rows by `draw`."""
    held = held or {}
    return figures.Figure(
        name,
        title,
        partial(draw, what=what, held=held, axis=axis),
        f"{note} {OVER_SEEDS}",
        rows=figures.of_quantity(what[0], **held),
    )
