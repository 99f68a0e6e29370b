"""Maps: a quantity as the colour of squares over two fields, with a level line and its uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from memsweep.analysis.core import figures, frames
from memsweep.analysis.core.arrangement import Arrangement, View, even, is_numeric
from memsweep.spec.numerals import texts

ROWS_NAMED = 8
"""Most values of the field that runs up that are named."""
LINES = (("estimate", "-", ""), ("low", ":", "95 % interval"), ("high", ":", "_95 % interval"))
"""Columns that meet the level on a line, with dashes and label."""


def draw(
    axes: Sequence[Axes], panels: Sequence[tuple[str, pd.DataFrame]], arranged: Arrangement, name: str, view: View
) -> None:
    """Draws a square a setting in each panel, coloured by its estimate, and the line on which it meets a level.

    Squares stand at the values of both fields in their order, evenly spaced; names have no order, and no line. Dotted
    lines are those on which the ends of the interval meet the level.  name: of the quantity.
    """
    every = arranged.rows
    values = every["estimate"].dropna()
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    level = view.level if view.level is not None else middle(low, high)
    columns, rows = (_places(every[key]) for key in (arranged.x, arranged.y))
    has_order = is_numeric(every[arranged.x]) and is_numeric(every[arranged.y])  # between names there is no line
    mesh: Any = None
    for ax, (_, points) in zip(axes, panels, strict=True):
        grids = {
            end: points.pivot_table(index=arranged.y, columns=arranged.x, values=end, dropna=False, sort=False)
            .reindex(index=rows, columns=columns)
            .to_numpy(float)
            for end, _, _ in LINES
        }
        edges = (np.arange(len(places) + 1) - 0.5 for places in (columns, rows))
        mesh = ax.pcolormesh(*edges, grids["estimate"], cmap="viridis", vmin=low, vmax=max(high, low + 1e-9))
        mesh.set_label(f"_{name}")
        for end, dashes, label in LINES if has_order else ():
            for number, (x, y) in enumerate(level_line(grids[end], level)):
                label_of = label or f"{name} = {level:g}"
                ax.plot(x, y, dashes, color="black", lw=1.2 if dashes == "-" else 0.9,
                        label="_" * bool(number) + label_of)  # fmt: skip
        partial = points[(points["missing"] > 0) & points["estimate"].notna()]
        if len(partial):
            across, up = partial[arranged.x].map(columns.index), partial[arranged.y].map(rows.index)
            figures.hollow(ax, across, up, "some seeds missing", color="black")
        names = texts(columns)
        apart = figures.apart(names, ax, share=0.75)  # beside the bar of colours
        figures.grid_ticks(ax.xaxis, range(0, len(names), apart), names[::apart])
        shown, names = even(len(rows), ROWS_NAMED), texts(rows)
        figures.grid_ticks(ax.yaxis, shown, [names[i] for i in shown])
        ax.grid(False)
    _labels(axes, arranged)
    axes[0].figure.colorbar(mesh, ax=list(axes), label=name)
    figures.legend(axes[0])


def level_line(values: np.ndarray, level: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns pieces of the line on which values [rows, columns], linear between squares, meet a level: x, y each.

    Places are numbers of columns and rows. NaN interrupts the line.
    """
    if min(values.shape) < 2 or not np.nanmin(values, initial=np.inf) < level < np.nanmax(values, initial=-np.inf):
        return []
    with figures.canvas() as scratch:
        pieces = scratch.contour(np.ma.masked_invalid(values), levels=[level]).allsegs[0]
    return [(piece[:, 0], piece[:, 1]) for piece in pieces if len(piece) > 1]


def middle(low: float, high: float) -> float:
    """Returns a level between two values: one half if it lies between them, else their mean, with two digits."""
    return 0.5 if low < 0.5 < high else float(f"{(low + high) / 2:.2g}")


def _places(values: pd.Series[Any]) -> list[Any]:
    """Returns the values of a field in their order."""
    return sorted(values.unique(), key=None if is_numeric(values) else str)


def _labels(axes: Sequence[Axes], arranged: Arrangement) -> None:
    """Names both fields at the edges of the figure."""
    columns = 1 if len(axes) == 1 else 2 if len(axes) in (2, 4) else 3
    for i, ax in enumerate(axes):
        ax.set_xlabel(frames.short(arranged.x) if i + columns >= len(axes) else "")
        ax.set_ylabel(frames.short(arranged.y) if i % columns == 0 else "")
