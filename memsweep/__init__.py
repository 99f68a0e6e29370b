"""Hyperparameter sweeps that measure memorization, capacity and generalization in deep networks, trained in packs.

From Python: `memsweep.launch(SWEEP)`, `memsweep.table("trials")`, `memsweep.sql("select ...")` and
`memsweep.figure("generalization")`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import memsweep.launch  # noqa: F401  imported first, so that `memsweep.launch` comes to mean the function below
from memsweep.config import ConfigError, TrialConfig
from memsweep.searches import BestSearch, BoundarySearch, CapacitySearch, Range
from memsweep.sweep import Sweep, SweepError, linspace, log2, logspace

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from memsweep.launch.launcher import Report

__all__ = [
    "BestSearch",
    "BoundarySearch",
    "CapacitySearch",
    "ConfigError",
    "Range",
    "Sweep",
    "SweepError",
    "TrialConfig",
    "figure",
    "launch",
    "linspace",
    "log2",
    "logspace",
    "sql",
    "table",
]


def launch(sweep: Sweep | str | Sequence[Sweep | str], results: str | Path | None = None, **options: Any) -> Report:
    """Runs what is missing of a sweep, or of several, and stores it, as `memsweep launch` does.

    sweep: a Sweep, or the path or bare name of a sweep file; or several of them.
    results: folder; default MEMSWEEP_RESULTS or ./results.
    options: of `memsweep.launch.launcher.launch`, such as members=64, limit=10, device="cpu", retry=True.
    """
    from memsweep.launch import launcher
    from memsweep.results.query import default_results
    from memsweep.results.store import Store
    from memsweep.sweep import load_sweep

    asked = [sweep] if isinstance(sweep, Sweep | str) else sweep
    chosen = [load_sweep(one) if isinstance(one, str) else one for one in asked]
    return launcher.launch(chosen, Store(results or default_results(), create=True), **options)


def table(name: str, results: str | Path | None = None) -> pd.DataFrame:
    """One table, each trial once, as pandas: trials, steps, examples, packs or wanted."""
    from memsweep.results import query

    return query.table(name, results or query.default_results())


def sql(statement: str, results: str | Path | None = None) -> pd.DataFrame:
    """The answer to one SELECT over the tables, as pandas."""
    from memsweep.results import query

    return query.sql(statement, results or query.default_results())


def figure(sweep: str, name: str | None = None, results: str | Path | None = None) -> Figure:
    """A figure of a stored sweep as the report draws it: Matplotlib's, to change and to save into a paper.

    name: as its files are called after the sweep (`generalization-gap.svg`: "gap"); default: the sweep's first.
    Raises StoreError with the names that there are.
    """
    from analysis import questions
    from memsweep.results.query import default_results

    return questions.figure(sweep, name, results or default_results())
