"""Draws a quantity of a summary as curves in one or several panels, or as a map."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from memsweep.analysis.core import figures, frames, maps, powers
from memsweep.analysis.core.arrangement import DEFAULT, Arrangement, View, arrange, is_numeric

FEW = 5
"""Up to this many values of x are ticks themselves, if they are whole or the axis is logarithmic."""
PANEL_INCHES = 1.9
"""Height of a panel beside others."""
WIDE_INCHES = 7.0
"""Width of a figure with panels beside each other, both columns of a paper's page."""


def unmarked(ax: Axes, points: pd.DataFrame, color: str) -> None:
    """Marks nothing on a curve."""


def unlined(ax: Axes, rows: pd.DataFrame, x: str) -> None:
    """Draws no line of theory."""


@dataclass(frozen=True)
class Plane:
    """How a quantity is drawn."""

    quantity: str
    x: str = ""  # column along x by default
    curves: tuple[str, ...] = ()  # columns of curves by default
    axis: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of Axes.set; those of x hold where `x` is drawn along x."""
    chance: float | None = None  # of guessing
    is_power: bool = False  # whether exponents are fitted where both axes are logarithmic
    is_scaled: bool = True  # whether the values of x decide its scale, where `axis` doesn't
    fixed: str = ""  # what is held in all rows
    apart: float = 0.0  # share of the least distance along x over which curves stand apart, so that all are seen
    mark: Callable[[Axes, pd.DataFrame, str], None] = unmarked
    """Called with each curve's points and colour."""
    lines: Callable[[Axes, pd.DataFrame, str], None] = unlined
    """Called with each panel's rows and the column along x: draws lines of theory and chance."""
    bounds: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Column that is above 0 where an estimate is a bound -> marker and name; bounds take no part in exponents."""
    dashes: Mapping[str, str] = field(default_factory=dict)
    """Quantities that are drawn together, in the colour of their curve -> dashes; of a map the first is the colour."""


def draw(points: pd.DataFrame, ax: Axes, keys: Sequence[str], plane: Plane, view: View = DEFAULT) -> Axes:
    """Draws rows of a summary as curves or a map, in panels if needed; returns the first axis.

    points: rows of one quantity, one a setting: the columns `keys`, estimate, low, high, missing; `values` for seeds.
    Of a figure of ours with several panels, `ax` is replaced; in a figure of the user's all is drawn in `ax`.
    Raises ViewError.
    """
    is_ours = figures.is_ours(ax)
    if view.y and plane.dashes:
        points = points[points["quantity"] == next(iter(plane.dashes))]
    arranged = arrange(points, keys, view.within(list(keys)), plane.x, plane.curves, has_panels=is_ours)
    panels = arranged.each_panel()
    axes = split(ax, len(panels))
    if arranged.y:
        maps.draw(axes, panels, arranged, next(iter(plane.dashes), plane.quantity), view)
    else:
        for panel, (_, rows) in zip(axes, panels, strict=True):
            _curves(panel, rows, arranged, plane, view)
            plane.lines(panel, _placed(rows, arranged, arranged.x), arranged.x)
        for panel in axes:  # after all curves, since panels share their limits
            _axes(panel, arranged, plane, view)
        _finish(axes, arranged, plane)
    for panel, (title, _) in zip(axes, panels, strict=True):
        if title:
            panel.set_title(title, fontsize=7)
    alone = "one seed: no intervals" if "seeds" in points and points["seeds"].max() == 1 else ""
    figures.title(axes[0], "; ".join(filter(None, [plane.fixed, *arranged.notes, alone])))
    return axes[0]


def split(ax: Axes, count: int) -> list[Axes]:
    """Returns `count` axes that share their scales, in place of an axis of a figure of ours; for 1, the axis itself."""
    if count == 1:
        return [ax]
    canvas = ax.figure
    assert isinstance(canvas, Canvas)
    ax.remove()
    columns = 2 if count in (2, 4) else 3
    rows = -(-count // columns)
    canvas.set_size_inches(WIDE_INCHES, PANEL_INCHES * rows + 1.0)
    grid = canvas.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for unused in grid.flat[count:]:
        unused.remove()
    axes = list(grid.flat[:count])
    for i, panel in enumerate(axes):
        panel.tick_params(labelbottom=i + columns >= count, labelleft=i % columns == 0)
    return axes


def _curves(ax: Axes, rows: pd.DataFrame, arranged: Arrangement, plane: Plane, view: View) -> None:
    """Draws the curves of one panel."""
    every, x = arranged.rows, arranged.x
    names = _names(every[x])
    across = "place" if names else x
    rows = _placed(rows, arranged, across)
    curves = arranged.each_curve(rows)
    scales = _scales(arranged, plane, view)
    fits = not names and scales == ("log", "log") and (plane.is_power or view.scale == ("log", "log"))
    shift = _apart(every[across] if across in every else rows[across], len(curves), SPREAD if names else plane.apart)
    exponents = list[Line2D]()  # in the panel's own legend
    for i, ((label, points), look) in enumerate(
        zip(curves, figures.looks(len(curves), ordered=arranged.is_ordered), strict=True)
    ):
        if points.empty:
            continue
        is_joined = not names and _runs_along(points, arranged)
        points = points.assign(**{across: shift(points[across], i)})
        is_bound = (points[[*plane.bounds]] > 0).any(axis=1)
        if fits and (fitted := powers.fitted(points[~is_bound], across)):
            name = f"{label}: {fitted}" if label else str(fitted)
            ax.plot(*fitted.line(points[across]), "-", color=look["color"], lw=0.6, alpha=0.5, label=f"_{name}")
            exponents.append(Line2D([], [], color=look["color"], label=str(fitted)))
            label = label if arranged.panels else name
        for name, part, dashes in _parts(label, points, plane):
            if view.seeds:
                _each_seed(ax, part, across, name.removeprefix("_"), look["color"], is_joined=is_joined)
            figures.curve(ax, part, across, label=name or None, **look, linestyle=dashes if is_joined else "none")
        for column, (marker, name) in plane.bounds.items():
            marked = points[points[column] > 0]
            if len(marked):
                figures.hollow(ax, marked[across], marked["estimate"], name, marker, color=look["color"])
        plane.mark(ax, points, look["color"])
    if arranged.panels and exponents:
        ax.legend(handles=exponents, fontsize=5, labelspacing=0.2, loc="best", frameon=True, framealpha=0.7)


def _placed(rows: pd.DataFrame, arranged: Arrangement, column: str) -> pd.DataFrame:
    """Returns the rows with their places along x in a column: names stand side by side, in their order."""
    names = _names(arranged.rows[arranged.x])
    return rows.assign(**{column: rows[arranged.x].astype(str).map(names.index).astype(float)}) if names else rows


def _parts(label: str, points: pd.DataFrame, plane: Plane) -> list[tuple[str, pd.DataFrame, str]]:
    """Returns label, rows and dashes of each line of a curve, of which the legend names the first."""
    if not plane.dashes:
        return [(label, points, "-")]
    return [
        (f"_{label}, {quantity}" if i else label, points[points["quantity"] == quantity], dashes)
        for i, (quantity, dashes) in enumerate(plane.dashes.items())
    ]


def _apart(x: pd.Series[Any], count: int, spread: float) -> Callable[[pd.Series[Any], int], pd.Series[Any]]:
    """Returns the places of a curve's points by its number: all curves lie within this share of the least distance."""
    places = np.sort(x.dropna().unique().astype(float))
    is_log = len(places) > 1 and places[0] > 0
    steps = np.diff(np.log(places) if is_log else places)
    width = spread * float(steps.min(initial=np.inf)) / max(count - 1, 1) if len(steps) else 0.0

    def shifted(x: pd.Series[Any], number: int) -> pd.Series[Any]:
        by = (number - (count - 1) / 2) * width
        if not by:
            return x
        moved: pd.Series[Any] = x.astype(float) * np.exp(by) if is_log else x.astype(float) + by
        return moved

    return shifted


