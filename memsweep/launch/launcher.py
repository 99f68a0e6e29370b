"""Launches a sweep: under the folder's lock, what is left of it is packed, trained and stored."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from memsweep.config import TrialConfig
from memsweep.launch import choices, plan
from memsweep.launch.packing import Pack, Tally
from memsweep.results import background
from memsweep.results.store import Store
from memsweep.schema import Status, cell
from memsweep.sweep import Sweep

WANTED_ROWS = 5000
"""Of a part of `wanted`: a row takes 4 kB of memory on its way to the disk."""


@dataclass(frozen=True)
class Report:
    """How a launch ended; the trials' own ends are in the tables."""

    sweep: str
    wanted: int
    settled_before: int
    ran: int  # trials that this launch wrote, whatever their status
    failed: int  # of the wanted, now or before, ended by an error
    missing: int  # of the wanted, left for the next launch
    interrupted: bool
    tracking: str | None = None  # where MLflow is filled in the background, or why it is not, for people


def launch(
    sweep: Sweep,
    store: Store,
    *,
    address: str | None = None,
    members: int | None = None,
    limit: int | None = None,
    device: str | None = None,
    compiling: bool | None = None,
    retry: bool = False,
    budget_seconds: float | None = None,
    tracking_uri: str | None = None,
    watch: Callable[[int, int, Tally], None] = lambda settled, wanted, tally: None,
) -> Report:
    """Runs what is missing of a sweep and stores it; returns when all has ended.

    members: trials trained at a time in a pack, at most.  device: cpu or cuda; default: a GPU where there is one.
    compiling: whether programs are compiled; default: what was chosen at their first launch, by what it saves.
    retry: failed trials run again.
    tracking_uri: where MLflow is filled, beside the launch and after it, by a process of its own; default:
    MLFLOW_TRACKING_URI, else a database in the folder; "none": nowhere.
    watch: told (settled before, wanted, tally of this launch) as it goes.
    Raises SweepError when data can't be loaded, StoreError when another launch holds the folder.
    """
    with store.lock("launch"):
        left = plan.work(sweep.trials[:limit], store, retry=retry)
        plan.check_data(left.missing)
        _write_wanted(sweep, left.wanted, store)
        watch(len(left.settled), len(left.wanted), Tally())
        outcome_ran, interrupted, tracking = 0, False, None
        if left.missing:
            tracking = _follow(store, tracking_uri)  # before the watchdog marks what ends with the launch
            from memsweep.launch import tune  # Ray takes seconds to import, and there may be nothing to do

            def remaining(pack: Pack) -> Pack | None:
                trials = plan.work(pack.trials, store, retry=True).missing
                return replace(pack, trials=trials) if trials else None

            def watch_tally(tally: Tally) -> None:
                watch(len(left.settled), len(left.wanted), tally)

            with tune.cluster(address):
                chosen = device or ("cuda" if tune.has_gpu() else "cpu")
                workers = tune.worker_count(chosen)
                compiled = choices.compiled_programs(left.missing, store, chosen, workers, compiling)
                store.note_compiled_programs(compiled)
                packs = plan.packs(left.missing, chosen, workers, members, compiled)
                outcome = tune.run(packs, store, chosen, budget_seconds, remaining, watch_tally)
            for pack in outcome.quarantined:
                _quarantine(pack, store)
            outcome_ran, interrupted = outcome.tally.settled, outcome.interrupted
        after = plan.work(left.wanted, store)
    return Report(
        sweep.name,
        len(after.wanted),
        len(left.settled),
        outcome_ran,
        len(after.failed),
        len(after.missing),
        interrupted,
        tracking,
    )


def _follow(store: Store, given: str | None) -> str | None:
    """Has MLflow filled in the background; what people should know of that."""
    uri = background.tracking_uri(given, store.results)
    if uri is None:
        return None
    where, options = background.shown(uri), f" --results {store.results}"
    failure = background.start(store, uri)
    if failure:
        return f"MLflow at {where} is not being filled: {failure}; later: memsweep track{options}"
    return (
        f"MLflow at {where} is filled in the background; "
        f"memsweep track{options} waits for it, memsweep ui{options} shows it"
    )


def _write_wanted(sweep: Sweep, wanted: Sequence[TrialConfig], store: Store) -> None:
    """One row a trial that the sweep wants; the same sweep writes the same parts."""
    for begin in range(0, len(wanted), WANTED_ROWS):
        _write_wanted_part(sweep, wanted[begin : begin + WANTED_ROWS], begin, store)


def _write_wanted_part(sweep: Sweep, wanted: Sequence[TrialConfig], begin: int, store: Store) -> None:
    rows: list[dict[str, Any]] = [
        {
            "sweep": sweep.name,
            "trial_id": trial.trial_id,
            "setting_id": trial.setting_id,
            "position": position,
            "seed": trial.seed,
            "probes": cell(trial.probes),
            "configuration": json.dumps(trial.flat(), separators=(",", ":")),
        }
        for position, trial in enumerate(wanted, begin)
    ]
    store.write("wanted", rows)


def _quarantine(pack: Pack, store: Store) -> None:
    from memsweep.launch.execution import Ledger  # imports torch

    ledger = Ledger(store, pack.pack_id)
    for trial in pack.trials:
        ledger.settle(trial, Status.QUARANTINED, {"cause": f"pack {pack.pack_id} ended its worker again and again"})
    ledger.flush()
