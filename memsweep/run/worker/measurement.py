"""Stores what a chunk of training measured: points of curves, rows of probes, and the rows of members that end."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from memsweep.data import sequences
from memsweep.engine.train import comparison
from memsweep.engine.train.evaluation import Measured
from memsweep.engine.train.own_metrics import with_metrics
from memsweep.engine.train.program import Program
from memsweep.engine.train.state import State
from memsweep.run.plan import COMPARED_SECONDS, COMPARED_SHARE
from memsweep.run.worker import probes, states, weights
from memsweep.run.worker.attempt import Attempt
from memsweep.run.worker.writer import Row
from memsweep.spec.config import TrialConfig
from memsweep.spec.schema import Status, cell


def store(attempt: Attempt, program: Program, state: State, measured: Measured) -> None:
    """Stores the measurements of all `M` members after a chunk; settles the members that have ended."""
    writer = attempt.writer
    counts, tests = (
        {name: values.tolist() for name, values in columns.items()} for columns in (measured.counts, measured.test)
    )
    leave = {m: status for m, status in enumerate(measured.status) if status is not None}
    probe(attempt, program, state, [m for m in range(len(state.members)) if m not in leave])
    begun = time.perf_counter()
    ends = _probed(attempt, program, state, list(leave), finite=measured.finite)
    for table, rows in ends.items():
        writer.add(table, rows)
    attempt.clock.charge("probe", begun)
    for m in np.flatnonzero(measured.due).tolist():
        trial, step = state.members[m].trial, int(measured.step[m])
        writer.measure(trial, step, {name: values[m] for name, values in counts.items()})
        key = {"trial_id": trial.trial_id, "step": step}
        writer.keep("metrics", [key | value._asdict() for value in measured.own.get(m, ())])
    states.keep(attempt, state, [m for m in leave if _spent_its_budget(attempt, state, measured, m)], ends)
    for m, status in leave.items():
        member, step = state.members[m], int(measured.step[m])
        test = {name: values[m] for name, values in tests.items()} if status != Status.DIVERGED else {}
        deviation = _deviation(attempt, program, state, m, test) if status == Status.FINISHED else None
        facts = {
            **test,
            "cause": None,
            "step_count": step,
            "fitted_step": step if measured.fitted[m] else None,
            "solved_step": _solved_step(member.trial, writer.curve(member.trial)),
            "input_count": program.input_dim,
            "class_count": program.classes,
            "class_labels": cell(member.data.class_labels) or None,
            "parameter_count": member.parameter_count,
            "frozen_parameter_count": member.frozen_count,
            "data_fingerprint": member.data.fingerprint,
            "weights_fingerprint": comparison.weights_fingerprint(state, m),
            "deviation": deviation,
        }
        writer.settle(member.trial, status, facts)
        del attempt.left[member.trial.trial_id]


def _spent_its_budget(attempt: Attempt, state: State, measured: Measured, m: int) -> bool:
    """Returns whether a member leaves because its budget is spent, and for no other reason."""
    trial = state.members[m].trial
    is_solved = trial.stop.solve != "never" and _solved_step(trial, attempt.writer.curve(trial)) is not None
    return measured.status[m] == Status.FINISHED and not measured.fitted[m] and not is_solved


def probe(attempt: Attempt, program: Program, state: State, members: Sequence[int]) -> None:
    """Probes the members that are at one of their probe_steps, before or during training."""
    begun = time.perf_counter()
    due = [m for m in members if probes.due(state, m)]
    for table, rows in _probed(attempt, program, state, due, repeated=True).items():
        attempt.writer.keep(table, rows)
    attempt.clock.charge("probe", begun)


def _probed(
    attempt: Attempt,
    program: Program,
    state: State,
    members: Sequence[int],
    *,
    repeated: bool = False,
    finite: Sequence[int] | None = None,
) -> dict[str, list[Row]]:
    """Returns table -> rows of the probes of these members, whose weights are written to a file if they are kept.

    finite: members that have not diverged, which users' probes are run for; default: all.
    """
    tables = probes.rows(program, state, members, repeated=repeated)
    tables |= probes.own_rows(program, state, members if finite is None else [m for m in members if m in finite])
    if kept := tables.get("weights"):
        tables["weights"] = weights.stored(kept, attempt.store)
    return tables


def _solved_step(trial: TrialConfig, curve: Sequence[Row]) -> int | None:
    """Returns the first measured step at which a sequence task is solved on validation data."""
    if trial.data.task not in sequences.TARGET_TASKS:
        return None
    prefix = "validation_"
    for point in curve:
        counts = {name.removeprefix(prefix): value for name, value in point.items() if name.startswith(prefix)}
        if sequences.is_solved(trial.data, counts):
            return int(point["step"])
    return None


def _deviation(attempt: Attempt, program: Program, state: State, m: int, test: Row) -> float | None:
    """Returns the deviation of an ending member from its run alone, if its pack is to be compared and was not yet.

    The largest difference of a measurement, relative, or of final weights, absolute, if the run alone gets that far.
    None: not compared.
    """
    trial = state.members[m].trial
    if not attempt.pack.compared or attempt.deviation is not None:
        return None
    begun = time.perf_counter()
    record = attempt.writer.record(trial)
    curve = with_metrics({point["step"]: {**point} for point in record.curve}, record.probed.get("metrics", ()))
    spent = attempt.clock.seconds["train"] + attempt.clock.seconds["evaluate"]
    run = comparison.alone(trial, program, max(COMPARED_SHARE * spent, COMPARED_SECONDS))
    apart = comparison.weights_apart(run, comparison.weights(state, m)) if run.ended else 0.0
    attempt.deviation = max([apart, *comparison.differences(run, curve, test).values()])
    attempt.compare_seconds += time.perf_counter() - begun
    return attempt.deviation
