"""Trains a pack: the state is data, changed by four functions.

    program = trainer.compose(trials)
    state = trainer.init(program, trials)
    state, measured = trainer.advance(program, state, steps)
    state = trainer.admit(program, state, slots, waiting_trials)
    state = trainer.select(state, measured.active)

A member's numbers do not depend on its place in the pack or on the other members. The functions may reuse the memory
of their argument `state`: continue with the returned state. This module does not use Ray, tables or files.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memsweep.engine.train import compilation, graphs, optim, own_metrics, streams
from memsweep.engine.train.evaluation import Measured, measure
from memsweep.engine.train.flat import copy_back, flattened
from memsweep.engine.train.program import Program, compose
from memsweep.engine.train.state import State, admit, init, member_view, select, state_bytes
from memsweep.engine.train.step import Batch, hold, places, release, train_step

__all__ = [
    "Clock",
    "admit",
    "advance",
    "batches",
    "compose",
    "init",
    "select",
    "state_bytes",
    "steps_to_measurement",
    "train",
]


@dataclass
class Clock:
    """Seconds spent, by purpose; shared by the functions of one pack. Compiling counts only as `compile`."""

    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("start", "compile", "train", "evaluate", "probe"), 0.0)
    )
    _compiled_before: float = field(default_factory=lambda: compilation.seconds_spent)

    def charge(self, purpose: str, since: float) -> None:
        """Adds the time since `since`, minus compiling, to a purpose."""
        compiling = compilation.seconds_spent - self._compiled_before
        self._compiled_before += compiling
        self.seconds["compile"] += compiling
        self.seconds[purpose] += time.perf_counter() - since - compiling


def advance(program: Program, state: State, steps: int, clock: Clock | None = None) -> tuple[State, Measured]:
    """Trains every member for `steps` steps, then measures the members that are due; returns state and measurements.

    steps: at most `steps_to_measurement(state)`, so that no member skips a measurement.
    """
    clock = clock or Clock()
    begun = time.perf_counter()
    state, norms = train(program, state, steps)
    clock.charge("train", begun)
    begun = time.perf_counter()
    state, measured = measure(program, state, norms)
    measured = measured._replace(own=own_metrics.values(program, state, measured.finite))
    clock.charge("evaluate", begun)
    return state, measured


def train(program: Program, state: State, steps: int) -> tuple[State, Tensor]:
    """Trains every member for `steps` steps without measuring.

    Returns the state and the norms of the last gradients, [M].
    """
    index = batches(program, state, steps)  # [steps, M, B]
    rates = learning_rates(program, state, steps)  # [steps, M]
    noise = streams.subkeys(state.noise_keys, torch.from_numpy(state.step) + torch.arange(steps)[:, None]).to(
        program.device
    )
    set_precision(program)
    corrections, shares = moment_corrections(program, state, steps), new_shares(program, state, steps)
    batch = Batch(index, labels_of(program, state, index), rates, noise, corrections, shares)
    norms = _in_turn(program, state, batch) if program.mode == "serial" else _together(program, state, batch)
    _synchronize(program)
    return state._replace(step=state.step + steps), norms


def _together(program: Program, state: State, batches: Batch) -> Tensor:
    """All members at once, a step at a time; each field of `batches` has the steps first. Returns norms [M]."""
    host: Any = ()  # not an array, which torch 2.11 cannot compile
    bare = state._replace(members=(), step=host)  # without the fields of the host
    if not graphs.are_possible(program):
        return _steps(program, bare, batches)
    bare = bare._replace(history=host, order_keys=host, noise_keys=host)  # which a step does not read
    changed = (bare.parameters, bare.buffers, bare.moments, bare.averages)
    constant = (bare.examples, bare.coefficients, bare.strengths, bare.own, bare.origins)
    norms, done, steps = torch.zeros(len(state.members)), 0, len(batches.rows)
    while done < steps:
        count = graphs.STEPS if steps - done >= graphs.STEPS else 1
        some = Batch(*(values[done : done + count] for values in batches))
        norms = graphs.call(_steps, program, bare, some, changed=changed, constant=constant, steps=count)
        done += count
    return norms


def _steps(program: Program, bare: State, batches: Batch) -> Tensor:
    """All members at once, through the steps of these batches.  bare: without fields of the host."""
    steps, members = batches.rate.shape
    norms = torch.zeros(members)
    for s in range(steps):
        batch = Batch(*(values[s] for values in batches))
        # compiled, the norms cost little, and a step without them would be another program
        step = train_step if program.compiled or s == steps - 1 else _step_before_the_last
        norms = compilation.call(step, program, members, bare, batch)
    return norms


_step_before_the_last = partial(train_step, is_last=False)


def _in_turn(program: Program, state: State, batches: Batch) -> Tensor:
    """One member after another through all steps, so that its weights stay in the core's cache. Returns norms [M]."""
    norms = torch.zeros(len(state.members), dtype=program.dtype, device=program.device)
    trained, evaluated = places(program.module, state.buffers), None
    if "adversarial" in program.uses:
        evaluated = places(program.evaluated, state.buffers)
    for m in range(len(state.members)):
        view = member = member_view(state, m)
        flat = None
        if program.is_elementwise:
            view, flat = flattened(member)
        if evaluated is not None:
            hold(evaluated, view)
        alone = hold(trained, view, flat)
        steps = len(batches.rows)
        for s, fields in enumerate(zip(*(values[:, m : m + 1].unbind() for values in batches), strict=True)):
            view = view._replace(members=state.members[m : m + 1], step=state.step[m : m + 1] + s)
            norm = train_step(program, view, Batch(*fields), alone, is_last=s == steps - 1)
            if norm is not None:
                norms[m : m + 1] = norm
            release(alone, view)
        if flat is not None:
            copy_back(view, member)
    return norms


