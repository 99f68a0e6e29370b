"""What a launch would do: the missing trials in packs, with their memory and time. Starts nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from memsweep.data import regression, tasks
from memsweep.results import trial_state
from memsweep.results.storage.store import Store
from memsweep.run.checkpoints import Saved
from memsweep.run.packing import Pack, by_program, make_packs, program_name
from memsweep.run.policy import isolation, protocols
from memsweep.run.policy.execution_plan import ExecutionPlan, guessed_seconds
from memsweep.spec import processors
from memsweep.spec.config import ConfigError, TrialConfig, imported
from memsweep.spec.fields import sizes
from memsweep.spec.options import TASKS
from memsweep.spec.search.rounds import Search
from memsweep.spec.sweep import SweepError

PACKS_A_WORKER = 4
"""This many packs keep all workers busy almost to the end."""
PACKS_A_ROUND = 2
"""For a round of a search: rounds are short, and a step of a small pack costs as much as that of one twice its size."""
COMPARED_PACKS = 16
"""In one of this many packs of a program, one member is also run alone."""
COMPARED_SHARE, COMPARED_SECONDS = 0.1, 0.2
"""Limit of the run alone: this share of the pack's time, or this many seconds if that is more."""


@dataclass(frozen=True)
class Work:
    """Wanted trials, split by their state in the tables."""

    wanted: tuple[TrialConfig, ...]
    settled: tuple[TrialConfig, ...]
    failed: tuple[TrialConfig, ...]  # ended with an error; run again with retry
    missing: tuple[TrialConfig, ...]  # still to run


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


def local_workers(device: str, workers_per_gpu: int = 1) -> int:
    """Returns the number of packs that run at the same time on this machine."""
    if device == "cpu":
        return processors.allotted()
    import torch  # slow to import, and needed only here

    return max(1, torch.cuda.device_count()) * workers_per_gpu
