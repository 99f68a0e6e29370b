"""Describes a Matplotlib figure, of one axis or of several panels, as a Plotly figure to hover, toggle and zoom.

Supports lines, points, error bars and coloured squares, on linear and logarithmic axes. Lines with a gid of GROUP/NAME
are hidden and shown together.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, StrMethodFormatter

from memsweep.analysis.core import figures
from memsweep.spec.numerals import DIGITS, texts

_DASHES = {"--": "dash", ":": "dot", "-.": "dashdot", "-": "solid"}
_SYMBOLS = {
    "o": "circle", "s": "square", "^": "triangle-up", "D": "diamond", "v": "triangle-down", "P": "cross",
    "X": "x", "_": "line-ew", ".": "circle", "*": "star", "<": "triangle-left", ">": "triangle-right",
}  # fmt: skip


WORDS_OF_CURVES = 8
"""Most curves that are described in words; further curves are only counted."""
_DECADES = 2.5
"""Longer logarithmic axes have ticks at powers of ten alone. Axes of less than a decade, which might have a single
tick of 2, have Matplotlib's ticks."""


def describe(ax: Axes) -> dict[str, Any]:
    """Returns data and layout of a Plotly figure that looks like this axis, or like all panels of a figure of ours.

    rows: of panels, where there are several.  Raises ValueError for an image.
    """
    panels = figures.panels(ax)
    note = ax.figure.get_suptitle() if isinstance(ax.figure, Canvas) else ""
    plot = _of_axis(ax) if len(panels) <= 1 else _of_panels(panels)
    if note:
        plot["layout"]["annotations"].append({**_ABOVE, "text": _lines(note), "font": {"size": 11, "color": "#666666"}})
    return plot


_ABOVE = {
    "xref": "paper", "yref": "paper", "x": 0, "y": 1, "xanchor": "left", "yanchor": "bottom", "yshift": 16,
    "showarrow": False, "align": "left",
}  # fmt: skip
GAP = 0.04
"""Between panels, as a share of the figure's width; twice as much of its height, for their titles."""


def _of_panels(panels: Sequence[Axes]) -> dict[str, Any]:
    """Returns a figure of panels, which share their curves' names and colours."""
    data, layout, named = list[dict[str, Any]](), dict[str, Any](annotations=[]), set[str]()
    rows = 1
    for number, ax in enumerate(panels, 1):
        plot, suffix = _of_axis(ax), "" if number == 1 else str(number)
        x, y = f"x{suffix}", f"y{suffix}"
        spec = ax.get_subplotspec()
        assert spec is not None
        rows, columns = spec.get_gridspec().nrows, spec.get_gridspec().ncols
        left, top = spec.colspan.start / columns, 1 - spec.rowspan.start / rows
        width, height = 1 / columns - GAP, 1 / rows - 2 * GAP
        of_x = {**plot["layout"]["xaxis"], "domain": [left, left + width], "anchor": y, "matches": "x"}
        of_y = {**plot["layout"]["yaxis"], "domain": [top - height, top], "anchor": x, "matches": "y"}
        of_x["showticklabels"], of_y["showticklabels"] = bool(ax.get_xlabel()), bool(ax.get_ylabel())
        if number == 1:
            del of_x["matches"], of_y["matches"]
        layout |= {
            f"xaxis{suffix}": of_x,
            f"yaxis{suffix}": of_y,
            "legend": layout.get("legend") or plot["layout"]["legend"],
        }
        for trace in plot["data"]:
            name = trace["name"]
            is_repeated = name in named
            named.add(name)
            group = (
                {"legendgroup": name, "showlegend": trace["showlegend"] and not is_repeated}
                if name and "showlegend" in trace
                else {}
            )
            data.append({**trace, **group, "xaxis": x, "yaxis": y})
        title = {"text": ax.get_title(), "xref": f"{x} domain", "yref": f"{y} domain", "x": 0.5, "y": 1}
        layout["annotations"].append(
            {**title, "yanchor": "bottom", "showarrow": False, "font": {"size": 11, "color": "#333333"}}
        )
        for text in plot["layout"]["annotations"]:
            refs = (f"{x} domain", f"{y} domain") if text.get("xref") == "paper" else (x, y)
            layout["annotations"].append({**text, "xref": refs[0], "yref": refs[1]})
    return {"data": data, "layout": layout, "rows": rows}


