"""Selects the analysis modules of a sweep and draws their figures."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import pandas as pd
import pyarrow.compute as pc
from matplotlib.figure import Figure as Canvas

from memsweep.analysis.core import figures, frames
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

    @property
    def figures(self) -> list[figures.Figure]:
        """Returns the module's figures for which the sweep has trials."""
        of_summary = self.module.figures_of(self.summary) if hasattr(self.module, "figures_of") else ()
        return [
            figure
            for figure in (*self.module.FIGURES, *of_summary)
            if not figure.only or len(figure.about(self.chosen))
        ]


def questions(sweep: str, search: str | None = None, also: Sequence[str] = ()) -> dict[str, ModuleType | Broken]:
    """Returns prefix of figure files -> analysis module.

    The first module is the sweep's namesake, else that of its search, else DEFAULT; the modules in its ALSO follow,
    then those of `also`.
    """
    is_there = sweep.isidentifier() and importlib.util.find_spec(f"{MODULES}.{sweep}") is not None
    module = _imported(sweep) if is_there else None
    if module is None or not (isinstance(module, Broken) or (hasattr(module, "QUERY") and hasattr(module, "FIGURES"))):
        module = _imported(SEARCHES.get(search or "", DEFAULT))
    others = {name: _imported(name) for name in (*getattr(module, "ALSO", ()), *also)}
    first = stem(sweep)
    return {f"{first}-": module, **{f"{first}-{name}-": other for name, other in others.items()}}


def stem(sweep: str) -> str:
    """Returns the beginning of a sweep's file names: the name of a sweep from a foreign part can't leave the folder."""
    return re.sub(r"[^\w.-]", "_", sweep)


def modules_of(sweep: str, store: Store) -> dict[str, ModuleType | Broken]:
    """Returns the analysis modules of a stored sweep, as `questions` does; METRICS and MEMORIZATION where its trials
    record them."""
    wanted = store.current("wanted", ["sweep", "metrics", "probes"])
    wanted = wanted.filter(pc.equal(wanted["sweep"], sweep))
    has_metrics = pc.any(pc.greater(pc.binary_length(wanted["metrics"]), 0)).as_py()
    has_scores = pc.any(pc.match_substring(wanted["probes"], MEMORIZATION)).as_py() and sweep != MEMORIZATION
    also = [name for name, is_there in ((METRICS, has_metrics), (MEMORIZATION, has_scores)) if is_there]
    return questions(sweep, _searches(store).get(sweep), also)


def answer(module: ModuleType | Broken, sweep: str, store: Store) -> Answer:
    """Returns the rows and the summary of a module for a sweep.

    Raises any exception of the module, including those of its import.
    """
    if isinstance(module, Broken):
        raise module.error
    read = frames.read(module.QUERY, sweep, store)
    chosen = module.select(read) if hasattr(module, "select") else read
    return Answer(module, read, chosen, module.summarize(chosen))


def figure(sweep: str, name: str | None, results: str | Location) -> Canvas:
    """Returns a figure of a stored sweep as the report draws it, to change and to save.

    name: part of the file names after the sweep (`generalization-gap.svg`: gap); default: the sweep's first figure with
    anything on it.
    Raises StoreError with the available names, and any exception of the figure's module.
    """
    store = Snapshot(results)
    sweeps = _searches(store)
    if sweep not in sweeps:
        raise StoreError(f"no sweep {sweep!r} in {results}; there: {', '.join(sorted(sweeps)) or 'none'}.")
    modules, names, first, problem = modules_of(sweep, store), list[str](), None, None
    first_prefix = next(iter(modules))
    for prefix, module in modules.items():
        try:
            result = answer(module, sweep, store)
            for drawing in result.figures:
                names.append((prefix + drawing.name).removeprefix(first_prefix))
                if name in (None, names[-1]):
                    drawn, is_empty = _drawn(drawing, result.summary)
                    if not is_empty or name is not None:
                        return drawn
                    first = first or drawn
        except Exception as error:  # another module may have the figure
            problem = problem or error
    if problem:
        raise problem
    if first:
        return first
    raise StoreError(f"sweep {sweep!r} has no figure {name!r}; it has {', '.join(names) or 'none'}.")


def _drawn(drawing: figures.Figure, summary: pd.DataFrame) -> tuple[Canvas, bool]:
    """Returns the figure, and whether it is empty."""
    with figures.canvas() as ax:
        drawing.draw(summary, ax)
        assert isinstance(ax.figure, Canvas)
        return ax.figure, bool(figures.why_empty(ax))


def _imported(name: str) -> ModuleType | Broken:
    try:
        return importlib.import_module(f"{MODULES}.{name}")
    except Exception as error:  # an import runs arbitrary code
        return Broken(f"{MODULES}.{name}", error)


def _searches(store: Store) -> dict[str, str | None]:
    """Returns stored sweep -> name of its search."""
    wanted = store.current("wanted", ["sweep", "search"])
    rows = zip(*(column.to_pylist() for column in wanted.columns), strict=True)
    return {sweep: search for sweep, search in rows}
