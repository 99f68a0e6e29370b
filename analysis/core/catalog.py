"""Selects the analysis modules of a sweep and draws their figures."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from inspect import signature
from types import ModuleType

import pandas as pd
import pyarrow.compute as pc
from matplotlib.figure import Figure as Canvas

from memsweep.analysis.core import figures, frames
from memsweep.analysis.core.arrangement import DEFAULT as DEFAULT_VIEW
from memsweep.analysis.core.arrangement import View, ViewError, name_of, possible
from memsweep.analysis.core.figures import Figure
from memsweep.results.storage.location import Location
from memsweep.results.storage.snapshot import Snapshot
from memsweep.results.storage.store import Store, StoreError

MODULES = "memsweep.analysis.questions"
"""The package of the analysis modules."""
DEFAULT = "generalization"
"""Analysis module of a sweep that has no module of the same name."""
METRICS = "metrics"
"""Analysis module of a user's metrics."""
MEMORIZATION = "memorization"
"""Analysis module of trials with the probe of this name."""
SEARCHES = {"capacity": "capacity_search", "boundary": "boundary", "best": "best"}
"""Search -> analysis module of a sweep with this search that has no module of the same name."""


@dataclass(frozen=True)
class Broken:
    """A module that can't be imported."""

    name: str
    error: Exception


@dataclass(frozen=True)
class Answer:
    """Rows and summary of one analysis module for one sweep."""

    module: ModuleType
    read: pd.DataFrame  # all rows of its query
    chosen: pd.DataFrame  # the rows that the module selects
    summary: pd.DataFrame
    view: View = DEFAULT_VIEW

    @property
    def figures(self) -> list[Figure]:
        """Returns the module's figures for which the sweep has trials, in the view where they have its fields."""
        of_summary = self.module.figures_of(self.summary) if hasattr(self.module, "figures_of") else ()
        return [
            replace(figure, draw=partial(figure.draw, view=self.view)) if self.can_show(figure) else figure
            for figure in (*self.module.FIGURES, *of_summary)
            if not figure.only or len(figure.about(self.chosen))
        ]

    def can_show(self, figure: Figure) -> bool:
        """Returns whether the view was chosen and a figure has all its fields."""
        if figure.axes is None or self.view == DEFAULT_VIEW:
            return False
        try:
            self.view.within(figure.axes(self.summary))
        except ViewError:
            return False
        return True

    @property
    def names(self) -> set[str]:
        """Returns the fields and columns that vary and that a view may choose for some figure."""
        columns = {name for figure in self.module.FIGURES if figure.axes for name in figure.axes(self.summary)}
        return {name_of(name) for name in columns & set(self.summary) if self.summary[name].nunique(dropna=False) > 1}


def questions(sweep: str, search: str | None = None, also: Sequence[str] = ()) -> dict[str, ModuleType | Broken]:
    """Returns prefix of figure files -> analysis module.

    The first module is the sweep's namesake, else that of its search, else DEFAULT; the modules in its ALSO follow,
    then those of `also`.
    """
    is_there = sweep.isidentifier() and importlib.util.find_spec(f"{MODULES}.{sweep}") is not None
    module = imported(sweep) if is_there else None
    if module is None or not (isinstance(module, Broken) or (hasattr(module, "QUERY") and hasattr(module, "FIGURES"))):
        module = imported(SEARCHES.get(search or "", DEFAULT))
    others = {name: imported(name) for name in (*getattr(module, "ALSO", ()), *also)}
    first = stem(sweep)
    return {f"{first}-": module, **{f"{first}-{name}-": other for name, other in others.items()}}


def stem(sweep: str) -> str:
    """Returns the beginning of a sweep's file names: the name of a sweep from a foreign part can't leave the folder."""
    return re.sub(r"[^\w.-]", "_", sweep)


def modules_of(sweep: str, store: Store, view: View = DEFAULT_VIEW) -> dict[str, ModuleType | Broken]:
    """Returns the analysis modules of a stored sweep, as `questions` does; METRICS and MEMORIZATION where its trials
    record them.

    view: if it chooses any fields, DEFAULT is among the modules, which draws all trials along any field.
    """
    wanted = store.current("wanted", ["sweep", "metrics", "probes"])
    wanted = wanted.filter(pc.equal(wanted["sweep"], sweep))
    has_metrics = pc.any(pc.greater(pc.binary_length(wanted["metrics"]), 0)).as_py()
    has_scores = pc.any(pc.match_substring(wanted["probes"], MEMORIZATION)).as_py() and sweep != MEMORIZATION
    also = [name for name, is_there in ((METRICS, has_metrics), (MEMORIZATION, has_scores)) if is_there]
    modules = questions(sweep, _searches(store).get(sweep), also)
    first = next(iter(modules.values()))
    if view.names and getattr(first, "__name__", "") != f"{MODULES}.{DEFAULT}":
        modules[f"{stem(sweep)}-{DEFAULT}-"] = imported(DEFAULT)
    return modules


