"""Launches sweeps: packs, trains and stores the trials that are left, under the folder's lock."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any

from memsweep.data import tasks
from memsweep.results import attempts, live, own_types, status
from memsweep.results.mlflow import background
from memsweep.results.storage.store import Store
from memsweep.run import checkpoints, compiling, continuation, given_data, launch_record, merging, plan
from memsweep.run.launch_options import LaunchOptions
from memsweep.run.launch_report import Report
from memsweep.run.packing import Pack, Tally
from memsweep.run.policy import execution_plan, protocols
from memsweep.run.recovery.hang_guard import forget
from memsweep.run.recovery.interruption import as_ctrl_c
from memsweep.run.rounds.definition import records_before
from memsweep.run.rounds.launch_code import LaunchCode
from memsweep.run.rounds.replay import Replay
from memsweep.run.rounds.rounds import Due, Rounds
from memsweep.run.supervisor import PackSupervisor
from memsweep.run.worker import provenance, sources
from memsweep.spec.config import TrialConfig
from memsweep.spec.part import Part
from memsweep.spec.sweep import Sweep, SweepError, check_size

DEFAULTS = LaunchOptions()
NAMED = 3
"""Most sweeps listed by name."""


def launch(
    sweeps: Sweep | Sequence[Sweep],
    store: Store,
    options: LaunchOptions = DEFAULTS,
    watch: Callable[[int, int, Tally], None] = lambda settled, wanted, tally: None,
    data: Mapping[str, Any] | None = None,
) -> Report:
    """Runs the missing trials of one or several sweeps and stores them; returns the Report when all have ended.

    watch: called with (trials settled before, trials wanted, tally of this launch) during the launch.
    data: of the tasks given:NAME, by name; default: as stored.
    Raises SweepError for data that can't be loaded or has changed, StoreError where another launch locks the folder or
    stored rows can't be read back, TrackingError for an unusable tracking URI.
    """
    uri = background.tracking_uri(
        options.tracking_uri, store.results
    )  # raises for an invalid URI before anything starts
    sweeps = options.keeping([sweeps] if isinstance(sweeps, Sweep) else sweeps)
    if len({sweep.name for sweep in sweeps}) < len(sweeps):
        raise SweepError([f"{title(sweeps)}: the sweeps of one launch must have different names."])
    if not options.yes:
        check_size(sweeps)
    tasks.forget()  # data and code that this process has cached may have changed
    provenance.forget()
    with as_ctrl_c():
        with store.lock("launch", part=options.part):
            report = _launch(sweeps, store, options, watch, data)
        if report.tracking and uri and background.ends_with_job():
            report = replace(report, tracking=_filled(store, uri, report))
    return report


def _launch(
    sweeps: Sequence[Sweep],
    store: Store,
    options: LaunchOptions,
    watch: Callable[[int, int, Tally], None],
    data: Mapping[str, Any] | None,
) -> Report:
    """Launches with the folder's lock held; see `launch`."""
    code = LaunchCode(store, options.changed)
    store = store.accepting(code.accepted)
    rounds, remarks = _rounds(sweeps, store, options, code, data)
    missing, before = rounds.missing, plan.work(rounds.trials, store, retry=options.retry)
    steps_before, ended_before = _steps(before, store), attempts.ended(store)
    with _alone(store, "wanted", options):  # parts that start together want the same trials
        rounds.note()  # after what was settled before: it settles trials that a search has given up
    remarks += _first_remarks(rounds, code, store)
    settled_before = len(rounds.within_limit(before.settled))

    def show(tally: Tally) -> None:
        watch(settled_before, rounds.count, tally)

    show(Tally())
    interrupted, tracking = False, None
    if missing:
        tracking = _follow(store, options.tracking_uri)  # before the watchdog marks the processes of the launch
        launch_record.write(sweeps, code, store)
        with merging.behind(store, options.part, remarks):
            interrupted = _run(rounds, store, options, show, remarks, code)
        if not interrupted:
            merging.finish(store, options.part, remarks)
    rounds.advance()
    after = plan.work(rounds.trials, store)
    _tidy(after.missing, store, _of_part(rounds))
    with _alone(store, "programs", options):
        remarks += [*rounds.progress(), *(execution_plan.update(rounds.trials, store) if missing else ())]
    return Report(
        title(sweeps, options.part),
        str(store.results),
        len(after.wanted),
        len(before.settled),
        attempts.ended_since(ended_before, _ids(rounds.trials), store) if missing else 0,
        len(after.failed),
        len(after.missing),
        interrupted,
        tuple(dict.fromkeys(remarks)),
        tracking,
        _causes(after.failed, store),
        _saved(after.missing, store),
        len(rounds.within_limit(after.missing)),
        _steps(after, store) - steps_before,
    )


