"""Estimates a launch's time and memory, from training each program for a moment on this machine."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from memsweep.run.packing import Pack, program_name
from memsweep.run.plan import COMPARED_SECONDS, COMPARED_SHARE
from memsweep.run.policy.execution_plan import compile_seconds, variant
from memsweep.run.policy.savings import saved_seconds
from memsweep.spec.config import TrialConfig
from memsweep.spec.options import STATES, WEIGHTS

if TYPE_CHECKING:
    from memsweep.engine.train.state import State
from memsweep.engine.train.record import Record

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
UNROLLED = ("class_sensitivity", "loss_sensitivity")
"""Probes that repeat the training of a member, so that their cost grows with its steps."""


@dataclass(frozen=True)
class Estimate:
    """Seconds and bytes, measured on this machine by training the largest pack of each program for a moment."""

    seconds: float  # of the whole launch
    error: float  # relative, one standard deviation
    bytes_a_worker: int
    kept_bytes: int = 0  # of weights that the trials keep
    state_bytes: int = 0  # of states of training that the trials keep


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
    network_bytes: int = 0  # of one member's weights and buffers
    state_bytes: int = 0  # of one member's state of training, if it is kept


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
    kept = sum(cost.network_bytes * _kept_times(trial) for pack, cost in packs for trial in pack.trials)
    states = sum(cost.state_bytes * len(pack.trials) for pack, cost in packs)
    return Estimate(seconds, error, max(cost.bytes for _, cost in packs), kept, states)


def _kept_times(trial: TrialConfig) -> int:
    """Returns how often a trial keeps its weights."""
    if WEIGHTS not in trial.probes:
        return 0
    return 1 + sum(step < trial.budget for step in trial.probe_steps)


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
    from memsweep.engine.train.evaluation import numbers_of
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
            with suppress(Exception):  # of the user's probe; stored as the trial's cause
                probes.own_rows(program, state, members)
            seconds = (time.perf_counter() - began) / len(members)
            if seconds > CALIBRATION_SECONDS:
                break
        done = max(1, int(state.step[probed].max()))
        is_longer = not repeated and not set(UNROLLED).isdisjoint(pack.trials[0].probes)
        return seconds * max(1.0, pack.trials[0].budget / done) if is_longer else seconds

    return Cost(
        step=rate - saved_seconds(rate, device, pack.slots) if pack.compiled else rate,
        step_spread=spread**0.5,
        start=start,
        compiling=compile_seconds(variant(pack.trials, device)) if pack.compiled else 0.0,
        probes=probe_seconds(repeated=False) if pack.trials[0].probes else 0.0,
        repeated=probe_seconds(repeated=True) if pack.trials[0].probe_steps else 0.0,
        bytes=trainer.state_bytes(state),
        network_bytes=sum(values[0].nbytes for values in numbers_of(state).values()),
        state_bytes=_state_bytes(state) if STATES in pack.trials[0].probes else 0,
    )


def _state_bytes(state: State) -> int:
    """Returns the size of the first member's kept state, without its curve."""
    from memsweep.engine.train import checkpoint
    from memsweep.engine.train.state import select

    return len(checkpoint.dump(select(state, np.array([0])), [Record([], {})], {}))
