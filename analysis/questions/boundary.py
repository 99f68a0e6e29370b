"""Where does a quantity cross a level in the plane of two axes? Points of a search, and the line between them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.tri import Triangulation

from memsweep.analysis.core import figures, frames, statistics
from memsweep.spec.config import FIELDS
from memsweep.spec.search import objectives

QUERY = frames.ROUNDS
SIDES = {1: "above", -1: "below", 0: "undecided"}
_LOOKS = {1: ("o", "#440154"), -1: ("s", "#c2a000"), 0: ("^", "0.55")}
LINES = (("low", ":", "its interval"), ("estimate", "-", "level line"), ("high", ":", ""))
"""Columns whose crossing of the level is drawn, with dashes and label."""


def summarize(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns a row per proposed setting: mean of the objective over seeds, its interval, and its side of the level.

    Returns the varying fields, x and y (values of the two axes), x_name, y_name, objective, level, estimate, low, high
    (bootstrap over seeds; Wilson's for binary objectives), seeds, missing, side (1 above, -1 below, 0 undecided).
    """
    proposed = trials.dropna(subset=["search_fields"])
    if proposed.empty:
        return pd.DataFrame(columns=list(_COLUMNS))
    search = json.loads(proposed["search_fields"].iloc[0])
    x, y = (FIELDS[search[axis]].column for axis in ("x", "y"))
    value = [objectives.value(search["objective"], frames.mapping(row)) for row in proposed.to_dict("records")]
    others = [name for name in frames.varying(proposed) if name not in (x, y)]
    settings = proposed.assign(value=value)
    is_share = settings["value"].dropna().isin([0, 1]).all()
    summarized = (statistics.share_over_seeds if is_share else statistics.over_seeds)(
        settings, [*others, x, y], "value"
    )
    side = (summarized["low"] > search["level"]).astype(int) - (summarized["high"] < search["level"]).astype(int)
    names = {"x_name": search["x"], "y_name": search["y"], "objective": search["objective"], "level": search["level"]}
    return summarized.assign(x=summarized[x], y=summarized[y], side=side, **names)


def draw(summary: pd.DataFrame, ax: Axes) -> Axes:
    """Draws points by their side of the level, and lines where the mean and the ends of its interval meet the level."""
    estimated = summary.dropna(subset=["estimate"])
    if estimated.empty:
        return figures.empty(ax, "no finished trial has a value for the objective")
    fields = [
        name
        for name in frames.varying(estimated)
        if frames.COLUMNS[name] not in (*estimated["x_name"], *estimated["y_name"])
    ]
    if fields:  # a single diagram, titled with its setting
        first = {name: estimated.iloc[0][name] for name in fields}
        count = len(estimated[fields].drop_duplicates())
        ax.set_title(f"{frames.label(first, estimated)}, the first of {count} settings", fontsize=8)
        estimated = frames.having(estimated, first)
    for side, (marker, color) in _LOOKS.items():
        points = estimated[estimated["side"] == side]
        if len(points):
            ax.plot(points["x"], points["y"], marker, color=color, ms=3.5, ls="none", label=SIDES[side])
    level, objective = estimated["level"].iloc[0], estimated["objective"].iloc[0].replace("_", " ")
    for column, dashes, name in LINES:
        for number, (x, y) in enumerate(level_line(estimated, column, level)):
            label = f"{objective} = {level:g}" if dashes == "-" else name
            ax.plot(x, y, dashes, color="black", lw=1.4 if dashes == "-" else 0.9, label="_" * bool(number) + label)
    for axis, name, values in (("x", "x_name", estimated["x"]), ("y", "y_name", estimated["y"])):
        if is_logarithmic(values):
            getattr(ax, f"set_{axis}scale")("log")
        getattr(ax, f"set_{axis}label")(estimated[name].iloc[0].rpartition(".")[2].replace("_", " "))
    figures.legend(ax)
    return ax


def level_line(points: pd.DataFrame, column: str, level: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns pieces of the line on which a column, linear between neighbours, meets the level: x [n], y [n] each.

    Neighbours are found in steps of the axes, so that a logarithmic axis counts like a linear one.
    """
    rows = points.dropna(subset=[column])
    grids = [np.unique(points[axis]) for axis in ("x", "y")]
    places = [np.searchsorted(grid, rows[axis]).astype(float) for grid, axis in zip(grids, ("x", "y"), strict=True)]
    values = rows[column].to_numpy(float)
    if len(rows) < 3 or min(len(set(place)) for place in places) < 2 or not values.min() < level < values.max():
        return []
    with figures.canvas() as scratch:
        pieces = scratch.tricontour(Triangulation(*places), values, levels=[level]).allsegs[0]
    return [
        tuple(_between(grid, piece[:, i]) for i, grid in enumerate(grids))  # type: ignore[misc]
        for piece in pieces
        if len(piece) > 1
    ]


def is_logarithmic(values: pd.Series[Any]) -> bool:
    """Returns whether an axis's values are meant as logarithmic: positive, spanning more than a factor of fifty."""
    return bool(values.min() > 0 and values.max() / values.min() > 50)


def _between(grid: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Returns values of an axis at places between its steps."""
    steps = np.arange(len(grid))
    if is_logarithmic(pd.Series(grid)):
        return np.asarray(np.exp(np.interp(places, steps, np.log(grid))))
    return np.asarray(np.interp(places, steps, grid))


_COLUMNS = ("x", "y", "x_name", "y_name", "objective", "level", "estimate", "low", "high", "seeds", "missing", "side")

FIGURES = (
    figures.Figure(
        "diagram",
        "Phase diagram",
        draw,
        "Each point is the mean over seeds, on the side of the level on which its whole interval at 95 % lies, or "
        "undecided. Line: where the mean meets the level, linear between neighbours; dotted: where the ends of the "
        "interval do. Points are dense where the search looked closely, and only there is the line sharp.",
        fixed="both belong to the search, which looks for the level in their plane",
    ),
)
