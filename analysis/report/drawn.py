"""One figure on the report's page: for Plotly, as files, in words and as a table."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import pandas as pd
from pandas.api.types import is_float_dtype

from memsweep.analysis.core import figures, frames, interactive
from memsweep.results.storage.location import Location
from memsweep.spec.numerals import texts

SHOWN_ROWS = 400


@dataclass(frozen=True)
class Drawn:
    """A figure on the page."""

    anchor: str
    title: str
    note: str
    words: str  # for readers who can't see it
    count: str  # of trials behind it, and of trials left out
    plot: dict[str, Any]  # Plotly's data and layout
    twins: dict[str, str]  # pdf, svg, png: as data addresses
    columns: list[str]
    rows: list[list[str]]
    more: int  # rows not shown


def drawn(figure: figures.Figure, summary: pd.DataFrame, prefix: str, count: str, folder: Location) -> Drawn | str:
    """Returns the figure with its files, or the reason why it is empty, without files."""
    rows = figure.rows(summary).drop(columns=["values", "fixed"], errors="ignore")
    with figures.canvas() as whole:
        ax = figure.draw(summary, whole)
        if why := figures.why_empty(ax):
            for kind in figures.UNDATED:  # of an earlier report
                (folder / f"{prefix}{figure.name}.{kind}").unlink(missing_ok=True)
            return why
        paths = figures.save(ax, folder, prefix + figure.name, figure.title)
        plot = interactive.describe(ax)
    return Drawn(
        prefix + figure.name,
        figure.title,
        figure.note,
        interactive.words(plot),
        count,
        plot,
        {path.suffix[1:]: _address(path) for path in paths},
        [frames.short(name) for name in rows.columns],
        _table(rows.head(SHOWN_ROWS)),
        max(0, len(rows) - SHOWN_ROWS),
    )


def _address(path: Location) -> str:
    """Returns the file's content as a data address, which needs no other file."""
    kind = {".pdf": "application/pdf", ".svg": "image/svg+xml", ".png": "image/png"}[path.suffix]
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _table(rows: pd.DataFrame) -> list[list[str]]:
    """Returns the texts of a table; fields and columns before the estimate have enough digits to distinguish values."""
    names = list(rows.columns)
    keys, columns = set(names[: names.index("estimate")] if "estimate" in names else ()) | set(frames.COLUMNS), []
    for name in names:
        values = rows[name]
        written = texts(values, 4) if name in keys and is_float_dtype(values) else map(_text, values)
        columns.append([text if has_value else "" for text, has_value in zip(written, values.notna(), strict=True)])
    return [list(row) for row in zip(*columns, strict=True)]


def _text(value: Any) -> str:
    if pd.isna(value):
        return ""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if value.is_integer() else f"{value:.4g}"
