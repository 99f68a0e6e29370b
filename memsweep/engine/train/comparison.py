"""Does a trial alone give the numbers that it gave in company?"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from memsweep.engine.train import trainer
from memsweep.engine.train.evaluation import first_answers, numbers_of
from memsweep.engine.train.program import Program
from memsweep.engine.train.state import State, select
from memsweep.spec.config import TrialConfig

LOSSES = "losses in evaluation"
TWINS, TWIN_STEPS = 3, 3
"""Members and steps of the tiny pack that shows whether a program's products depend on their company."""


class Run(NamedTuple):
    """A trial, trained alone."""

    state: State
    curve: dict[int, dict[str, Any]]  # step -> column -> number
    test: dict[str, Any]
    ended: bool


def alone(trial: TrialConfig, program: Program, seconds: float = math.inf) -> Run:
    """Trains a trial in a pack of one, to its end or the first measurement after so many seconds."""
    state, until = trainer.init(program, [trial]), time.monotonic() + seconds
    curve: dict[int, dict[str, Any]] = {}
    while True:
        state, measured = trainer.advance(program, state, trainer.steps_to_measurement(state))
        curve[int(measured.step[0])] = {name: values[0].item() for name, values in measured.counts.items()}
        if not measured.active[0]:
            return Run(state, curve, {name: values[0].item() for name, values in measured.test.items()}, ended=True)
        if time.monotonic() > until:
            return Run(state, curve, {}, ended=False)


def program_deviation(program: Program, state: State) -> float | None:
    """How far members of a tiny pack are from each alone, after a few steps of training and an evaluation.

    The largest difference of weights, absolute, and of the losses of the first examples, relative; 0: equal to the bit.
    state: of the program's first members, which keeps its numbers.  None: nobody has company, or the program fails,
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
    found = 0.0
    for m, own in enumerate(alone):
        for name, value in own.items():
            mine, theirs = value[0].double(), packed[name][m].double()
            apart = (mine - theirs).abs()
            if name == LOSSES:
                apart = apart / mine.abs().maximum(theirs.abs()).clamp(min=1e-300)
            # what is no number in both is no difference
            found = max(found, apart[mine != theirs].nan_to_num(0.0).max().item() if (mine != theirs).any() else 0.0)
    return found


def _tried(program: Program, state: State) -> dict[str, Tensor]:
    """Weights and buffers after a few steps, and LOSSES, members first."""
    state, _ = trainer.train(program, state, TWIN_STEPS)
    return {**numbers_of(state), LOSSES: first_answers(program, state).loss}


def weights(state: State, m: int) -> dict[str, Tensor]:
    """A member's parameters and buffers."""
    return {name: value[m] for name, value in numbers_of(state).items()}


def weights_fingerprint(state: State, m: int) -> str:
    """16 hexadecimal digits that name the bits of a member's weights and buffers."""
    digest = hashlib.blake2b(digest_size=8)
    for name, value in sorted(weights(state, m).items()):
        digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def differences(run: Run, curve: Mapping[int, Mapping[str, Any]], test: Mapping[str, Any]) -> dict[str, float]:
    """Column -> the largest relative difference of its measurements, of those that are not equal to the bit.

    curve, test: what was measured in company, as in `Run`; what is missing differs infinitely.
    """
    pairs = [(name, value, test[name]) for name, value in run.test.items()]
    for step, counts in run.curve.items():
        pairs += [(name, value, curve.get(step, {}).get(name)) for name, value in counts.items()]
    found: dict[str, float] = {}
    for name, mine, theirs in pairs:
        if mine != theirs:
            apart = abs(mine - theirs) / max(abs(mine), abs(theirs)) if theirs is not None else float("inf")
            found[name] = max(apart, found.get(name, 0.0))
    return found


def weights_apart(run: Run, others: Mapping[str, Tensor]) -> float:
    """The largest absolute difference between final weights; 0 where all are equal to the bit.

    others: by name, as `weights` has them.
    """
    mine = weights(run.state, 0)
    apart = 0.0
    for name, value in others.items():
        own, other = mine[name], value.detach().to(mine[name].device)
        if not torch.equal(own, other):
            apart = max(
                apart, float((own.to(torch.complex128) - other.to(torch.complex128)).abs().nan_to_num(math.inf).max())
            )
    return apart