def _rounds(
    sweeps: Sequence[Sweep], store: Store, options: LaunchOptions, code: LaunchCode, data: Mapping[str, Any] | None
) -> tuple[Rounds, list[str]]:
    """Returns the first rounds of these sweeps, whose trials are checked, and remarks.  Raises SweepError."""
    sizes = given_data.prepare(sweeps, store, data)
    own_types.check(sweeps, None)  # with each other; Replay compares each with the stored trials
    records = {sweep.name: records_before(sweep.name, store) if options.add else {} for sweep in sweeps}
    replays = [Replay(sweep, store, retry=options.retry, records=records[sweep.name], code=code) for sweep in sweeps]
    for sweep in sweeps if options.add else ():
        code.request_stored(sweep.name)
    code.check()
    rounds = Rounds(
        replays, store, options.budget, options.retry,
        limit=options.limit, add=options.add, code=code, part=options.part,
    )  # fmt: skip
    remarks = plan.check(rounds.missing, [sweep.search for sweep in sweeps if sweep.search])
    if changes := [*own_types.table_problems(rounds.missing, store), *sources.changed(rounds.trials, store)]:
        raise SweepError(changes)
    return rounds, [*remarks, *(sizes if data else ())]


def _first_remarks(rounds: Rounds, code: LaunchCode, store: Store) -> list[str]:
    """Returns messages on the trials and the folder before training; deletes useless checkpoints."""
    missing = rounds.missing
    remarks = [remark for replay in rounds.replays for remark in replay.remarks]
    remarks += [*code.remarks(), *filter(None, [protocols.remark(missing, store)])]
    return [*remarks, *_tidy(missing, store, _of_part(rounds)), *tasks.remarks(missing)]


def _run(
    rounds: Rounds,
    store: Store,
    options: LaunchOptions,
    show: Callable[[Tally], None],
    remarks: list[str],
    code: LaunchCode,
) -> bool:
    """Trains all rounds on a cluster; returns whether training was interrupted.

    remarks: messages are appended.
    """
    from memsweep.run import cluster  # Ray takes long to import, and there may be nothing to do

    with cluster.cluster(options.address, meanwhile=partial(import_module, "memsweep.run.ray_tune")) as health:
        from memsweep.run import ray_tasks, ray_tune

        remarks += health.remarks
        if problems := ray_tasks.unreadable(rounds.missing, is_joined=options.address is not None):
            raise SweepError(problems)
        device = options.device or ("cuda" if cluster.has_gpu() else "cpu")
        workers = options.workers or cluster.worker_count(device, options.workers_per_gpu)
        limits = ray_tune.WorkerLimits(options.checkpoint_seconds, options.patience_seconds)
        uncompiled, chosen = dict[str, compiling.Uncompiled](), dict[str, execution_plan.ExecutionPlan]()

        def packs(due: Sequence[Due], *, later: bool = False) -> list[Pack]:
            calibrate = partial(
                ray_tasks.calibrate, patience_seconds=options.patience_seconds, beside=later,
                is_joined=options.address is not None,
            )  # fmt: skip
            trials = [trial for part in due for trial in part.trials]
            with _alone(store, "programs", options):
                programs = execution_plan.choose(
                    trials, store, device, workers,
                    workers_per_gpu=options.workers_per_gpu, compiling=options.compiling, calibrate=calibrate,
                )  # fmt: skip
                execution_plan.note(store, programs)
            remarks.extend(execution_plan.remarks(programs))
            planned = partial(plan.packs, workers=workers, members=options.members, chosen=programs)
            going_on = continuation.of_packs(_packs(due, store, code, planned), store, device)
            remarks.extend(going_on.remarks)
            chosen.update(programs)
            compiling.collect(going_on.packs, uncompiled)
            return going_on.packs

        supervisor = PackSupervisor(store, show, lambda: packs(rounds.next(), later=True), options.part)
        outcome = ray_tune.run(
            packs(rounds.due), store, device, workers, options.budget.seconds, limits, supervisor,
            options.workers_per_gpu,
        )  # fmt: skip
        supervisor.note_running({})
    if device == "cpu" and options.compiling is None and not options.address and not outcome.interrupted:
        remarks += compiling.start(uncompiled, chosen, workers)
    if health.is_lost:
        remarks.append("Ray's raylet on this machine has ended. Launch again to finish the rest.")
    return outcome.interrupted


def _packs(due: Sequence[Due], store: Store, code: LaunchCode, planned: Callable[..., list[Pack]]) -> list[Pack]:
    """Returns packs of the due trials; packs of a grid are restored from checkpoints."""
    saved, ends = (
        checkpoints.stored(store),
        attempts.dates((trial_id for part in due for trial_id in _ids(part.trials)), store),
    )
    packs: list[Pack] = []
    for part in due:
        if part.is_searched:
            packs += planned(part.trials, share=part.share, in_rounds=True)
        else:
            packs += planned(part.trials, saved=saved)
    return [
        replace(
            pack,
            sources=sources.of(pack.trials),
            code=code.expected(pack.trials),
            folder=os.getcwd(),
            after=max(ends.get(trial.trial_id, 0.0) for trial in pack.trials),
        )
        for pack in packs
    ]


