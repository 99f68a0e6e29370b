"""Style, curves, axes and files of all figures, in colours that colour-blind readers can distinguish."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib.style  # and never pyplot, whose backend and figures are the user's
import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter
from numpy.typing import ArrayLike

from memsweep.analysis.core import frames
from memsweep.analysis.core.arrangement import grow_by_factors
from memsweep.analysis.core.fonts import without_layout
from memsweep.results.storage.location import Location
from memsweep.results.storage.parts import StoreError
from memsweep.spec.numerals import texts

STYLE: dict[str, Any] = {
    "figure.figsize": (3.5, 2.9),  # inches; a paper's column
    "figure.dpi": 200,
    "figure.constrained_layout.use": True,
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.linewidth": 0.4,
    "grid.alpha": 0.4,
    "lines.linewidth": 1.1,
    "lines.markersize": 3,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "svg.fonttype": "none",  # text stays text
    "pdf.fonttype": 42,  # which journals accept
    "svg.hashsalt": "memsweep",  # the same figure makes the same file
}
UNDATED: dict[str, dict[str, Any]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}
"""Kind of file -> metadata that leaves out the time of writing."""
CATEGORIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Colours of unordered categories (Okabe and Ito)."""
ALIKE = "all seeds agree: no interval"
"""Name of the mark of points without a bar: seeds that agree don't bound how often another would differ."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")


@dataclass(frozen=True)
class Figure:
    """One drawing of a question's summary. draw: gets the summary and an axis.  note: the caption."""

    name: str  # of its files: sweep-name.svg
    title: str
    draw: Callable[[pd.DataFrame, Axes], Axes]
    note: str
    rows: Callable[[pd.DataFrame], pd.DataFrame] = lambda summary: summary
    """Returns the part of the summary that is shown, as the table below the figure."""
    only: Mapping[str, Any] = field(default_factory=dict)
    """Column -> value of the trials that are shown; a sweep without such trials has no such figure."""

    axes: Callable[[pd.DataFrame], Sequence[str]] | None = None
    """Returns the columns of the summary that may run along x or make curves and panels; `draw` then takes a `view`
    (arrangement.View) too."""
    fixed: str = ""
    """Why the axes are fixed, in the words of a message, of a figure without `axes`."""

    def about(self, trials: pd.DataFrame) -> pd.DataFrame:
        """Returns the trials that the figure shows."""
        return frames.having(trials, self.only)


class Picture(Canvas):
    """A figure that applies our style when it is drawn or saved, and that a notebook shows without any backend."""

    def draw(self, renderer: RendererBase) -> None:
        """Draws the figure in our style."""
        with styled():  # ticks and fonts are made late
            super().draw(renderer)

    def savefig(self, *arguments: Any, **options: Any) -> None:
        """Saves the figure in our style."""
        with styled():
            super().savefig(*arguments, **options)

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        self.savefig(content, format="png")
        return content.getvalue()


def styled() -> AbstractContextManager[None]:
    """Returns a context with our style alone; on exit the user's own settings are restored."""
    context: AbstractContextManager[None] = matplotlib.style.context(["default", STYLE])
    return context


@contextmanager
def canvas() -> Iterator[Axes]:
    """Yields an axis in our style, of a figure that is not registered with pyplot."""
    with styled():
        figure = Picture()
        FigureCanvasAgg(figure)
        yield figure.subplots()


def looks(count: int, *, ordered: bool) -> list[dict[str, Any]]:
    """Returns colour and marker of each of `count` curves: dark to light if `ordered`, else distinct hues."""
    if ordered and count > 1:
        colors = [to_hex(color) for color in colormaps["viridis"](np.linspace(0, 0.9, count))]
    else:
        colors = [CATEGORIES[i % len(CATEGORIES)] for i in range(count)]
    return [{"color": color, "marker": MARKERS[i % len(MARKERS)]} for i, color in enumerate(colors)]


def curve(ax: Axes, points: pd.DataFrame, x: str, **look: Any) -> None:
    """Draws estimates with their intervals along column `x`; a setting without estimate breaks the line.

    points: x, estimate, low, high, and missing: open markers where some seeds have no result. With `seeds`, a dash
    across the points of several seeds that all agree, whose interval has no width.
    """
    points = points.sort_values(x)
    errors = np.stack([points["estimate"] - points["low"], points["high"] - points["estimate"]])
    ax.errorbar(points[x], points["estimate"], np.nan_to_num(np.maximum(errors, 0)), elinewidth=0.7, capsize=0, **look)
    partial = points[(points["missing"] > 0) & points["estimate"].notna()]
    if len(partial):
        hollow(ax, partial[x], partial["estimate"], label="some seeds missing", color=look.get("color", "black"))
    alike = points[(points["seeds"] > 1) & (points["low"] == points["high"])] if "seeds" in points else points.iloc[:0]
    if len(alike):
        hollow(ax, alike[x], alike["estimate"], label=ALIKE, marker="_", color=look.get("color", "black"))