def set_precision(program: Program) -> None:
    """Sets the precision of float32 products as the trials do, in the whole process; never lower than configured."""
    torch.set_float32_matmul_precision(program.matmul)
    torch.backends.cudnn.allow_tf32 = program.matmul != "highest"  # torch's own default is tf32 in convolutions
    torch.backends.cudnn.deterministic = True  # so that a resumed training of convolutions reproduces its bits


def steps_to_measurement(state: State) -> int:
    """Returns the steps until the first member is due."""
    return min(
        member.trial.next_measurement(int(done)) - int(done)
        for member, done in zip(state.members, state.step, strict=True)
    )


def batches(program: Program, state: State, steps: int) -> Tensor:
    """Returns the examples of the next steps: [steps, M, B] int64, the same on every device.

    Each member reads random orders of its examples one after another; a batch may span two orders.
    """
    batch, device = program.batch_size, program.device
    index = torch.empty(steps, len(state.members), batch, dtype=torch.int64, device=device)
    counts = np.array([member.trial.data.examples for member in state.members])
    for count in np.unique(counts):
        group = torch.from_numpy(np.flatnonzero(counts == count))
        begin = torch.from_numpy(state.step)[group] * batch
        first = begin // count
        epochs = int(((begin + steps * batch - 1) // count - first).max()) + 1
        keys = streams.subkeys(state.order_keys[group][:, None], first[:, None] + torch.arange(epochs))
        orders = streams.permutations(keys.flatten().to(device), int(count)).view(len(group), -1)
        window = (begin - first * count).to(device)[:, None] + torch.arange(steps * batch, device=device)
        index[:, group.to(device)] = orders.gather(1, window).view(len(group), steps, batch).transpose(0, 1)
    return index


def labels_of(program: Program, state: State, index: Tensor) -> Tensor:
    """Returns the labels given to the examples of steps, [steps, M, B] int64; [steps, M, 0] in tasks of other targets.

    They are looked up for many steps at once: a compiled step would look each up again for every class.
    index: [steps, M, B], as from `batches`.
    """
    if program.form.kind != "label":
        return index[..., :0]
    return state.examples.given.expand(len(index), -1, -1).gather(2, index)


def learning_rates(program: Program, state: State, steps: int) -> Tensor:
    """Returns each member's rate at the next steps: [steps, M]."""
    base = np.array([member.trial.optimizer.learning_rate for member in state.members])
    factors = np.ones((steps, len(base)))
    for m, (member, begin) in enumerate(zip(state.members, state.step, strict=True)):
        if member.trial.optimizer.schedule != "constant":
            factors[:, m] = [member.trial.rate_factor(int(begin) + s) for s in range(steps)]
    return torch.from_numpy(base * factors).to(program.device, program.dtype)


def moment_corrections(program: Program, state: State, steps: int) -> Tensor:
    """Returns the corrections of Adam's moments at the next steps: [steps, M, 2] float64, else zeros."""
    values = np.zeros((steps, len(state.members), 2))
    if program.optimizer in optim.CORRECTED:
        for m, (member, done) in enumerate(zip(state.members, state.step.tolist(), strict=True)):
            betas = member.trial.optimizer.betas
            values[:, m] = [optim.corrections(betas, done + s) for s in range(1, steps + 1)]
    return torch.from_numpy(values).to(program.device)


def new_shares(program: Program, state: State, steps: int) -> Tensor:
    """Returns the shares of the new weights in each member's average at the next steps, [steps, M].

    1 without averaging, and at a member's first step, as torch.optim.swa_utils.AveragedModel.
    """
    decays = np.array([member.trial.optimizer.averaging for member in state.members])
    is_first = state.step + np.arange(steps)[:, None] == 0
    return torch.from_numpy(np.where(is_first, 1.0, 1 - decays)).to(program.device, program.dtype)


def _synchronize(program: Program) -> None:
    if program.device.type == "cuda":
        torch.cuda.synchronize()
