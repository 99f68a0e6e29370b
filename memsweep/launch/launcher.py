"""Launches sweeps: under the folder's lock, what is left of them is packed, trained and stored."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any

from memsweep.config import TrialConfig
from memsweep.launch import checkpoints, choices, plan
from memsweep.launch.checkpoints import CHECKPOINT_SECONDS
from memsweep.launch.ledger import Ledger
from memsweep.launch.packing import Pack, Tally
from memsweep.launch.patience import PATIENCE_SECONDS, LastWords, forget
from memsweep.results import background
from memsweep.results.store import Store
from memsweep.schema import RETRIED, Status, cell, reproduction
from memsweep.sweep import Sweep, SweepError

NAMED = 3
"""So many sweeps are told by name, more by their number."""
WANTED_ROWS = 5000
"""Of a part of `wanted`: a row takes 4 kB of memory on its way to the disk."""


@dataclass(frozen=True)
class Report:
    """How a launch ended; the trials' own ends are in the tables."""

    title: str  # the sweeps
    wanted: int
    settled_before: int
    ran: int  # trials that this launch wrote, whatever their status
    failed: int  # of the wanted, now or before, ended by an error
    missing: int  # of the wanted, left for the next launch
    interrupted: bool
    remarks: tuple[str, ...] = ()  # what was out of order in the folder, for people
    tracking: str | None = None  # where MLflow is filled in the background, or why it is not, for people


def launch(
    sweeps: Sweep | Sequence[Sweep],
    store: Store,
    *,
    address: str | None = None,
    workers: int | None = None,
    members: int | None = None,
    limit: int | None = None,
    device: str | None = None,
    compiling: bool | None = None,
    retry: bool = False,
    budget_seconds: float | None = None,
    patience_seconds: float = PATIENCE_SECONDS,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    tracking_uri: str | None = None,
    watch: Callable[[int, int, Tally], None] = lambda settled, wanted, tally: None,
) -> Report:
    """Runs what is missing of a sweep, or of several, one after another, and stores it; returns when all has ended.

    address: of a running Ray cluster; default: one of its own, here.
    workers: packs at a time, also where a cluster has yet to grow so large; default: what it has room for now.
    limit: of the trials of each sweep.
    members: trials trained at a time in a pack, at most.  device: cpu or cuda; default: a GPU where there is one.
    compiling: whether programs are compiled; default: what was chosen at their first launch, by what it saves.
    retry: failed trials run again.  budget_seconds: the launch ends after them, and the next one goes on.
    patience_seconds: a pack that takes so long for a piece of work hangs.
    checkpoint_seconds: packs in training are saved about as often.
    tracking_uri: where MLflow is filled, beside the launch and after it, by a process of its own; default:
    MLFLOW_TRACKING_URI, else a database in the folder; "none": nowhere.
    watch: told (settled before, wanted, tally of this launch) as it goes.
    Raises SweepError when data can't be loaded, StoreError when another launch holds the folder.
    """
    sweeps = [sweeps] if isinstance(sweeps, Sweep) else sweeps
    if len({sweep.name for sweep in sweeps}) < len(sweeps):
        raise SweepError([f"{title(sweeps)}: sweeps of one launch have names of their own."])
    with store.lock("launch"):
        wanted = [sweep.trials[:limit] for sweep in sweeps]
        shares = each_once(wanted)
        left = plan.work([trial for share in shares for trial in share], store, retry=retry)
        plan.check(left.missing)
        for sweep, trials in zip(sweeps, wanted, strict=True):
            _write_wanted(sweep, trials, store)
        remarks = _tidy(left.missing, store)
        watch(len(left.settled), len(left.wanted), Tally())
        outcome_ran, interrupted, tracking = 0, False, None
        if left.missing:
            tracking = _follow(store, tracking_uri)  # before the watchdog marks what ends with the launch
            from memsweep.launch import tune  # Ray takes seconds to import, and there may be nothing to do

            driver = _Driver(store, lambda tally: watch(len(left.settled), len(left.wanted), tally))
            with tune.cluster(address) as health:
                chosen = device or ("cuda" if tune.has_gpu() else "cpu")
                at_a_time = workers or tune.worker_count(chosen)
                care = tune.Care(checkpoint_seconds, patience_seconds)
                calibrate = partial(tune.calibrate, care=care)
                programs = choices.choose(
                    left.missing, store, chosen, at_a_time, compiling=compiling, calibrate=calibrate
                )
                choices.note(store, programs)
                remarks += choices.remarks(programs)
                saved = checkpoints.stored(store)
                missing = {trial.trial_id for trial in left.missing}
                packs = [
                    pack
                    for share in shares
                    for pack in plan.packs(
                        [trial for trial in share if trial.trial_id in missing],
                        *(at_a_time, members, programs, saved),
                    )
                ]
                outcome = tune.run(packs, store, chosen, at_a_time, budget_seconds, care, driver)
            if health.is_lost:
                remarks.append("Ray's raylet here has ended: the same launch again finishes the rest.")
            outcome_ran, interrupted = outcome.tally.settled, outcome.interrupted
        after = plan.work(left.wanted, store)
        _tidy(after.missing, store)
    return Report(
        title(sweeps),
        len(after.wanted),
        len(left.settled),
        outcome_ran,
        len(after.failed),
        len(after.missing),
        interrupted,
        tuple(remarks),
        tracking,
    )