def hollow(ax: Axes, x: ArrayLike, y: ArrayLike, label: str, marker: str = "o", **look: Any) -> None:
    """Marks points with rings, which appear once in the legend."""
    named = {handle.get_label() for handle in ax.lines}
    ax.plot(x, y, marker, mfc="none", ms=7, mew=1.0, ls="none", label=f"_{label}" if label in named else label, **look)


def reference(ax: Axes, x: ArrayLike, y: ArrayLike, label: str, dashes: str = "--") -> None:
    """Draws a line of theory or chance."""
    ax.plot(x, y, dashes, color="0.45", linewidth=0.9, label=label)


def plain_ticks(*axes: Axis) -> None:
    """Sets ticks 1, 2, 5, 10 on logarithmic axes, and more on an axis that spans less than a factor of 5."""
    for axis in axes:
        low, high = axis.get_view_interval()
        axis.set_major_locator(LogLocator(subs=_subs(axis, low, high)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_locator(NullLocator())  # ticks without labels, which take longest to draw


def _subs(axis: Axis, low: float, high: float) -> tuple[float, ...]:
    """Returns the multiples of powers of ten that are ticks: fewer where a long x axis has no room for 2 and 5."""
    if high <= 5 * low:
        return (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    ticks = [digit * 10.0**power for power in powers for digit in (1, 2, 5) if low <= digit * 10.0**power <= high]
    is_x = axis is axis.axes.xaxis
    return (1,) if is_x and sum(len(f"{tick:g}") + 2 for tick in ticks) > _characters(axis.axes) else (1, 2, 5)


def grid_ticks(axis: Axis, values: ArrayLike, names: Sequence[str] = ()) -> None:
    """Sets ticks at these values alone, labelled with their numbers or with `names`."""
    axis.set_ticks(np.asarray(values, float), names or texts(np.asarray(values, float)))
    axis.set_minor_locator(NullLocator())


def scale_by(values: ArrayLike, ax: Axes) -> None:
    """Sets the scale of the x axis: logarithmic, with a place for 0, if the values grow by factors."""
    places = np.unique(np.asarray(values, float))
    places = places[np.isfinite(places)]
    if grow_by_factors(places):
        log_scale(places, ax)


def log_scale(values: ArrayLike, ax: Axes) -> None:
    """Sets a logarithmic x axis, with a place for 0 and for values below, and ticks at some of the values."""
    places = np.unique(np.asarray(values, float))
    places = places[np.isfinite(places)]
    positive = places[places > 0]
    if not len(positive):
        return
    if len(positive) == len(places):
        ax.set_xscale("log")
    else:
        # 0 stands about one step before the smallest
        step = np.log10(positive[1] / positive[0]) if len(positive) > 1 else 1.0
        ax.set_xscale("symlog", linthresh=positive[0], linscale=max(0.3, step))
    value_ticks(places, ax)


def value_ticks(places: np.ndarray, ax: Axes) -> None:
    """Sets ticks of x at as many of these sorted values as have room: all that are 0 or below, and every n-th."""
    written = texts(places)
    zeros = int((places <= 0).sum())
    shown = [*range(zeros), *range(zeros, len(places), apart(written, ax))]
    at = ax.xaxis.get_transform().transform(places)
    at = (at - at[0]) / max(at[-1] - at[0], 1e-12)
    for i in shown[1:]:  # values that grow by differences are dense at the end
        before = max(j for j in shown if j < i)
        if at[i] - at[before] < ((len(written[i]) + len(written[before])) / 2 + 1) / _characters(ax):
            shown.remove(i)
    grid_ticks(ax.xaxis, places[shown], [written[i] for i in shown])


def apart(names: Sequence[str], ax: Axes, share: float = 1.0) -> int:
    """Returns n, so that every n-th of these tick labels has room along this share of x."""
    room = share * _characters(ax)
    return next((n for n in range(1, len(names)) if sum(len(name) + 2 for name in names[::n]) <= room), len(names))


def _characters(ax: Axes) -> int:
    """Returns how many characters of tick labels an axis is wide."""
    inches = ax.get_position().width * ax.figure.get_figwidth() if isinstance(ax.figure, Picture) else _INCHES
    return int(min(1.0, inches / _INCHES) * _TICKS_WIDTH)


_TICKS_WIDTH, _INCHES = 48, 2.7
"""Characters of tick labels along the axis of a column's figure, and its length."""


def empty(ax: Axes, why: str) -> Axes:
    """Writes the reason for missing data on the axis; the report leaves an empty figure out. Returns the axis."""
    ax.set_axis_off()
    ax.set_label(why)
    ax.text(0.5, 0.5, why, ha="center", va="center", wrap=True, transform=ax.transAxes)
    return ax


def why_empty(ax: Axes) -> str:
    """Returns the reason that `empty` wrote on this axis; "" where something is drawn."""
    return "" if ax.axison else str(ax.get_label())


def legend(ax: Axes, title: str | None = None) -> None:
    """Draws the legend below the axis, where it hides no point."""
    named: dict[str, Any] = {}
    for panel in panels(ax):
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    handles, labels = [*named.values()], [*named]
    if handles:
        order = sorted(range(len(handles)), key=lambda i: isinstance(handles[i], Line2D))  # curves before plain lines
        handles, labels = [handles[i] for i in order], [labels[i] for i in order]
        columns = _columns(labels, ax.figure.get_figwidth() / 3.5 if isinstance(ax.figure, Picture) else 1)
        if isinstance(ax.figure, Picture):
            beyond = max(0, -(-len(labels) // columns) - LEGEND_ROWS)
            ax.figure.set_figheight(ax.figure.get_figheight() + LEGEND_ROW * beyond)
        if isinstance(ax.figure, Canvas) and ax.figure.get_layout_engine() is None:
            ax.figure.set_layout_engine("constrained")  # only this layout makes room outside of the axes
        ax.figure.legend(handles, labels, title=title, ncols=columns, loc="outside lower center", title_fontsize=7)


LEGEND_ROWS, LEGEND_ROW = 3, 0.13
"""Rows of a legend for which a figure has room, and inches that each further row adds to its height."""


def _columns(labels: Sequence[str], wide: float) -> int:
    """Returns the most columns of a legend that fit a figure.  wide: its width in columns of a paper."""
    for count in range(min(int(5 * wide), len(labels)), 1, -1):
        rows = -(-len(labels) // count)
        columns = [labels[i : i + rows] for i in range(0, len(labels), rows)]
        if sum(max(map(len, column)) + 6 for column in columns) <= int(64 * wide):
            return len(columns)
    return 1


def panels(ax: Axes) -> list[Axes]:
    """Returns the axes of a figure of ours, without those of colours; in a figure of the user's, the axis alone."""
    return [other for other in ax.figure.axes if other.get_label() != "<colorbar>"] if is_ours(ax) else [ax]


def is_ours(ax: Axes) -> bool:
    """Returns whether the figure of this axis is one of `canvas`."""
    return isinstance(ax.figure, Picture)


def title(ax: Axes, text: str) -> None:
    """Writes what is held above a figure of ours; nothing above a figure of the user's."""
    if text and isinstance(ax.figure, Picture):
        ax.figure.suptitle(textwrap.fill(text, int(19 * ax.figure.get_figwidth())), fontsize=6.5, color="0.35")


def save(ax: Axes, folder: Location, name: str, title: str) -> list[Location]:
    """Writes the figure of this axis as PDF, SVG and PNG with its title as metadata; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.{kind}" for kind in UNDATED]
    assert isinstance(ax.figure, Canvas)
    figure = ax.figure
    if layout := figure.get_layout_engine():
        layout.execute(figure)  # once for all files
    # Matplotlib draws a figure that has any layout engine twice, and sets the style's engine again after each file
    with styled(), without_layout(), matplotlib.rc_context({"figure.constrained_layout.use": False}):
        figure.set_layout_engine(None)
        for path in paths:
            content = io.BytesIO()
            kind = path.suffix[1:]
            Canvas.savefig(figure, content, format=kind, metadata={"Title": title, **UNDATED[kind]})
            path.write_bytes(content.getvalue())
    return paths


def set_height(ax: Axes, inches: float) -> None:
    """Sets the height of this axis' figure."""
    assert isinstance(ax.figure, Canvas)
    ax.figure.set_figheight(inches)


def save_as(ax: Axes, path: Path) -> None:
    """Writes the figure of this axis to one file.  Raises StoreError for an unknown format or a failed write."""
    assert isinstance(ax.figure, Canvas)
    try:
        ax.figure.savefig(path, bbox_inches="tight")
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: the figure can't be written ({error}).") from error
