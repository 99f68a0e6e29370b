"""A figure to hover, toggle and zoom: what is on a Matplotlib axis, as a description that Plotly draws.

Knows lines, points and error bars, linear and logarithmic axes: what our figures are made of.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer
from matplotlib.lines import Line2D

_DASHES = {"--": "dash", ":": "dot", "-.": "dashdot", "-": "solid"}
_SYMBOLS = {
    "o": "circle", "s": "square", "^": "triangle-up", "D": "diamond", "v": "triangle-down", "P": "cross",
    "X": "x", "*": "star", "<": "triangle-left", ">": "triangle-right",
}  # fmt: skip


_DECADES = 2.5
"""Longer logarithmic axes have ticks at powers of ten alone."""


def describe(ax: Axes) -> dict[str, Any]:
    """data and layout of a Plotly figure that shows what is drawn on this axis."""
    bars = {container.lines[0]: container for container in ax.containers if isinstance(container, ErrorbarContainer)}
    legend = ax.figure.legends[0].get_title().get_text() if ax.figure.legends else ""
    return {
        "data": [_trace(line, bars.get(line)) for line in ax.lines],
        "layout": {
            "xaxis": _axis(ax.get_xscale(), ax.get_xlabel(), ax.get_xlim()),
            "yaxis": _axis(ax.get_yscale(), ax.get_ylabel(), ax.get_ylim()),
            "legend": {"title": {"text": legend}},
            "annotations": [
                {"text": text.get_text(), "showarrow": False, "xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5}
                for text in ax.texts
            ],
        },
    }


def _trace(line: Line2D, bars: ErrorbarContainer | None) -> dict[str, Any]:
    x, y = (np.asarray(values, float) for values in line.get_data())
    label = str(bars.get_label() if bars else line.get_label())
    has_line, has_points = line.get_linestyle() != "None", line.get_marker() in _SYMBOLS
    shown = not label.startswith("_")
    trace = {
        "type": "scatter",
        "mode": "+".join(["lines"] * has_line + ["markers"] * has_points),
        "name": label if shown else label.lstrip("_"),
        "showlegend": shown,
        "x": _numbers(x),
        "y": _numbers(y),
        "line": {
            "color": to_hex(line.get_color()),
            "width": 1.6,
            "dash": _DASHES.get(str(line.get_linestyle()), "solid"),
        },
    }
    if has_points:
        symbol = _SYMBOLS[str(line.get_marker())]
        hollow = line.get_markerfacecolor() == "none"
        trace["marker"] = {"symbol": f"{symbol}-open" if hollow else symbol, "size": 10 if hollow else 6}
    if bars and bars.has_yerr:
        trace["error_y"] = _errors(bars.lines[2][-1], y, 1)
    if bars and bars.has_xerr:
        trace["error_x"] = _errors(bars.lines[2][0], x, 0)
    return trace


def _errors(segments: Any, centre: np.ndarray, axis: int) -> dict[str, Any]:
    """Bars as lengths above and below the points. Matplotlib drops those of points that are not numbers."""
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


def _axis(scale: str, label: str, limits: tuple[float, float]) -> dict[str, Any]:
    if scale == "log":
        low, high = np.log10(limits).tolist()
        ticks = "D2" if high - low < _DECADES else 1  # 1, 2, 5, 10, or 1, 10, 100
        return {"title": {"text": label}, "type": "log", "range": [low, high], "dtick": ticks}
    return {"title": {"text": label}, "range": list(map(float, limits))}


def _numbers(values: np.ndarray) -> list[float | None]:
    """Not finite: null, which Plotly draws as a hole."""
    return [float(f"{value:.6g}") if np.isfinite(value) else None for value in values]