SPREAD = 0.4
"""Share of the distance between names along x over which curves are set apart."""


def _scales(arranged: Arrangement, plane: Plane, view: View) -> tuple[str, ...]:
    """Returns the scales of x and y; "" where the values decide."""
    of_x = plane.axis.get("xscale", "" if plane.is_scaled else "linear") if arranged.x == plane.x else ""
    usual = (of_x, plane.axis.get("yscale", "linear"))
    return tuple(view.scale) + usual[len(view.scale) :]


def _names(values: pd.Series[Any]) -> list[str]:
    """Returns the names along x of values that are no numbers; none of numbers."""
    return [] if is_numeric(values) else sorted(values.astype(str).unique())


def _axes(ax: Axes, arranged: Arrangement, plane: Plane, view: View) -> None:
    """Sets up scales, labels, limits, ticks and the line of chance."""
    every, scales = arranged.rows, _scales(arranged, plane, view)
    names = _names(every[arranged.x])
    x = arranged.x
    followers = f", with {' and '.join(map(frames.short, arranged.along))}" if arranged.along else ""
    is_usual = x == plane.x
    axis = {
        name: value
        for name, value in plane.axis.items()
        if name not in ("xscale", "yscale") and (is_usual or not name.startswith("x"))
    }
    if scales[1] == "log":
        if not (axis.get("ylim", (None,))[0] or 0) > 0:
            axis.pop("ylim", None)
        ax.set_yscale("log")
    if names:
        figures.grid_ticks(ax.xaxis, range(len(names)), names)
        ax.set_xlim(-0.4, len(names) - 0.6)
        if sum(len(name) + 2 for name in names) > 48:
            ax.tick_params(axis="x", labelrotation=90)
        ends = np.array([0.0, len(names) - 1.0])
    else:
        places = np.sort(every[x].dropna().unique().astype(float))
        _scale(ax, places, scales[0])
        ends = places[[0, -1]]
    ax.set(**{"xlabel": frames.short(x) + followers, "ylabel": plane.quantity, **axis})
    if plane.chance is not None:
        figures.reference(ax, ends, np.full(2, plane.chance), "chance")
    if scales[1] == "log":
        low, high = ax.get_ylim()
        if high < 1000 * low:  # beyond three decades powers of ten are easier to read
            figures.plain_ticks(ax.yaxis)


