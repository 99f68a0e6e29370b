"""Hyperparameter sweeps that measure memorization, capacity and generalization in deep networks, trained in packs.

From Python: `memsweep.launch(SWEEP)`, `memsweep.table("trials")`, `memsweep.sql("select ...")` and
`memsweep.figure("generalization")`. All four take `results`, a folder or s3://bucket/prefix; the default is
MEMSWEEP_RESULTS or ./results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from memsweep.spec.axes import linspace, log2, logspace
from memsweep.spec.config import ConfigError, TrialConfig
from memsweep.spec.part import Part
from memsweep.spec.search import BestSearch, BoundarySearch, CapacitySearch, Range
from memsweep.spec.sweep import Sweep, SweepError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure
    from torch import nn

    from memsweep.run.launch_options import LaunchOptions
    from memsweep.run.launch_report import Report
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
    "model",
    "outputs",
    "sql",
    "table",
]


def launch(
    sweep: Sweep | str | Sequence[Sweep | str],
    results: str | Path | None = None,
    *,
    address: str | None = None,
    workers: int | None = None,
    workers_per_gpu: int = 1,
    members: int | None = None,
    limit: int | None = None,
    device: str | None = None,
    compiling: bool | None = None,
    retry: bool = False,
    yes: bool = False,
    add: bool = False,
    changed: Literal["rerun", "keep"] | None = None,
    keep: Literal["nothing", "weights", "state"] = "nothing",
    keep_steps: Sequence[int] = (),
    budget: str | Budget | None = None,
    patience_seconds: float = 600.0,
    checkpoint_seconds: float = 30.0,
    tracking_uri: str | None = None,
    part: str | None = None,
    progress: bool = True,
    watch: Callable[[int, int, Tally], None] | None = None,
    data: Mapping[str, Any] | None = None,
) -> Report:
    """Runs the missing trials of one or several sweeps and stores them, as `memsweep launch` does.

    sweep: a Sweep, the path or bare name of a sweep file (`FILE:NAME` selects one sweep of it), or a sequence of these.
    address: of a running Ray cluster; default: a cluster on this machine that ends with the launch.
    workers: most packs at a time.  members: most trials of a pack that train at a time.  Default: as many as fit.
    limit: runs only the first trials of each sweep.  part: "2/4": the second of 4 fixed shares. All trials stay wanted.
    device: "cpu" or "cuda"; default: a GPU if there is one.  workers_per_gpu: 1 to 16, which share its memory.
    compiling: of programs; default: where it saves time.  retry: failed trials run again.
    yes: also launches more than 1,000,000 trials.  add: trials of earlier launches of the sweep stay wanted.
    changed: for trials that ran other code of yours: "rerun" them, or "keep" both codes; default: refuse the launch.
    keep: "weights" keeps each trial's weights at its end and `keep_steps`, "state" also its state of training.
    budget: a limit of time, trials or steps, "30m", "500trials" or "1e6steps"; the next launch continues.
    patience_seconds: a worker without progress for this long is ended.  checkpoint_seconds: between two of a pack.
    tracking_uri: of MLflow; "none": no MLflow; default: MLFLOW_TRACKING_URI, else a database in the folder.
    progress: whether stderr shows it.  watch: called with (trials settled before, wanted, tally) during the launch.
    data: NAME -> a frame of pandas, arrays or a torch Dataset, the data of `data.task="given:NAME"`; stored once.

    Returns a Report with counts of trials and causes of failures; as text, a few sentences. Raises ConfigError for an
    invalid sweep or budget, StoreError if another launch locks the folder; a failed trial raises nothing.

    >>> report = memsweep.launch("smoke")
    >>> report.wanted, report.failed, report.missing
    (12, 0, 0)
    """
    from memsweep.run.launch_options import LaunchOptions
    from memsweep.spec.budget import UNLIMITED, Budget

    options = LaunchOptions(
        address=address, workers=workers, workers_per_gpu=workers_per_gpu, members=members, limit=limit, device=device,
        compiling=compiling, retry=retry, yes=yes, add=add, changed=changed, keep=keep, keep_steps=tuple(keep_steps),
        budget=Budget.of(budget) if isinstance(budget, str) else budget or UNLIMITED, patience_seconds=patience_seconds,
        checkpoint_seconds=checkpoint_seconds, tracking_uri=tracking_uri, part=Part.of(part) if part else None,
    )  # fmt: skip
    return _launch([sweep] if isinstance(sweep, Sweep | str) else sweep, results, options, progress, watch, data)


def _launch(
    entries: Sequence[Sweep | str],
    results: str | Path | None,
    options: LaunchOptions,
    progress: bool,
    watch: Callable[[int, int, Tally], None] | None,
    data: Mapping[str, Any] | None,
) -> Report:
    from memsweep.cli.progress import Progress
    from memsweep.results.query import default_results
    from memsweep.results.storage.store import Store
    from memsweep.run import launcher
    from memsweep.spec.sweep import check_size
    from memsweep.spec.sweep_files import load_sweeps

    loaded = [load_sweeps(entry).values() if isinstance(entry, str) else [entry] for entry in entries]
    sweeps = list(chain.from_iterable(loaded))
    if not options.yes:
        check_size(sweeps)
    store = Store(results or default_results(), create=True)
    with Progress(launcher.title(sweeps)) if progress else nullcontext() as display:
        callbacks = [callback for callback in (display and display.update, watch) if callback]

        def update(settled: int, wanted: int, tally: Tally) -> None:
            for callback in callbacks:
                callback(settled, wanted, tally)

        return launcher.launch(sweeps, store, options, update, data)


def table(name: str, results: str | Path | None = None, *, sweep: str | None = None) -> pd.DataFrame:
    """Returns one table as pandas, each trial once: trials, steps, packs, wanted, or the table of a probe.

    sweep: only the rows of trials that this sweep wants; default: the rows of all sweeps of the folder.
    Columns are counts, sums (losses in nats), seconds and names; docs/tables.md defines each. Raises QueryError for an
    unknown table or sweep, StoreError for a damaged part.

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
    """Returns the result of one SELECT over the tables, by DuckDB, as pandas. Read-only; no other files are accessible.

    Raises QueryError, with DuckDB's message, for any other statement.

    >>> memsweep.sql("select status, count(*) as trials from trials group by 1")
         status  trials
    0  finished      12
    """
    from memsweep.results import query

    return query.sql(statement, results or query.default_results())