def _alone(store: Store, name: str, options: LaunchOptions) -> AbstractContextManager[None]:
    """Returns a context that one part at a time enters; a whole launch is alone in the folder."""
    return store.lock(name, math.inf) if options.part else nullcontext()


def title(sweeps: Sequence[Sweep], part: Part | None = None) -> str:
    """Returns the names of the sweeps, or their number if there are many, and the part of a launch."""
    names = ", ".join(sweep.name for sweep in sweeps) if len(sweeps) <= NAMED else f"{len(sweeps)} sweeps"
    return f"{names}, part {part}" if part else names


def _ids(trials: Iterable[TrialConfig]) -> Iterator[str]:
    return (trial.trial_id for trial in trials)


def _causes(failed: Sequence[TrialConfig], store: Store) -> dict[str, int]:
    """Returns cause of failure, as `status` prints it -> number of these trials, most frequent first."""
    if not failed:
        return {}
    trial_ids = {trial.trial_id for trial in failed}
    counts = Counter(f"{end}: {cause}" for trial_id, end, cause in status.failures(store) if trial_id in trial_ids)
    return dict(counts.most_common())


def _steps(work: plan.Work, store: Store) -> int:
    """Returns the budgets of the trials that have ended, plus the steps that checkpoints hold of the others."""
    return sum(trial.budget for trial in (*work.settled, *work.failed)) + _saved(work.missing, store)[1]


def _saved(missing: Sequence[TrialConfig], store: Store) -> tuple[int, int, int]:
    """Returns the number of these trials in checkpoints, their steps there, and the steps of all these trials."""
    steps = checkpoints.steps(store)
    saved = [steps[trial.trial_id] for trial in missing if trial.trial_id in steps]
    return len(saved), sum(saved), sum(trial.budget for trial in missing)


def _of_part(rounds: Rounds) -> set[str] | None:
    """Returns the trials of a part of a launch; None: the launch is whole."""
    return {trial.trial_id for trial in rounds.trials} if rounds.part else None


def _tidy(missing: Sequence[TrialConfig], store: Store, only: set[str] | None = None) -> list[str]:
    """Deletes useless checkpoints and rows of `live` that dead workers left; returns messages on damaged checkpoints.

    Checkpoints of trials that never ended are kept.  only: trials of a part, because other parts write theirs.
    """
    remarks = list[str]()
    if only is None:
        forget(store.results)
        remarks = checkpoints.remove_damaged(store)
    steps = checkpoints.steps(store)
    if steps or store.parts(live.LIVE):
        ended = set(attempts.ended(store)["trial_id"].to_pylist())
        to_run = {trial.trial_id for trial in missing}
        checkpoints.tidy(store, to_run | (steps.keys() - ended), only)
        live.delete(store, ended | to_run if only is None else (ended | to_run) & only)
    return remarks


def _follow(store: Store, given: str | None) -> str | None:
    """Starts filling MLflow in the background; returns a message on it."""
    uri = background.tracking_uri(given, store.results)
    if uri is None:
        return None
    where, options = background.shown(uri), f" --results {store.results}"
    moved = background.moved(uri, store.results)
    if moved and background.ends_with_job():  # its node is seldom the machine of memsweep ui
        return f"{moved}; memsweep track{options} fills it on the machine where you run memsweep ui"
    failure = background.start(store, uri)
    if failure:
        return f"MLflow at {where} is not being filled: {failure}. Fill it later with memsweep track{options}"
    return (
        f"MLflow at {where} is filled in the background; "
        f"memsweep track{options} waits for it, memsweep ui{options} shows it" + (moved and f". {moved}")
    )


def _filled(store: Store, uri: str, report: Report) -> str:
    """Fills MLflow before the end of a batch job, which ends the process in the background; returns a message on it.

    After an interruption, little time may be left; and a launch of another part fills MLflow when it ends.
    """
    where, command = f"MLflow at {background.shown(uri)}", f"memsweep track --results {store.results}"
    if background.moved(uri, store.results):
        return str(report.tracking)  # it is filled elsewhere
    if report.interrupted or store.is_locked("launch"):
        return f"{where} may lack trials; {command} fills it"
    try:
        failure = background.fill(store, uri)
    except KeyboardInterrupt:
        failure = "interrupted"
    return f"{where} lacks trials: {failure}. Fill it later with {command}" if failure else f"{where} holds all trials"
