"""Compares a trial's numbers in a pack with those of the trial alone."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from memsweep.engine.train import own_optimizers, trainer
from memsweep.engine.train.evaluation import first_answers, numbers_of
from memsweep.engine.train.program import Program
from memsweep.engine.train.state import State, select
from memsweep.spec.config import TrialConfig

LOSSES = "losses in evaluation"
TWINS, TWIN_STEPS = 3, 3
"""Members and steps of the tiny pack that shows whether a program's products depend on other members."""


class Run(NamedTuple):
    """The results of a trial trained alone."""

    state: State
    curve: dict[int, dict[str, Any]]  # step -> column -> number
    test: dict[str, Any]
    ended: bool


def alone(trial: TrialConfig, program: Program, seconds: float = math.inf) -> Run:
    """Trains a trial in a pack of one, to its end or the first measurement after `seconds`; returns its run."""
    state, until = trainer.init(program, [trial]), time.monotonic() + seconds
    curve: dict[int, dict[str, Any]] = {}
    while True:
        state, measured = trainer.advance(program, state, trainer.steps_to_measurement(state))
        counts = {name: values[0].item() for name, values in measured.counts.items()}
        curve[int(measured.step[0])] = counts | {value.column: value.value for value in measured.own.get(0, ())}
        if not measured.active[0]:
            return Run(state, curve, {name: values[0].item() for name, values in measured.test.items()}, ended=True)
        if time.monotonic() > until:
            return Run(state, curve, {}, ended=False)


def program_deviation(program: Program, state: State) -> float | None:
    """Returns how far members of a tiny pack are from each alone, after a few steps and an evaluation.

    The largest difference of weights, absolute, and of the losses of the first examples, relative; 0: bitwise equal.
    state: of the program's first members; it is not changed.  None: there is only one member, or the program fails,
    which its pack will report.
    """
    members = len(state.members)
    if members < 2:
        return None
    at = np.unique(np.linspace(0, members - 1, TWINS).round().astype(int))
    try:
        packed = _tried(program, select(state, at))
        alone = [_tried(program, select(state, at[m : m + 1])) for m in range(len(at))]
    except Exception:
        return None
    deviation = 0.0
    for m, run in enumerate(alone):
        for name, value in run.items():
            mine, theirs = value[0].double(), packed[name][m].double()
            apart = (mine - theirs).abs()
            if name == LOSSES:
                apart = apart / mine.abs().maximum(theirs.abs()).clamp(min=1e-300)
            # nan in both counts as equal
            deviation = max(
                deviation, apart[mine != theirs].nan_to_num(0.0).max().item() if (mine != theirs).any() else 0.0
            )
    return deviation


def _tried(program: Program, state: State) -> dict[str, Tensor]:
    """Weights and buffers after a few steps, and LOSSES, members first; optimizers of the state stay as they were."""
    copies = [m._replace(optimizer=m.optimizer and own_optimizers.copied(m.optimizer, m.trial)) for m in state.members]
    state = state._replace(members=tuple(copies))
    state, _ = trainer.train(program, state, TWIN_STEPS)
    return {**numbers_of(state), LOSSES: first_answers(program, state).loss}


def weights(state: State, m: int) -> dict[str, Tensor]:
    """Returns a member's parameters and buffers by name."""
    return {name: value[m] for name, value in numbers_of(state).items()}


def weights_fingerprint(state: State, m: int) -> str:
    """Returns a hash of a member's weights and buffers: 16 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=8)
    for name, value in sorted(weights(state, m).items()):
        digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def differences(run: Run, curve: Mapping[int, Mapping[str, Any]], test: Mapping[str, Any]) -> dict[str, float]:
    """Returns column -> the largest relative difference of its measurements, for columns that are not bitwise equal.

    curve, test: the measurements in the pack, as in `Run`; a missing measurement differs infinitely.
    """
    pairs = [(name, value, test[name]) for name, value in run.test.items()]
    for step, counts in run.curve.items():
        pairs += [(name, value, curve.get(step, {}).get(name)) for name, value in counts.items()]
    largest: dict[str, float] = {}
    for name, mine, theirs in pairs:
        if mine != theirs:
            is_lacking = mine is None or theirs is None  # not stored, or a metric that is not finite
            apart = math.inf if is_lacking else abs(mine - theirs) / max(abs(mine), abs(theirs))
            largest[name] = max(apart, largest.get(name, 0.0))
    return largest


def weights_apart(run: Run, others: Mapping[str, Tensor]) -> float:
    """Returns the largest absolute difference between final weights; 0 if all are bitwise equal.

    others: by name, as from `weights`.
    """
    mine = weights(run.state, 0)
    apart = 0.0
    for name, value in others.items():
        reference, other = mine[name], value.detach().to(mine[name].device)
        if not torch.equal(reference, other):
            apart = max(
                apart,
                float((reference.to(torch.complex128) - other.to(torch.complex128)).abs().nan_to_num(math.inf).max()),
            )
    return apart