def model(
    trial_id: str, step: int | None = None, results: str | Path | None = None, *, own_code: bool = False
) -> nn.Module:
    """Returns the trained network of a trial as a torch module in evaluation mode, with its kept weights.

    `module.trial` is its configuration; `module.data` has the examples that it was trained and measured on: `inputs`,
    `labels`, `held_out_inputs` and `held_out_labels` (validation first, then test).
    step: of training; default: the last at which weights were kept.
    own_code: whether code that the tables name by import path may run.
    Raises StoreError where no weights are kept: launch with keep="weights".

    >>> import torch
    >>> network = memsweep.model(memsweep.table("trials")["trial_id"][0])
    >>> logits = network(torch.tensor(network.data.held_out_inputs))
    """
    from memsweep.check import trained
    from memsweep.results.query import default_results
    from memsweep.results.storage.store import Store

    return trained.model(Store(results or default_results()), trial_id, step, own_code=own_code)


def outputs(
    trial_ids: Sequence[str],
    inputs: np.ndarray,
    step: int | None = None,
    results: str | Path | None = None,
    *,
    own_code: bool = False,
) -> np.ndarray:
    """Returns the outputs of many trained networks for the same inputs, evaluated together: [trials, N, ...].

    inputs: [N, D].  step, own_code: as of `model`.  Raises StoreError as `model`, and for inputs of another shape.

    >>> import numpy as np
    >>> memsweep.outputs(memsweep.table("trials")["trial_id"], np.zeros((5, 64), np.float32)).shape
    (12, 5, 10)
    """
    from memsweep.check import trained
    from memsweep.results.query import default_results
    from memsweep.results.storage.store import Store

    return trained.outputs(Store(results or default_results()), list(trial_ids), inputs, step, own_code=own_code)


def figure(
    sweep: str,
    name: str | None = None,
    results: str | Path | None = None,
    *,
    x: str | None = None,
    y: str | None = None,
    curves: str | Sequence[str] | None = None,
    panels: str | Sequence[str] | None = None,
    scale: str | None = None,
    level: float | None = None,
    seeds: bool = False,
) -> Figure:
    """Returns a figure of a stored sweep as the report draws it: a Matplotlib figure, to edit and save.

    name: the suffix of its file names (`generalization-gap.svg`: "gap"); default: the sweep's first figure.
    x: the field along x.  curves, panels: fields with a curve or a panel for each value.  y: a second field, for a map
    whose colour is the quantity, with a line where it meets `level`.  scale: "log" or "linear" of x, or of both axes:
    "log,log", which also fits an exponent to each curve.  seeds: whether each seed is drawn too, as a faint line.
    Figures are 3.5 inches wide, a paper's column, and 7 with panels. Raises StoreError, which lists the possible names.

    >>> memsweep.figure("smoke", "memorized-share").savefig("memorized.pdf")
    >>> memsweep.figure("smoke", "beauty")
    Traceback (most recent call last):
    memsweep.results.storage.parts.StoreError: sweep 'smoke' has no figure 'beauty'; it has ...
    """
    from memsweep.analysis.core import catalog
    from memsweep.analysis.core.arrangement import View
    from memsweep.results.query import default_results

    view = View.of(x, y, curves, panels, scale, level, seeds)
    return catalog.figure(sweep, name, results or default_results(), view)
