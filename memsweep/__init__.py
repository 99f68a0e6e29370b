"""Hyperparameter sweeps that measure memorization, capacity and generalization in deep networks, trained in packs.

From Python: `memsweep.launch(SWEEP)`, `memsweep.table("trials")`, `memsweep.sql("select ...")` and
`memsweep.figure("generalization")`. Each of them takes `results`, a folder or s3://bucket/prefix; without it, it is
MEMSWEEP_RESULTS or ./results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from memsweep.spec.axes import linspace, log2, logspace
from memsweep.spec.config import ConfigError, TrialConfig
from memsweep.spec.search import BestSearch, BoundarySearch, CapacitySearch, Range
from memsweep.spec.sweep import Sweep, SweepError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from memsweep.run.launcher import Report
    from memsweep.run.packing import Tally
    from memsweep.spec.budget import Budget

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


def launch(
    sweep: Sweep | str | Sequence[Sweep | str],
    results: str | Path | None = None,
    *,
    address: str | None = None,
    workers: int | None = None,
    members: int | None = None,
    limit: int | None = None,
    device: str | None = None,
    compiling: bool | None = None,
    retry: bool = False,
    yes: bool = False,
    add: bool = False,
    budget: str | Budget | None = None,
    patience_seconds: float = 600.0,
    checkpoint_seconds: float = 30.0,
    tracking_uri: str | None = None,
    progress: bool = True,
    watch: Callable[[int, int, Tally], None] | None = None,
) -> Report:
    """Runs what is missing of a sweep, or of several, and stores it, as `memsweep launch` does.

    sweep: a Sweep, or the path or bare name of a sweep file, with `:NAME` behind it only that one of its sweeps; or
    several of them.
    address: of a running Ray cluster; default: one of its own, here, which ends with the launch.
    workers: packs at a time; default: what there is room for.  members: trials trained at a time in a pack, at most.
    limit: only the first so many trials of each sweep are run; it wants the others all the same.
    device: "cpu" or "cuda"; default: a GPU where there is one.
    compiling: whether programs are compiled; default: where it pays.
    retry: failed trials run again.
    yes: sweeps of more than 1,000,000 trials are launched too.
    add: what earlier launches want of the sweep counts on; else it wants what this one says.
    budget: what may be spent, "30m", "500trials" or "1e6steps"; the next launch goes on.
    patience_seconds: a worker that shows no progress for so long is ended.
    checkpoint_seconds: packs in training are saved about as often.
    tracking_uri: where MLflow is filled, in the background; "none": nowhere; default: MLFLOW_TRACKING_URI, else a
    database in the folder.
    progress: whether stderr shows how far it is: a bar on a terminal, else a line now and then.
    watch: called with (trials settled before, trials wanted, tally of this launch) as it goes.

    Returns how it ended, in counts of trials, with the causes of failures; as text, a few sentences. Raises ConfigError
    for a sweep or budget that can't be, StoreError where another launch holds the folder. A trial that fails raises
    nothing: its row says why.

    >>> report = memsweep.launch("smoke")
    >>> report.wanted, report.failed, report.missing
    (12, 0, 0)
    """
    from memsweep.cli.progress import Progress
    from memsweep.results.query import default_results
    from memsweep.results.storage.store import Store
    from memsweep.run import launcher
    from memsweep.run.launch_options import LaunchOptions
    from memsweep.spec.budget import UNLIMITED, Budget
    from memsweep.spec.sweep import check_size
    from memsweep.spec.sweep_files import load_sweeps

    asked = [sweep] if isinstance(sweep, Sweep | str) else sweep
    sweeps = [each for one in asked for each in (load_sweeps(one).values() if isinstance(one, str) else [one])]
    if not yes:
        check_size(sweeps)
    options = LaunchOptions(
        address=address,
        workers=workers,
        members=members,
        limit=limit,
        device=device,
        compiling=compiling,
        retry=retry,
        yes=yes,
        add=add,
        budget=Budget.of(budget) if isinstance(budget, str) else budget or UNLIMITED,
        patience_seconds=patience_seconds,
        checkpoint_seconds=checkpoint_seconds,
        tracking_uri=tracking_uri,
    )
    store = Store(results or default_results(), create=True)
    with Progress(launcher.title(sweeps)) if progress else nullcontext() as shown:

        def update(settled: int, wanted: int, tally: Tally) -> None:
            for each in (shown.update if shown else None, watch):
                if each:
                    each(settled, wanted, tally)

        return launcher.launch(sweeps, store, options, update)


def table(name: str, results: str | Path | None = None, *, sweep: str | None = None) -> pd.DataFrame:
    """One table as pandas, each trial once: trials, steps, packs, wanted, or that of a probe.

    sweep: only the rows of trials that this sweep wants; default: those of all sweeps of the folder.
    Columns are counts, sums (losses in nats), seconds and names; docs/tables.md tells each. Raises QueryError for a
    name that is no table or no stored sweep, StoreError for a damaged part.

    >>> trials = memsweep.table("trials")
    >>> trials.shape[0], trials["status"].unique().tolist()
    (12, ['finished'])
    >>> accuracy = trials["validation_correct_count"] / trials["validation_count"]
    >>> bool(accuracy.between(0, 1).all())
    True
    """
    from memsweep.results import query

    return query.table(name, results or query.default_results(), sweep)


def sql(statement: str, results: str | Path | None = None) -> pd.DataFrame:
    """The answer to one SELECT over the tables, by DuckDB, as pandas. Read-only; it reaches nothing but the tables.

    Raises QueryError, with what DuckDB says, for anything else.

    >>> memsweep.sql("select status, count(*) as trials from trials group by 1")
         status  trials
    0  finished      12
    """
    from memsweep.results import query

    return query.sql(statement, results or query.default_results())


def figure(sweep: str, name: str | None = None, results: str | Path | None = None) -> Figure:
    """A figure of a stored sweep as the report draws it: Matplotlib's, to change and to save into a paper.

    name: as its files are called after the sweep (`generalization-gap.svg`: "gap"); default: the sweep's first.
    3.5 inches wide, a paper's column. Raises StoreError with the names that there are.

    >>> memsweep.figure("smoke", "memorized-share").savefig("memorized.pdf")
    >>> memsweep.figure("smoke", "beauty")
    Traceback (most recent call last):
    memsweep.results.storage.parts.StoreError: sweep 'smoke' has no figure 'beauty'; it has ...
    """
    from analysis.core import catalog
    from memsweep.results.query import default_results

    return catalog.figure(sweep, name, results or default_results())