def _of_axis(ax: Axes) -> dict[str, Any]:
    """Returns data and layout of one axis."""
    if ax.images:
        raise ValueError("an image has no edges of squares: draw squares by pcolormesh.")
    bars = {container.lines[0]: container for container in ax.containers if isinstance(container, ErrorbarContainer)}
    legend = ax.figure.legends[0].get_title().get_text() if ax.figure.legends else ""
    squares = [_squares(mesh) for mesh in ax.collections if isinstance(mesh, QuadMesh)]
    return {
        "data": [*squares, *(_placed(_trace(line, bars.get(line)), ax.xaxis) for line in ax.lines)],
        "layout": {
            "xaxis": _axis(ax.xaxis, ax.get_xscale(), ax.get_xlabel(), ax.get_xlim()),
            "yaxis": _axis(ax.yaxis, ax.get_yscale(), ax.get_ylabel(), ax.get_ylim()),
            "legend": {"title": {"text": _lines(legend), "side": "top"}},
            "annotations": [_annotation(text, ax) for text in ax.texts],
        },
    }


def words(plot: dict[str, Any]) -> str:
    """Returns the result of `describe` in words, for readers who can't see it: axes, ends of curves, range of
    colours."""
    layout, sentences = plot["layout"], list[str]()
    of_panels = [name for name in layout if name.startswith(("xaxis", "yaxis"))]
    every = {side: [layout[name]["title"]["text"] for name in of_panels if name[0] == side] for side in "xy"}
    titles = [next(filter(None, every[side]), "").replace("<br>", " ") for side in "xy"]
    if any(titles):
        sentences.append(f"Across: {titles[0] or 'no name'}. Up: {titles[1] or 'no name'}.")
    if "rows" in plot:
        panels = [text["text"] for text in layout["annotations"] if text["xref"].endswith(" domain")]
        sentences.append(f"Panels: {'; '.join(panels)}.")
    curves = [sentence for trace in plot["data"] if (sentence := _in_words(trace, *_axes_of(trace, layout)))]
    sentences += curves[:WORDS_OF_CURVES]
    if len(curves) > WORDS_OF_CURVES:
        sentences.append(f"{len(curves) - WORDS_OF_CURVES} more.")
    if not curves:
        sentences += [f"{annotation['text'].replace('<br>', ' ').rstrip('.')}." for annotation in layout["annotations"]]
    return " ".join(sentences)


