"""What a launch would do: the missing trials in packs, with their memory and time. Starts nothing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from memsweep.data import regression, tasks
from memsweep.results import trial_state
from memsweep.results.storage.store import Store
from memsweep.run.checkpoints import Saved
from memsweep.run.packing import Pack, by_program, make_packs, program_name
from memsweep.run.policy import isolation, protocols
from memsweep.run.policy.execution_plan import ExecutionPlan, compile_seconds, guessed_seconds, saved_seconds
from memsweep.spec import processors
from memsweep.spec.config import ConfigError, TrialConfig, imported
from memsweep.spec.fields import sizes
from memsweep.spec.options import TASKS
from memsweep.spec.search.rounds import Search
from memsweep.spec.sweep import SweepError

if TYPE_CHECKING:
    from memsweep.run.policy.calibration import Calibration

PACKS_A_WORKER = 4
"""This many packs keep all workers busy almost to the end."""
PACKS_A_ROUND = 2
"""For a round of a search: rounds are short, and a step of a small pack costs as much as that of one twice its size."""
COMPARED_PACKS = 16
"""In one of this many packs of a program, one member is also run alone."""
COMPARED_SHARE, COMPARED_SECONDS = 0.1, 0.2
"""Limit of the run alone: this share of the pack's time, or this many seconds if that is more."""
CALIBRATION_SECONDS = 1.0
"""How long a program is trained for an estimate, excluding loading."""
START_SECONDS, END_SECONDS = 17.5, 3.8
"""Before the first pack and after the last: Ray and the workers' imports; from `tests.bench.plan_accuracy`."""
START_SPREAD_SECONDS = 2.0
"""Standard deviation of start plus end between launches."""
MEASURING_SECONDS = 6.0
"""Start of the workers that measure new programs before the first pack."""
TRIAL_SECONDS, PLANNED_SECONDS = 1.7e-3, 1e-3
"""Per trial: writing its rows and other work of the worker; reading and planning. From work B, 10,000 trials."""
PROBED_MEMBERS = 8
"""Members that are probed to measure a probe's cost."""


@dataclass(frozen=True)
class Work:
    """Wanted trials, split by their state in the tables."""

    wanted: tuple[TrialConfig, ...]
    settled: tuple[TrialConfig, ...]
    failed: tuple[TrialConfig, ...]  # ended with an error; run again with retry
    missing: tuple[TrialConfig, ...]  # still to run


@dataclass(frozen=True)
class Estimate:
    """Seconds and bytes, measured on this machine by training the largest pack of each program for a moment."""

    seconds: float  # of the whole launch
    error: float  # relative, one standard deviation
    bytes_a_worker: int


@dataclass(frozen=True)
class Cost:
    """Seconds that a pack of one program takes on a worker."""

    step: float  # of one member, with its share of measuring
    step_spread: float = 0.0  # one standard deviation
    start: float = 0.0  # of a pack
    compiling: float = 0.0  # of each worker
    probes: float = 0.0  # of one member at its end
    repeated: float = 0.0  # of one member at each of its probe_steps
    bytes: int = 0  # of a pack


def work(wanted: Sequence[TrialConfig], store: Store | None, *, retry: bool = False) -> Work:
    """Returns what is left of these trials: wanted minus settled, minus failed trials unless `retry`.

    store: None where nothing is stored yet.
    """
    stored = store.ends() if store is not None else {}
    groups: dict[str, list[TrialConfig]] = {"settled": [], "failed": [], "missing": []}
    for trial in wanted:
        state = trial_state.state(stored.get(trial.trial_id, trial_state.NOT_STORED), trial.recorded)
        is_left = state == trial_state.MISSING or (state == trial_state.FAILED and retry)
        groups["missing" if is_left else "failed" if state == trial_state.FAILED else "settled"].append(trial)
    return Work(tuple(wanted), *(tuple(groups[name]) for name in ("settled", "failed", "missing")))


def check(trials: Sequence[TrialConfig], searches: Iterable[Search] = ()) -> list[str]:
    """Returns remarks on users' code.  Raises SweepError with all problems of it and of the trials' data.

    searches: which request the trials.
    """
    sources = {(trial.data, trial.own, trial.stream_seed("inputs"), trial.model.family): trial for trial in trials}
    problems = [problem for trial in sources.values() for problem in tasks.check(trial)]
    for path in {path for trial in trials for path in trial.imports}:
        try:
            imported(path)
        except ConfigError as error:
            problems += error.problems
    models = dict.fromkeys(trial.model for trial in trials)
    problems += [problem for model in models for problem in sizes.problems(model)]
    problems += protocols.problems(trials)
    if not problems:
        has_targets = {bool(tasks.target_count(trial)) for trial in sources.values() if trial.data.task not in TASKS}
        problems += regression.objective_problems(has_targets, searches)
    problems = problems or tasks.repeat_problems(sources.values())
    problems, remarks = (problems, []) if problems else _own_code_tried(trials)
    if problems:
        raise SweepError(problems)
    return remarks


