"""Launches sweeps: under the folder's lock, what is left of them is packed, trained and stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from memsweep.data import tasks
from memsweep.results import status
from memsweep.results.mlflow import background
from memsweep.results.storage.store import Store
from memsweep.run import checkpoints, plan
from memsweep.run.checkpoints import CHECKPOINT_SECONDS
from memsweep.run.packing import Pack, Tally
from memsweep.run.policy import execution_plan, protocols
from memsweep.run.recovery.hang_guard import PATIENCE_SECONDS, forget
from memsweep.run.rounds.asking import Asking
from memsweep.run.rounds.definition import probes_before
from memsweep.run.supervisor import Due, PackSupervisor, Rounds
from memsweep.run.worker import sources
from memsweep.spec.budget import UNLIMITED, Budget
from memsweep.spec.config import ConfigError, TrialConfig
from memsweep.spec.schema import Status
from memsweep.spec.sweep import Sweep, SweepError, check_size

NAMED = 3
"""So many sweeps are told by name, more by their number; so many causes are shown."""


@dataclass(frozen=True, repr=False)
class Report:
    """How a launch ended; the trials' own ends are in the tables. As text, what the command line prints at the end."""

    title: str  # the sweeps
    results: str  # the folder
    wanted: int
    settled_before: int
    ran: int  # trials that this launch wrote, whatever their status
    failed: int  # of the wanted, now or before, ended by an error
    missing: int  # of the wanted, left for the next launch
    interrupted: bool
    remarks: tuple[str, ...] = ()  # what was out of order in the folder, for people
    tracking: str | None = None  # where MLflow is filled in the background, or why it is not, for people
    causes: Mapping[str, int] = field(default_factory=dict)  # of failures, with advice -> trials, the most first
    saved: tuple[int, int, int] = (0, 0, 0)  # of the missing: trials that checkpoints hold, their steps, those of all
    unfinished: int = 0  # of the missing, those within the limit of this launch

    def __str__(self) -> str:
        done = self.wanted - self.failed - self.missing
        lines = [
            f"{self.title}: {done} of {self.wanted} trials finished, {self.ran} of them run now, {self.failed} failed, "
            f"{self.missing} missing; in {self.results}"
        ]
        for cause, count in list(self.causes.items())[:NAMED]:
            lines.append(f"{count} {cause}")
        if self.failed:
            others = f"{len(self.causes) - NAMED} other causes: " if len(self.causes) > NAMED else "Which trials: "
            lines.append(f"{others}memsweep status --results {self.results}; again: launch with --retry (retry=True)")
        if self.missing:
            trials, steps, all_steps = self.saved
            how_far = (
                f"{trials} saved, with {steps:,} of all {all_steps:,} steps" if trials else "none saved in training"
            )
            lines.append(f"Launch again to go on with the {self.missing} missing trials: {how_far}.")
        return "\n".join([*lines, *filter(None, [*self.remarks, self.tracking])])

    __repr__ = __str__


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
    yes: bool = False,
    add: bool = False,
    budget: Budget = UNLIMITED,
    patience_seconds: float = PATIENCE_SECONDS,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    tracking_uri: str | None = None,
    watch: Callable[[int, int, Tally], None] = lambda settled, wanted, tally: None,
) -> Report:
    """Runs what is missing of a sweep, or of several, one after another, and stores it; returns when all has ended.

    address: of a running Ray cluster; default: one of its own, here.
    workers: packs at a time, also where a cluster has yet to grow so large; default: what it has room for now.
    limit: of the trials of each sweep that are run; all are wanted.
    members: trials trained at a time in a pack, at most.  device: cpu or cuda; default: a GPU where there is one.
    compiling: whether programs are compiled; default: what was chosen at their first launch, by what it saves.
    retry: failed trials run again.  yes: sweeps of more than 1,000,000 trials are launched too.
    add: what earlier launches want of the sweeps counts on.
    budget: at its end the launch ends, and the next one goes on.
    patience_seconds: a pack that takes so long for a piece of work hangs.
    checkpoint_seconds: packs in training are saved about as often.
    tracking_uri: where MLflow is filled, beside the launch and after it, by a process of its own; default:
    MLFLOW_TRACKING_URI, else a database in the folder; "none": nowhere.
    watch: told (settled before, wanted, tally of this launch) as it goes.
    Raises ConfigError for another device, SweepError when data can't be loaded, StoreError when another launch holds
    the folder, or what was stored can't be read back, TrackingError where MLflow can't be at that URI.
    """
    if device not in (None, "cpu", "cuda"):
        raise ConfigError([f"device = {device!r}: must be cpu or cuda."])
    background.tracking_uri(tracking_uri, store.results)  # a mistake in it is refused before anything starts
    sweeps = [sweeps] if isinstance(sweeps, Sweep) else sweeps
    if len({sweep.name for sweep in sweeps}) < len(sweeps):
        raise SweepError([f"{title(sweeps)}: sweeps of one launch have names of their own."])
    if not yes:
        check_size(sweeps)
    tasks.forget()  # what this process has read before may have changed
    with store.lock("launch"):
        probed = {sweep.name: probes_before(sweep.name, store) if add else {} for sweep in sweeps}
        askings = [Asking(sweep, store, retry=retry, probed=probed[sweep.name]) for sweep in sweeps]
        rounds = Rounds(askings, store, budget, retry, limit=limit, add=add)
        before = plan.work(rounds.asked, store)
        missing = rounds.missing
        plan.check(missing)
        if changes := sources.changed(rounds.asked, store):
            raise SweepError(changes)
        rounds.note()
        remarks = [remark for asking in rounds.askings for remark in asking.remarks]
        remarks += [*filter(None, [protocols.remark(missing, store)]), *_tidy(missing, store), *tasks.remarks(missing)]

        settled_before = len(rounds.admitted.intersection(trial.trial_id for trial in before.settled))

        def told(tally: Tally) -> None:
            watch(settled_before, len(rounds.admitted), tally)

        told(Tally())
        ran, interrupted, tracking = 0, False, None
        if missing:
            tracking = _follow(store, tracking_uri)  # before the watchdog marks what ends with the launch
            from memsweep.run import ray_tune  # Ray takes seconds to import, and there may be nothing to do

            with ray_tune.cluster(address) as health:
                remarks += health.remarks
                chosen = device or ("cuda" if ray_tune.has_gpu() else "cpu")
                at_a_time = workers or ray_tune.worker_count(chosen)
                care = ray_tune.Care(checkpoint_seconds, patience_seconds)

                def packed(due: Sequence[Due], *, later: bool = False) -> list[Pack]:
                    calibrate = partial(ray_tune.calibrate, care=care, beside=later)
                    trials = [trial for part in due for trial in part.trials]
                    programs = execution_plan.choose(
                        trials, store, chosen, at_a_time, compiling=compiling, calibrate=calibrate
                    )
                    execution_plan.note(store, programs)
                    remarks.extend(execution_plan.remarks(programs))
                    saved = checkpoints.stored(store)
                    planned = partial(plan.packs, workers=at_a_time, members=members, chosen=programs)
                    packs: list[Pack] = []
                    for part in due:
                        if part.is_searched:
                            packs += planned(part.trials, share=part.share, in_rounds=True)
                        else:
                            packs += planned(part.trials, saved=saved)
                    return [replace(pack, sources=sources.of(pack.trials)) for pack in packs]

                driver = PackSupervisor(store, told, lambda: packed(rounds.next(), later=True))
                packs = packed(rounds.due)
                outcome = ray_tune.run(packs, store, chosen, at_a_time, budget.seconds, care, driver)
            if health.is_lost:
                remarks.append("Ray's raylet here has ended: the same launch again finishes the rest.")
            ran, interrupted = outcome.tally.settled, outcome.interrupted
        rounds.advance()
        after = plan.work(rounds.asked, store)
        _tidy(after.missing, store)
        remarks += rounds.said()
        if missing:
            remarks += execution_plan.learned(rounds.asked, store)
        causes, saved = _causes(after.failed, store), _saved(after.missing, store)
        unfinished = len(rounds.admitted.intersection(trial.trial_id for trial in after.missing))
    return Report(
        title(sweeps),
        str(store.results),
        len(after.wanted),
        len(before.settled),
        ran,
        len(after.failed),
        len(after.missing),
        interrupted,
        tuple(dict.fromkeys(remarks)),
        tracking,
        causes,
        saved,
        unfinished,
    )


def title(sweeps: Sequence[Sweep]) -> str:
    """Their names, or their number."""
    return ", ".join(sweep.name for sweep in sweeps) if len(sweeps) <= NAMED else f"{len(sweeps)} sweeps"


def _causes(failed: Sequence[TrialConfig], store: Store) -> dict[str, int]:
    """Causes of these trials' ends, as `status` prints them -> trials, the most first."""
    if not failed:
        return {}
    trial_ids = {trial.trial_id for trial in failed}
    counts = Counter(f"{end}: {cause}" for trial_id, end, cause in status.failures(store) if trial_id in trial_ids)
    return dict(counts.most_common())


def _saved(missing: Sequence[TrialConfig], store: Store) -> tuple[int, int, int]:
    """Of these trials: how many are in checkpoints, how many steps these hold, and how many all of them take."""
    steps = checkpoints.steps(store)
    saved = [steps[trial.trial_id] for trial in missing if trial.trial_id in steps]
    return len(saved), sum(saved), sum(trial.budget for trial in missing)


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
