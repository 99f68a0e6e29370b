"""Previews a launch: its packs, memory and time on this machine. Starts nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from memsweep.data import tasks
from memsweep.results import own_types
from memsweep.results.storage.store import Store
from memsweep.run import checkpoints, continuation, estimation, given_data, plan
from memsweep.run.estimation import Estimate
from memsweep.run.launch_options import LaunchOptions
from memsweep.run.packing import Pack
from memsweep.run.plan import Work
from memsweep.run.policy import execution_plan, protocols, timings
from memsweep.run.policy.execution_plan import ExecutionPlan
from memsweep.run.policy.timings import Calibration
from memsweep.run.rounds.launch_code import LaunchCode
from memsweep.run.rounds.replay import Replay
from memsweep.run.worker import sources
from memsweep.spec.config import TrialConfig
from memsweep.spec.sweep import Sweep, SweepError

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # as in a launch's workers (cluster.py); before torch is imported


@dataclass(frozen=True)
class Preview:
    """The launch of one sweep as it would run on this machine."""

    replay: Replay  # the sweep's current round
    work: Work  # trials of all rounds so far
    due: list[TrialConfig]  # trials to run; of a search, those of the current round
    packs: list[Pack]
    programs: dict[str, ExecutionPlan]  # program name -> its execution plan
    device: str
    workers: int  # packs at a time
    estimate: Estimate


def preview(sweep: Sweep, store: Store | None, options: LaunchOptions, say: Callable[[str], None]) -> Preview:
    """Returns the packs that a launch of the sweep with these options would run, with their estimated cost.

    store: None if nothing is stored yet.  say: called with messages about the sweep and its data, before measuring.
    Raises SweepError for data that can't be loaded.
    """
    (sweep,) = options.keeping([sweep])
    sizes = given_data.prepare([sweep], store)
    code = LaunchCode(store, options.changed)
    replay = Replay(sweep, store, limit=options.limit, retry=options.retry, code=code)
    code.check()
    store = replay.store
    trials, due = replay.trials, replay.missing(retry=options.retry)
    work = plan.work(trials, store, retry=options.retry)
    begin = time.perf_counter()
    own_code = plan.check(due, [sweep.search] if sweep.search else ())
    # a launch tries the user's code too, in a process that imports torch
    if conflicts := own_types.table_problems(due, store):
        raise SweepError(conflicts)
    trying = time.perf_counter() - begin if any(trial.imports for trial in due) else 0.0
    remarks = (protocols.remark(due, store), *sources.changed(work.wanted, store), *tasks.remarks(due))
    for sentence in filter(None, [*replay.remarks, *own_code, *sizes, *remarks]):
        say(sentence)
    device = options.device or plan.local_device()
    workers = options.workers or plan.local_workers(device, options.workers_per_gpu)
    seconds = 0.0  # of measuring programs that a launch measures again

    def calibrate(programs: list[list[TrialConfig]], device: str) -> list[Calibration | None]:
        nonlocal seconds
        calibrations = list[Calibration | None]()
        for trials in programs:
            begin = time.perf_counter()
            calibrations.append(timings.calibrated(trials, device))
            if timings.find(trials, device) is None:  # a launch divides them among its workers
                seconds += (time.perf_counter() - begin) / min(workers, len(programs))
        return calibrations

    programs = execution_plan.choose(
        due, store, device, workers,
        workers_per_gpu=options.workers_per_gpu, compiling=options.compiling, calibrate=calibrate,
    )  # fmt: skip
    share = replay.round.share if replay.round else 1.0
    is_searched = sweep.search is not None
    saved = checkpoints.stored(store) if store and not is_searched else ()
    packs = plan.packs(due, workers, options.members, programs, saved, share, is_searched)
    packs = [replace(pack, code=code.expected(pack.trials)) for pack in packs]
    going_on = continuation.of_packs(packs, store, device)
    for sentence in going_on.remarks:
        say(sentence)
    reached = going_on.steps | (checkpoints.steps(store) if store else {})
    estimate = estimation.estimate(packs, device, workers, measuring=seconds, reached=reached)
    estimate = replace(estimate, seconds=estimate.seconds + trying)
    return Preview(replay, work, due, packs, programs, device, workers, estimate)