def _axes_of(trace: dict[str, Any], layout: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the axes of a trace."""
    x, y = trace.get("xaxis", "x"), trace.get("yaxis", "y")
    return layout[f"xaxis{x[1:]}"], layout[f"yaxis{y[1:]}"]


def _in_words(trace: dict[str, Any], across: dict[str, Any], up: dict[str, Any]) -> str | None:
    if trace["type"] == "heatmap":
        values = [value for row in trace["z"] for value in row if value is not None]
        name = trace["name"] or "colours"
        return f"{name}: {min(values):.3g} to {max(values):.3g}." if values else None
    values, across = (trace["customdata"], {}) if "customdata" in trace else (trace["x"], across)
    points = [(x, y) for x, y in zip(values, trace["y"], strict=True) if None not in (x, y)]
    if not points:
        return None
    ends = [f"{_called(y, up)} at {_called(x, across)}" for x, y in dict.fromkeys([points[0], points[-1]])]
    return f"{trace['name'] or 'the curve'}: {' to '.join(ends)}."


def _called(value: float, axis: dict[str, Any]) -> str:
    """Returns the axis's tick label of a number, else the number as text."""
    ticks = zip(axis.get("tickvals", ()), axis.get("ticktext", ()), strict=True)
    return next((text for place, text in ticks if abs(place - value) < 1e-6), texts([value])[0])


def _squares(mesh: QuadMesh) -> dict[str, Any]:
    """Returns a heatmap of the mesh; squares without a value have no colour."""
    values: np.ndarray = np.ma.filled(np.ma.asarray(mesh.get_array(), float), np.nan)
    corners = np.asarray(mesh.get_coordinates(), float)  # [rows + 1, columns + 1, 2]
    low, high = mesh.get_clim()
    shades = np.linspace(0, 1, 9)
    return {
        "type": "heatmap",
        "x": _numbers(corners[0, :, 0]),
        "y": _numbers(corners[:, 0, 1]),
        "z": [_numbers(row) for row in values],
        "zmin": low,
        "zmax": high,
        "colorscale": [[float(shade), to_hex(mesh.cmap(shade))] for shade in shades],
        "showscale": mesh.colorbar is not None,
        "colorbar": {"title": {"text": str(mesh.get_label()).lstrip("_"), "side": "right"}, "thickness": 14},
        "name": str(mesh.get_label()).lstrip("_"),
    }


def _annotation(text: Text, ax: Axes) -> dict[str, Any]:
    """Returns a text at its data coordinates, on linear axes; a text in other coordinates is centred."""
    annotation = {"text": _lines(text.get_text()), "showarrow": False}
    if text.get_transform() != ax.transData:
        return {**annotation, "xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5}
    x, y = text.get_position()
    return {**annotation, "x": float(x), "y": float(y), "font": {"color": to_hex(text.get_color()), "size": 11}}


def _lines(text: str) -> str:
    return text.replace("\n", "<br>")


def _trace(line: Line2D, bars: ErrorbarContainer | None) -> dict[str, Any]:
    x, y = (np.asarray(values, float) for values in line.get_data())
    label = str(bars.get_label() if bars else line.get_label())
    has_line, has_points = line.get_linestyle() != "None", line.get_marker() in _SYMBOLS
    shown = not label.startswith("_")
    name = "" if re.fullmatch(r"_(container|child)\d+", label) else label.lstrip("_")  # automatic labels of Matplotlib
    trace = {
        "type": "scatter",
        "mode": "+".join(["lines"] * has_line + ["markers"] * has_points),
        "name": name,
        "showlegend": shown,
        "x": _numbers(x, DIGITS),
        "y": _numbers(y),
        "line": {
            "color": to_hex(line.get_color()),
            "width": 1.6,
            "dash": _DASHES.get(str(line.get_linestyle()), "solid"),
        },
    }
    if (alpha := line.get_alpha()) is not None:
        trace["opacity"] = alpha
    if group := line.get_gid():
        trace["legendgroup"] = group.partition("/")[0]
    if has_points:
        symbol = _SYMBOLS[str(line.get_marker())]
        hollow = line.get_markerfacecolor() == "none"
        size = 10 if hollow else 3 if line.get_marker() == "." else 6
        trace["marker"] = {"symbol": f"{symbol}-open" if hollow else symbol, "size": size}
    if bars and bars.has_yerr:
        trace["error_y"] = _errors(bars.lines[2][-1], y, 1)
    if bars and bars.has_xerr:
        trace["error_x"] = _errors(bars.lines[2][0], x, 0)
    return trace


def _placed(trace: dict[str, Any], axis: Axis) -> dict[str, Any]:
    """Returns the trace placed along a symmetric logarithmic x axis, which Plotly lacks; customdata holds its
    values."""
    if axis.get_scale() != "symlog":
        return trace
    values = np.array(trace["x"], float)
    return {
        **trace,
        "x": _numbers(axis.get_transform().transform(values)),
        "customdata": trace["x"],
        "hovertemplate": f"(%{{customdata}}, %{{y}})<extra>{html.escape(trace['name'])}</extra>",
    }


def _errors(segments: Any, centre: np.ndarray, axis: int) -> dict[str, Any]:
    """Returns bars as lengths above and below the points. Matplotlib drops bars of points that are not finite."""
    ends = [segment[:, axis] for segment in segments.get_segments() if len(segment)]
    below, above = np.zeros(len(centre)), np.zeros(len(centre))
    drawn = np.flatnonzero(np.isfinite(centre))
    for i, (low, high) in zip(drawn, ends, strict=False):
        below[i], above[i] = centre[i] - low, high - centre[i]
    return {
        "type": "data",
        "symmetric": False,
        "array": _numbers(above),
        "arrayminus": _numbers(below),
        "width": 0,
        "thickness": 1,
    }


def _axis(axis: Axis, scale: str, label: str, limits: tuple[float, float]) -> dict[str, Any]:
    spec: dict[str, Any] = {"title": {"text": _lines(label), "standoff": 12}}
    if scale == "log":
        low, high = np.log10(limits).tolist()
        ticks = "D2" if high - low < _DECADES else 1  # 1, 2, 5, 10, or 1, 10, 100
        spec |= {"type": "log", "range": [low, high], "dtick": ticks}
        if ticks == "D2" or isinstance(axis.get_major_formatter(), StrMethodFormatter):
            spec["tickformat"] = "~g"  # in full: by default, Plotly writes 20 as a small 2
        if high - low < 1:
            places = [float(place) for place in axis.get_majorticklocs() if limits[0] <= place <= limits[1]]
            spec |= {"tickvals": places, "ticktext": [f"{place:g}" for place in places]}
    else:
        spec |= {"range": list(map(float, limits))}
    if isinstance(locator := axis.get_major_locator(), FixedLocator):  # ticks set by grid_ticks
        places = [float(place) for place in locator()]
        spec |= {"tickvals": places, "ticktext": [label.get_text() for label in axis.get_ticklabels()]}
    if scale == "symlog":
        places = spec.get("tickvals", [place for place in axis.get_majorticklocs() if limits[0] <= place <= limits[1]])
        spec |= {"tickvals": _numbers(axis.get_transform().transform(np.array(places, float)))}
        spec |= {"range": _numbers(axis.get_transform().transform(np.array(limits, float)))}
        spec["ticktext"] = spec.get("ticktext") or texts(places)
    if "tickvals" in spec:
        spec.pop("dtick", None)
    return spec


def _numbers(values: np.ndarray, digits: int = 6) -> list[float | None]:
    """Returns numbers rounded to `digits`; null, which Plotly draws as a hole, where they are not finite."""
    return [float(f"{value:.{digits}g}") if np.isfinite(value) else None for value in values]