def title(sweeps: Sequence[Sweep]) -> str:
    """Their names, or their number."""
    return ", ".join(sweep.name for sweep in sweeps) if len(sweeps) <= NAMED else f"{len(sweeps)} sweeps"


def each_once(wanted: Sequence[Sequence[TrialConfig]]) -> list[list[TrialConfig]]:
    """Trials of several sweeps, each with the first sweep that wants it, and with the probes that any of them asks."""
    found: dict[str, TrialConfig] = {}
    for trial in chain.from_iterable(wanted):
        known = found.setdefault(trial.trial_id, trial)
        if not trial.recorded <= known.recorded:
            probes = tuple(dict.fromkeys([*known.probes, *trial.probes]))
            steps = tuple(sorted({*known.probe_steps, *trial.probe_steps}))
            found[trial.trial_id] = replace(known, probes=probes, probe_steps=steps)
    return [[found.pop(trial.trial_id) for trial in trials if trial.trial_id in found] for trials in wanted]


class _Driver:
    """What the queue of packs asks and tells; see `tune.Driver`."""

    def __init__(self, store: Store, watch: Callable[[Tally], None]):
        self.store = store
        self.watch = watch
        self.note_running = store.note_running
        self._ended_before = set(_ends(store).items())

    def remaining(self, pack: Pack) -> Pack | None:
        """Without those that have failed in this launch; those that had failed before are here to run again."""
        failed = {trial_id for trial_id, attempt in _ends(self.store).items() - self._ended_before}
        missing = plan.work(pack.trials, self.store, retry=True).missing
        trials = tuple(trial for trial in missing if trial.trial_id not in failed)
        return replace(pack, trials=trials, slots=min(pack.slots, len(trials))) if trials else None

    def reached(self, pack: Pack) -> int:
        steps = checkpoints.steps(self.store)
        return sum(steps.get(trial.trial_id, 0) for trial in pack.trials)

    def last_words(self, pack: Pack) -> LastWords:
        from memsweep.launch import tune  # in memory already: it is who asks

        return tune.last_words(self.store.results, pack)

    def was_preempted(self, node_id: str) -> bool:
        from memsweep.launch import tune  # as above

        return tune.was_preempted(node_id)

    def quarantine(self, pack: Pack, deaths: int, words: LastWords) -> None:
        ledger = Ledger(self.store, pack.pack_id)
        company = "it was alone" if len(pack.trials) == 1 else f"{len(pack.trials)} trials were left, given up together"
        what = f"its packs ended their workers {deaths} times without a gain; at the last, {company}: {words.told()}"
        for trial in pack.trials:
            lines = [words.text, what, reproduction(trial.trial_id, self.store.results)]
            ledger.settle(trial, Status.QUARANTINED, {"cause": "\n".join(filter(None, lines))})
        ledger.flush()


def _ends(store: Store) -> dict[str, str]:
    """Trials that an error ended -> the attempt in which it did."""
    columns = store.trials(["trial_id", "attempt_id", "status"]).to_pydict()
    rows = zip(columns["trial_id"], columns["attempt_id"], columns["status"], strict=True)
    return {trial_id: attempt for trial_id, attempt, status in rows if status in RETRIED}


def _tidy(missing: Sequence[TrialConfig], store: Store) -> list[str]:
    """Deletes checkpoints of no use; what was wrong with them. Those of trials that never ended are kept."""
    forget(store.results)
    remarks = checkpoints.remove_damaged(store)
    columns = store.trials(["trial_id", "status"]).to_pydict()
    rows = zip(columns["trial_id"], columns["status"], strict=True)
    ended = {trial_id for trial_id, status in rows if status != Status.INTERRUPTED}
    left = {trial_id for trial_id in checkpoints.steps(store) if trial_id not in ended}
    checkpoints.tidy(store, left | {trial.trial_id for trial in missing})
    return remarks


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
