"""Which field of a summary runs along x, which ones make curves and panels, and which are held at one value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from memsweep.analysis.core import frames
from memsweep.results.storage.parts import StoreError
from memsweep.spec.fields.own import is_own_column

CURVES, PANELS = 10, 6
"""Most curves of a panel, and most panels of a figure; of more, this many are evenly chosen."""
JOINT = 4
"""Up to this many combinations of several fields are curves of one panel."""
SCALES = ("linear", "log")


class ViewError(StoreError):
    """A figure can't be laid out as requested; the message gives the possible names."""


@dataclass(frozen=True)
class View:
    """How figures are to be laid out: fields by dotted name or by column; what is empty follows from `arrange`."""

    x: str = ""
    y: str = ""  # of a map, whose colour is the quantity
    curves: tuple[str, ...] = ()
    panels: tuple[str, ...] = ()
    scale: tuple[str, ...] = ()  # of x, then of y
    level: float | None = None  # of the level line of a map
    seeds: bool = False  # whether each seed is drawn too

    @classmethod
    def of(
        cls,
        x: str | None = None,
        y: str | None = None,
        curves: str | Iterable[str] | None = None,
        panels: str | Iterable[str] | None = None,
        scale: str | None = None,
        level: float | None = None,
        seeds: bool = False,
    ) -> View:
        """Returns a view of options as a user gives them: several names are a sequence, or a text with commas.

        Raises ViewError for an unknown scale, for a field in two places, and for options that exclude each other.
        """
        scales = _split(scale)
        if len(scales) > 2 or not set(scales) <= set(SCALES):
            raise ViewError(f"scale {scale!r}: choose linear or log, or two of them: that of x, then that of y.")
        view = cls(x or "", y or "", _split(curves), _split(panels), scales, level, seeds)
        if twice := [name for name in view.names if view.names.count(name) > 1]:
            raise ViewError(f"{twice[0]}: a field has one place in a figure; it was chosen for two.")
        if view.y and view.curves:
            raise ViewError(f"curves {', '.join(view.curves)}: a map (y {view.y}) has no curves; choose panels.")
        if level is not None and not view.y:
            raise ViewError(f"level {level:g}: only a map has a level line; choose y, the field that runs up.")
        return view

    @property
    def names(self) -> list[str]:
        """Returns the chosen fields."""
        return [name for name in (self.x, self.y, *self.curves, *self.panels) if name]

    def within(self, columns: Sequence[str]) -> View:
        """Returns the view with columns in place of fields.  Raises ViewError with the possible names."""
        by_name = {**{name_of(column): column for column in columns}, **{column: column for column in columns}}
        for name in self.names:
            if name not in by_name:
                raise ViewError(f"{name!r} varies in no such figure; {possible(map(name_of, columns))}.")
        return replace(
            self,
            x=by_name.get(self.x, ""),
            y=by_name.get(self.y, ""),
            curves=tuple(by_name[name] for name in self.curves),
            panels=tuple(by_name[name] for name in self.panels),
        )


DEFAULT = View()