def _own_code_tried(trials: Sequence[TrialConfig]) -> tuple[list[str], list[str]]:
    """Returns problems of and remarks on users' code, each tested on a few examples in a separate process."""
    programs: dict[Hashable, TrialConfig] = {}
    for trial in trials:
        r = trial.regularization
        hooks = (
            {*trial.imports}
            - {trial.data.task, trial.data.noise_kind}
            - ({r.penalty} if not r.penalty_strength else set())
        )
        if hooks:
            batch, dtype = trial.optimizer.batch_size, trial.compute.dtype
            unread = (bool(trial.optimizer.momentum), bool(r.weight_decay))  # a user's optimizer may lack them
            program = (trial.model, tasks.form(trial), *tasks.shape(trial), batch, dtype, unread, frozenset(hooks))
            programs.setdefault(program, trial)
    problems, remarks = list[str](), list[str]()
    silent: set[tuple[str, ...]] = set()  # imports whose code crashes or hangs; the launch reports where
    for trial in programs.values():
        answer = isolation.evaluate("memsweep.engine.door:problems", trial) if trial.imports not in silent else None
        if answer is None:
            silent.add(trial.imports)
        problems += answer or []
        if answer == [] and trial.metrics:
            remarks += isolation.evaluate("memsweep.run.policy.calibration:metric_remarks", trial) or []
    isolation.end()
    return problems, list(dict.fromkeys(remarks))