def answer(module: ModuleType | Broken, sweep: str, store: Store, view: View = DEFAULT_VIEW) -> Answer:
    """Returns the rows and the summary of a module for a sweep.

    view: of its figures; a module whose `select` takes a view selects the rows for it.

    Raises any exception of the module, including those of its import.
    """
    if isinstance(module, Broken):
        raise module.error
    read = frames.read(module.QUERY, sweep, store)
    chosen = read
    if hasattr(module, "select"):
        chosen = module.select(read, view) if "view" in signature(module.select).parameters else module.select(read)
    return Answer(module, read, chosen, module.summarize(chosen), view)


def check(view: View, sweeps: Sequence[str], store: Store) -> None:
    """Raises ViewError, with the possible names, if no figure of these sweeps has all fields of the view."""
    if not view.names:
        return
    names = set[str]()
    for sweep in sweeps:
        for module in modules_of(sweep, store, view).values():
            try:
                result = answer(module, sweep, store, view)
            except Exception:  # the report gives the reason
                continue
            names |= result.names
            if any(result.can_show(figure) for figure in result.module.FIGURES):
                return
    raise ViewError(f"{', '.join(view.names)}: no figure has such axes; {possible(names)}.")


def figure(sweep: str, name: str | None, results: str | Location, view: View = DEFAULT_VIEW) -> Canvas:
    """Returns a figure of a stored sweep as the report draws it, to change and to save.

    name: part of the file names after the sweep (`generalization-gap.svg`: gap); default: the sweep's first figure with
    anything on it.
    view: its axes, curves and panels.
    Raises StoreError with the available names, ViewError, and any exception of the figure's module.
    """
    store = Snapshot(results)
    sweeps = _searches(store)
    if sweep not in sweeps:
        raise StoreError(f"no sweep {sweep!r} in {results}; there: {', '.join(sorted(sweeps)) or 'none'}.")
    modules, names, first, problem = modules_of(sweep, store, view), list[str](), None, None
    possible_names, refused, others = set[str](), "", list[str]()
    first_prefix = next(iter(modules))
    for prefix, module in modules.items():
        try:
            result = answer(module, sweep, store, view)
            possible_names |= result.names
            for drawing in result.figures:
                names.append((prefix + drawing.name).removeprefix(first_prefix))
                is_viewed = view == DEFAULT_VIEW or _is_viewed(drawing)
                others += [names[-1]] * is_viewed
                if name == names[-1] and not is_viewed:
                    refused = _refusal(drawing, result.summary, name, view)
                elif is_viewed and name in (None, names[-1]):
                    drawn, is_empty = _drawn(drawing, result.summary)
                    if not is_empty or name is not None:
                        return drawn
                    first = first or drawn
        except Exception as error:  # another module may have the figure
            problem = problem or error
    if refused:
        raise ViewError(f"{refused} or draw {' or '.join(others)} so." if others else f"{refused}.")
    if problem:
        raise problem
    if first:
        return first
    if name is None and view != DEFAULT_VIEW:
        raise ViewError(f"{', '.join(view.names)}: sweep {sweep!r} has no such axes; {possible(possible_names)}.")
    raise StoreError(f"sweep {sweep!r} has no figure {name!r}; it has {', '.join(names) or 'none'}.")


def _refusal(drawing: Figure, summary: pd.DataFrame, name: str, view: View) -> str:
    """Returns why a figure can't be laid out by a view, and what to do."""
    chosen = ", ".join(view.names) or "another scale, or each seed"
    if drawing.axes:
        return f"figure {name!r} can't show {chosen}; {possible(map(name_of, drawing.axes(summary)))}"
    return f"figure {name!r} can't show {chosen}: its axes are fixed, since {drawing.fixed}; leave these options out"


def _is_viewed(drawing: figures.Figure) -> bool:
    return isinstance(drawing.draw, partial) and "view" in drawing.draw.keywords


def _drawn(drawing: figures.Figure, summary: pd.DataFrame) -> tuple[Canvas, bool]:
    """Returns the figure, and whether it is empty."""
    with figures.canvas() as ax:
        first = drawing.draw(summary, ax)
        assert isinstance(first.figure, Canvas)
        return first.figure, bool(figures.why_empty(first))


def imported(name: str) -> ModuleType | Broken:
    """Returns the analysis module of this name within MODULES."""
    try:
        return importlib.import_module(f"{MODULES}.{name}")
    except Exception as error:  # an import runs arbitrary code
        return Broken(f"{MODULES}.{name}", error)


def _searches(store: Store) -> dict[str, str | None]:
    """Returns stored sweep -> name of its search."""
    wanted = store.current("wanted", ["sweep", "search"])
    rows = zip(*(column.to_pylist() for column in wanted.columns), strict=True)
    return {sweep: search for sweep, search in rows}