@dataclass(frozen=True)
class Arrangement:
    """Places of the fields that vary between the rows of a summary."""

    x: str
    y: str  # "" unless a map
    curves: tuple[str, ...]
    panels: tuple[str, ...]
    along: tuple[str, ...]  # fields that follow from x
    rows: pd.DataFrame  # those that are drawn
    notes: tuple[str, ...]  # what is fixed, and what is left out

    def each_panel(self) -> list[tuple[str, pd.DataFrame]]:
        """Returns title and rows of each panel."""
        return _groups(self.rows, self.panels)

    def each_curve(self, rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
        """Returns label and rows of each curve of a panel, in the same order in each; a panel may lack some."""
        is_short = len(self.curves) == 1
        every = dict(_groups(self.rows, self.curves, is_short=is_short, has_all=True))
        of_panel = dict(_groups(rows, self.curves, among=self.rows, is_short=is_short))
        return [(label, of_panel.get(label, rows.iloc[:0])) for label in every]

    @property
    def legend(self) -> str | None:
        """Returns the title of the legend: the field of the curves, where there is one."""
        return frames.short(self.curves[0]) if len(self.curves) == 1 and _is_field(self.curves[0]) else None

    @property
    def is_ordered(self) -> bool:
        """Returns whether the curves are values of one numeric field."""
        return len(self.curves) == 1 and is_numeric(self.rows[self.curves[0]])


def arrange(
    points: pd.DataFrame,
    keys: Sequence[str],
    view: View = DEFAULT,
    x: str = "",
    curves: Sequence[str] = (),
    *,
    has_panels: bool = True,
    most: int = CURVES,
) -> Arrangement:
    """Returns the places of the columns `keys` in a figure of these rows, one a setting.

    Along x runs the chosen column, else `x`, else the numeric one with most values. Columns that follow from x are not
    drawn on their own. Curves are the chosen columns, else `curves`, else all others if they make few combinations,
    else the one with most values. Others make panels, as long as these are at most PANELS; what is left is held at its
    middle value.
    has_panels: false in a figure of the user's, where all others make curves, or are held in a map.
    most: curves of a panel.
    view: with columns, as from `View.within`.  Raises ViewError if nothing is left along x, or for panels without room.
    """
    varying = [key for key in keys if points[key].nunique(dropna=False) > 1]
    chosen = {view.y, *view.curves, *view.panels} - {""}
    across = view.x or (x if x not in chosen else "") or _longest(points, [key for key in varying if key not in chosen])
    across = across or next((key for key in keys if key not in chosen), "")
    if not across:
        raise ViewError(f"{name_of(next(iter(chosen)))}: no other field varies, so nothing is left along x.")
    axes = [across, view.y] if view.y else [across]
    along = _determined(points, axes, [key for key in varying if key not in (*axes, *chosen, *curves)])
    free = [key for key in varying if key not in (*axes, *along, *view.panels)]
    if view.curves or view.y:
        drawn = list(view.curves)
    elif usual := [key for key in curves if key not in (*axes, *view.panels)]:
        drawn = usual
    else:
        drawn = free if not has_panels or _count(points, free) <= JOINT else [_most(points, free)]
    left = [key for key in free if key not in drawn]
    left = [key for key in left if key not in _determined(points, [*axes, *drawn, *view.panels], left)]
    if not has_panels and view.panels:
        raise ViewError(f"{name_of(view.panels[0])}: panels need a figure of their own; pass no axis, or use curves.")
    if has_panels or view.y:
        panels, fixed = _panels(points, view.panels, left) if has_panels else ([], left)
    else:
        drawn, panels, fixed = [*drawn, *left], [], []
    rows, notes = points, list[str]()
    for key in fixed:
        if rows[key].nunique(dropna=False) == 1:  # it follows from another
            continue
        rows, note = _at_one_value(rows, key)
        notes.append(note)
    for columns, count in ((panels, PANELS), (drawn, most)):
        rows, note = _thinned(rows, columns, count)
        notes += [note] if note else []
    return Arrangement(across, view.y, tuple(drawn), tuple(panels), tuple(along), rows, tuple(notes))


def name_of(column: str) -> str:
    """Returns the dotted field of a column, else the column's own name."""
    return frames.field_of(column) if _is_field(column) else column


def _is_field(column: str) -> bool:
    return column in frames.COLUMNS or is_own_column(column)


def possible(names: Iterable[str]) -> str:
    """Returns the end of a message: the names that can be chosen."""
    listed = sorted(set(names))
    return f"choose {', '.join(listed)}" if listed else "no field varies there"


def is_numeric(values: pd.Series[Any]) -> bool:
    """Returns whether values can be placed by their size; true and false are names."""
    return is_numeric_dtype(values) and not is_bool_dtype(values)


def even(count: int, most: int) -> np.ndarray:
    """Returns at most `most` positions of `count`, evenly spaced, both ends included."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def grow_by_factors(places: np.ndarray) -> bool:
    """Returns whether sorted values are spaced by factors, not differences; with 0 among them they must span more."""
    positive = places[places > 0]
    if len(positive) < 2 or places[0] < 0:
        return False
    span, factors = positive[-1] / positive[0], np.diff(np.log(positive))
    if len(positive) < 3 or len(positive) < len(places):
        return bool(span >= 20 and _unevenness(factors) <= _unevenness(np.diff(positive)))
    is_even = _unevenness(factors) < 1.01
    return bool(span >= (4 if is_even else 20) and _unevenness(factors) < _unevenness(np.diff(positive)))


def _unevenness(steps: np.ndarray) -> float:
    """Returns the largest of these steps over the smallest."""
    return float(steps.max() / steps.min())


def _split(names: str | Iterable[str] | None) -> tuple[str, ...]:
    listed = names.split(",") if isinstance(names, str) else list(names or ())
    return tuple(name.strip() for name in listed if name.strip())


def _groups(
    rows: pd.DataFrame,
    columns: Sequence[str],
    among: pd.DataFrame | None = None,
    *,
    is_short: bool = False,
    has_all: bool = False,
) -> list[tuple[str, pd.DataFrame]]:
    """Returns label and rows of each combination.  among: rows whose labels must differ.  is_short: values alone.

    has_all: of a categorical column also the categories without rows, whose curves so keep their looks in all figures.
    """
    if not columns:
        return [("", rows)]
    groups = []
    is_all = has_all and len(columns) == 1
    for values, of_group in rows.groupby(list(columns), sort=True, dropna=False, observed=not is_all):
        label = frames.label(dict(zip(columns, values, strict=True)), rows if among is None else among)
        groups.append((label.removeprefix(frames.short(columns[0])).strip() if is_short else label, of_group))
    return groups


def _longest(points: pd.DataFrame, keys: Sequence[str]) -> str:
    """Returns the numeric column with most values, the noise fraction of several; "" without any column."""

    def rank(key: str) -> tuple[bool, int, bool]:
        values: pd.Series[Any] = points[key]
        return not is_numeric(values), -values.nunique(), key != _NOISE

    return min(keys, key=rank, default="")


_NOISE = "data_noise_fraction"


def _most(points: pd.DataFrame, keys: Sequence[str]) -> str:
    """Returns the column with most values of those with at most CURVES, else the one with fewest."""
    counts = {key: points[key].nunique(dropna=False) for key in keys}
    few = {key: count for key, count in counts.items() if count <= CURVES}
    return max(few, key=lambda key: few[key]) if few else min(counts, key=lambda key: counts[key])


def _count(points: pd.DataFrame, keys: Sequence[str]) -> int:
    return len(points[list(keys)].drop_duplicates()) if keys else 1


def _determined(points: pd.DataFrame, by: Sequence[str], keys: Sequence[str]) -> list[str]:
    """Returns the columns that have one value for each combination of `by`."""
    groups = points.groupby(list(by), dropna=False)
    return [key for key in keys if (groups[key].nunique(dropna=False) <= 1).all()]


def _panels(points: pd.DataFrame, chosen: Sequence[str], left: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns the columns that make panels, and those that are fixed."""
    panels, fixed = list(chosen), list[str]()
    for key in sorted(left, key=lambda key: points[key].nunique(dropna=False)):
        (panels if _count(points, [*panels, key]) <= PANELS else fixed).append(key)
    if not panels and fixed:
        panels = [fixed.pop(0)]
    return panels, fixed


def _at_one_value(rows: pd.DataFrame, key: str) -> tuple[pd.DataFrame, str]:
    """Returns the rows at one value of a column, the middle one of those with most results, and a note."""
    values = rows.loc[rows["estimate"].notna(), key] if rows["estimate"].notna().any() else rows[key]
    modes = values.mode(dropna=False)
    value = modes.iloc[len(modes) // 2]
    chosen = rows[rows[key] == value]
    return chosen, f"at {frames.label({key: value}, rows)} (of {rows[key].nunique()} values)"


def _thinned(rows: pd.DataFrame, columns: Sequence[str], most: int) -> tuple[pd.DataFrame, str]:
    """Returns the rows of at most this many combinations, and a note if there are more."""
    if not columns:
        return rows, ""
    numbers = rows.groupby(list(columns), sort=True, dropna=False).ngroup()
    count = int(numbers.max()) + 1 if len(numbers) else 0
    if count <= most:
        return rows, ""
    named = " and ".join(map(frames.short, columns))
    return rows[numbers.isin(even(count, most))], f"{most} of {count} values of {named}"
