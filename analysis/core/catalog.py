"""Which analysis modules a sweep is asked by, and what each needs of it to draw its figures."""

from __future__ import annotations

import importlib
import importlib.util
import re
from dataclasses import dataclass
from types import ModuleType

import pandas as pd
from matplotlib.figure import Figure as Canvas

from analysis.core import figures, frames
from memsweep.results.storage.location import Location
from memsweep.results.storage.store import Snapshot, Store, StoreError

MODULES = "analysis.questions"
"""The package of the analysis modules."""
DEFAULT = "generalization"
"""The question asked of a sweep that has none of its own name."""
SEARCHES = {"capacity": "capacity_search", "boundary": "boundary", "best": "best"}
"""The question asked of such a sweep with a search, by the search's name."""


@dataclass(frozen=True)
class Broken:
    """A module that can't be imported."""

    name: str
    error: Exception


@dataclass(frozen=True)
class Answer:
    """What one module makes of a sweep's rows."""

    module: ModuleType
    read: pd.DataFrame  # all rows of its query
    chosen: pd.DataFrame  # those that it is about
    summary: pd.DataFrame

    @property
    def figures(self) -> list[figures.Figure]:
        """Those that have anything to show."""
        return [one for one in self.module.FIGURES if not one.only or len(one.about(self.chosen))]


def questions(sweep: str, search: str | None = None) -> dict[str, ModuleType | Broken]:
    """Prefix of figures -> analysis module: a sweep's namesake, its search's, or the default, and those it names."""
    is_there = sweep.isidentifier() and importlib.util.find_spec(f"{MODULES}.{sweep}") is not None
    module = _imported(sweep) if is_there else None
    if module is None or not (isinstance(module, Broken) or (hasattr(module, "QUERY") and hasattr(module, "FIGURES"))):
        module = _imported(SEARCHES.get(search or "", DEFAULT))
    others = {name: _imported(name) for name in getattr(module, "ALSO", ())}
    stem = re.sub(r"[^\w.-]", "_", sweep)  # whatever a part from elsewhere calls its sweep, files stay in their folder
    return {f"{stem}-": module, **{f"{stem}-{name}-": other for name, other in others.items()}}


def asked(sweep: str, store: Store) -> dict[str, ModuleType | Broken]:
    """The questions of a stored sweep."""
    return questions(sweep, _searches(store).get(sweep))


def answer(module: ModuleType | Broken, sweep: str, store: Store) -> Answer:
    """Raises whatever the module does, also when it was imported."""
    if isinstance(module, Broken):
        raise module.error
    read = frames.read(module.QUERY, sweep, store)
    chosen = module.select(read) if hasattr(module, "select") else read
    return Answer(module, read, chosen, module.summarize(chosen))


def figure(sweep: str, name: str | None, results: str | Location) -> Canvas:
    """A figure of a stored sweep as the report draws it, to change and to save.

    name: as its files are called after the sweep (`generalization-gap.svg`: gap); default: the sweep's first on which
    anything is drawn.  Raises StoreError with the names that there are, and whatever the module of the figure raises.
    """
    store = Snapshot(results)
    sweeps = _searches(store)
    if sweep not in sweeps:
        raise StoreError(f"no sweep {sweep!r} in {results}; there: {', '.join(sorted(sweeps)) or 'none'}.")
    modules, known, first, problem = asked(sweep, store), list[str](), None, None
    own = next(iter(modules))
    for prefix, module in modules.items():
        try:
            found = answer(module, sweep, store)
            for one in found.figures:
                known.append((prefix + one.name).removeprefix(own))
                if name in (None, known[-1]):
                    drawn, is_empty = _drawn(one, found.summary)
                    if not is_empty or name is not None:
                        return drawn
                    first = first or drawn
        except Exception as error:  # another module may have the figure
            problem = problem or error
    if problem:
        raise problem
    if first:
        return first
    raise StoreError(f"sweep {sweep!r} has no figure {name!r}; it has {', '.join(known) or 'none'}.")


def _drawn(one: figures.Figure, summary: pd.DataFrame) -> tuple[Canvas, bool]:
    """The figure, and whether there is nothing on it."""
    with figures.canvas() as ax:
        one.draw(summary, ax)
        assert isinstance(ax.figure, Canvas)
        return ax.figure, bool(figures.why_empty(ax))


def _imported(name: str) -> ModuleType | Broken:
    try:
        return importlib.import_module(f"{MODULES}.{name}")
    except Exception as error:  # whatever a module does when it is imported
        return Broken(f"{MODULES}.{name}", error)


def _searches(store: Store) -> dict[str, str | None]:
    """Stored sweep -> the name of its search."""
    wanted = store.current("wanted", ["sweep", "search"])
    rows = zip(*(column.to_pylist() for column in wanted.columns), strict=True)
    return {sweep: search for sweep, search in rows}