def _scale(ax: Axes, places: np.ndarray, scale: str) -> None:
    """Sets scale and ticks of x, of sorted values."""
    if scale == "":
        figures.scale_by(places, ax)
        return
    if scale == "log" and (places <= 0).any():
        figures.log_scale(places, ax)
        return
    ax.set_xscale(scale)
    if scale == "log" and places[-1] < 1000 * places[0]:  # beyond three decades powers of ten are easier to read
        figures.plain_ticks(ax.xaxis)
    if len(places) <= FEW and (ax.get_xscale() == "log" or (places % 1 == 0).all()):
        figures.value_ticks(places, ax)


def _finish(axes: Sequence[Axes], arranged: Arrangement, plane: Plane) -> None:
    """Removes labels between panels, and draws one legend for all."""
    columns = 1 if len(axes) == 1 else 2 if len(axes) in (2, 4) else 3
    for i, panel in enumerate(axes):
        if i + columns < len(axes):
            panel.set_xlabel("")
        if i % columns:
            panel.set_ylabel("")
    for quantity, dashes in plane.dashes.items():
        axes[0].plot([np.nan], [np.nan], dashes, color="0.3", label=quantity)  # for the legend alone
    of_numbers = frames.short(arranged.curves[0]) if arranged.is_ordered else None
    figures.legend(axes[0], arranged.legend or of_numbers)


def _runs_along(rows: pd.DataFrame, arranged: Arrangement) -> bool:
    """Returns whether the fields that follow from x rise or fall with it, so that a line joins like with like.

    The trials of a search have other values of all fields at each x, in no order.
    """
    ordered = rows.drop_duplicates(arranged.x).sort_values(arranged.x)
    numbers = [ordered[key] for key in arranged.along if is_numeric(ordered[key])]
    return all(values.is_monotonic_increasing or values.is_monotonic_decreasing for values in numbers)


def _each_seed(ax: Axes, points: pd.DataFrame, x: str, label: str, color: str, *, is_joined: bool) -> None:
    """Draws each seed as a faint line, or as faint points."""
    pairs = [
        (place, *pair)
        for place, values in zip(points[x], points.get("values", [()] * len(points)), strict=True)
        for pair in values
    ]
    frame = pd.DataFrame(pairs, columns=["x", "seed", "value"])
    for seed, of_seed in frame.groupby("seed"):
        along = of_seed.sort_values("x")
        ax.plot(
            along["x"], along["value"], marker=".", ms=2, lw=0.5, alpha=0.35, color=color,
            ls="-" if is_joined else "none", label=f"_{label}, seed {seed}".replace("_, ", "_"),
        )  # fmt: skip