def packs(
    trials: Sequence[TrialConfig],
    workers: int,
    members: int | None,
    chosen: Mapping[str, ExecutionPlan],
    saved: Sequence[Saved] = (),
    share: float = 1.0,
    in_rounds: bool = False,
) -> list[Pack]:
    """Returns the packs in which these trials would run: interrupted packs first, then the others, longest first.

    chosen: from `execution_plan.choose`.  saved: checkpoints of the results folder, whose packs are restored.
    share: of the budgets, at which trials are paused.  in_rounds: whether the trials are a round of a search.
    """
    cut_short = _restored_packs(trials, members, saved)
    taken = {trial.trial_id for pack in cut_short for trial in pack.trials}
    rest = by_program(trial for trial in trials if trial.trial_id not in taken)
    # few programs are split among the workers; with many programs, large packs are faster
    wanted = (PACKS_A_ROUND if in_rounds else PACKS_A_WORKER) * workers
    shares = min(workers, -(-wanted // max(1, len(rest))))
    slots = {name: members or chosen[name].slots for name in rest}
    anew = [pack for name, group in rest.items() for pack in make_packs(group, shares, slots[name], share)]

    def seconds(pack: Pack) -> float:
        step = chosen[program_name(pack.trials[0])].seconds or guessed_seconds(pack.trials[0])
        return step * sum(trial.budget for trial in pack.trials)

    made = [*cut_short, *sorted(anew, key=seconds, reverse=True)]
    ways = [chosen[program_name(pack.trials[0])] for pack in made]
    made = [replace(pack, mode=way.mode, compiled=way.compiled) for pack, way in zip(made, ways, strict=True)]
    return _sampled(made)


def _sampled(packs: Sequence[Pack]) -> list[Pack]:
    """Marks the first pack of each program, and every COMPARED_PACKS-th after it, for comparison with a run alone."""
    counts: Counter[str] = Counter()
    sampled = []
    for pack in packs:
        name = program_name(pack.trials[0])
        sampled.append(replace(pack, compared=counts[name] % COMPARED_PACKS == 0))
        counts[name] += 1
    return sampled


def calibrate_here(programs: Sequence[Sequence[TrialConfig]], device: str) -> list[Calibration | None]:
    """Measures these programs one after another on this machine; returns a calibration for each."""
    from memsweep.run.policy.calibration import calibrate  # imports torch

    return [calibrate(trials, device) for trials in programs]


def _restored_packs(trials: Sequence[TrialConfig], members: int | None, saved: Sequence[Saved]) -> list[Pack]:
    """Returns the packs of the checkpoints, reduced to these trials; a trial in several resumes from the furthest."""
    left = {trial.trial_id: trial for trial in trials}
    restored = []
    for pack in saved:
        group = tuple(left.pop(trial_id) for trial_id in pack.trials if trial_id in left)
        if group:
            restored.append(Pack(group, min(pack.slots, members or pack.slots, len(group))))
    return restored


def local_device() -> str:
    """Returns cuda where this machine has a GPU that torch can use, else cpu."""
    import torch  # slow to import, and needed only here

    return "cuda" if torch.cuda.is_available() else "cpu"


def local_workers(device: str) -> int:
    """Returns the number of packs that run at the same time on this machine."""
    if device == "cpu":
        return processors.allotted()
    import torch  # slow to import, and needed only here

    return max(1, torch.cuda.device_count())


def estimate(
    planned: Sequence[Pack],
    device: str,
    workers: int,
    *,
    measuring: float = 0.0,
    reached: Mapping[str, int] = MappingProxyType({}),
) -> Estimate:
    """Returns time and memory of a launch of these packs, from training the largest pack of each program for a moment.

    A program that will be compiled is timed uncompiled; the cost and gain of compiling come from `execution_plan`.
    A trial that may end early counts with its whole budget.
    measuring: seconds spent here on choosing how new programs run, which a launch spends too.
    reached: trial -> steps that checkpoints hold of it.
    """
    programs: dict[tuple[object, ...], list[Pack]] = {}
    for pack in planned:
        programs.setdefault(_alike(pack), []).append(pack)
    costs = {key: measured_cost(max(group, key=lambda pack: pack.slots), device) for key, group in programs.items()}
    return composed([(pack, costs[_alike(pack)]) for pack in planned], workers, measuring=measuring, reached=reached)


def composed(
    packs: Sequence[tuple[Pack, Cost]],
    workers: int,
    *,
    measuring: float = 0.0,
    reached: Mapping[str, int] = MappingProxyType({}),
) -> Estimate:
    """Returns the estimate of a launch: start, packs on their workers, and end; arguments as in `estimate`.

    Each pack goes to the first free worker, in this order, as Tune assigns them.
    """
    if not packs:
        return Estimate(0.0, 0.0, 0)
    busy, variance = [0.0] * min(workers, len(packs)), [0.0] * min(workers, len(packs))
    compiled: set[tuple[int, str]] = set()
    for pack, cost in packs:
        w = busy.index(min(busy))
        program = program_name(pack.trials[0])
        steps = sum(max(trial.pause(pack.share) - reached.get(trial.trial_id, 0), 0) for trial in pack.trials)
        busy[w] += _pack_seconds(pack, cost, steps) + cost.compiling * ((w, program) not in compiled)
        variance[w] += (steps * cost.step_spread) ** 2
        compiled.add((w, program))
    last = busy.index(max(busy))
    around = START_SECONDS + END_SECONDS + PLANNED_SECONDS * sum(len(pack.trials) for pack, _ in packs)
    seconds = around + busy[last] + (measuring + MEASURING_SECONDS if measuring else 0.0)
    error = (variance[last] + START_SPREAD_SECONDS**2) ** 0.5 / seconds
    return Estimate(seconds, error, max(cost.bytes for _, cost in packs))


def _pack_seconds(pack: Pack, cost: Cost, steps: int) -> float:
    """Returns the seconds of one pack whose members have this many steps left, once its program is compiled."""
    training = steps * cost.step
    alone = (
        min(max(COMPARED_SHARE * training, COMPARED_SECONDS), training / len(pack.trials) * pack.slots)
        if pack.compared
        else 0.0
    )
    probed = sum(bool(trial.probes) for trial in pack.trials) * cost.probes
    repeated = sum(len(trial.probe_steps) for trial in pack.trials) * cost.repeated
    return cost.start + training + alone + probed + repeated + len(pack.trials) * TRIAL_SECONDS


def _alike(pack: Pack) -> tuple[object, ...]:
    """Returns the key of packs that cost the same."""
    first = pack.trials[0]
    size = (first.optimizer.batch_size, first.data.examples)
    return (program_name(first), *size, first.probes, bool(first.probe_steps), first.metrics, pack.mode, pack.compiled)


def measured_cost(pack: Pack, device: str) -> Cost:
    """Returns the cost of a pack, from training it for a moment on one core and probing some of its members."""
    import torch  # here, because a plan without an estimate needs no torch

    from memsweep.engine.train import trainer
    from memsweep.run.worker import probes

    torch.set_num_threads(1)  # as a worker has
    began = time.perf_counter()
    program = trainer.compose(pack.trials, device, mode=pack.mode)
    state = trainer.init(program, pack.trials[: pack.slots])
    start = time.perf_counter() - began
    rates: list[float] = []
    until = time.perf_counter() + CALIBRATION_SECONDS
    while len(rates) < 3 or time.perf_counter() < until:
        began = time.perf_counter()
        steps = trainer.steps_to_measurement(state)
        state, measured = trainer.advance(program, state, steps)
        rates.append((time.perf_counter() - began) / (steps * pack.slots))
        if not measured.active.all():
            break
    rates = rates[1:] or rates  # torch warms up in the first
    rate = sum(rates) / len(rates)
    spread = sum((r - rate) ** 2 for r in rates) / (len(rates) - 1) if len(rates) > 1 else rate**2
    probed = list(range(min(PROBED_MEMBERS, pack.slots)))

    def probe_seconds(*, repeated: bool) -> float:
        """Returns the seconds of one member. The first call warms torch up; its time counts if it is long."""
        for members in (probed[:1], probed):
            began = time.perf_counter()
            probes.rows(program, state, members, repeated=repeated)
            seconds = (time.perf_counter() - began) / len(members)
            if seconds > CALIBRATION_SECONDS:
                break
        return seconds

    return Cost(
        step=rate - saved_seconds(rate) if pack.compiled else rate,
        step_spread=spread**0.5,
        start=start,
        compiling=compile_seconds(program_name(pack.trials[0])) if pack.compiled else 0.0,
        probes=probe_seconds(repeated=False) if pack.trials[0].probes else 0.0,
        repeated=probe_seconds(repeated=True) if pack.trials[0].probe_steps else 0.0,
        bytes=trainer.state_bytes(state),
    )
