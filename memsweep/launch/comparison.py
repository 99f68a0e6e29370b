"""Does a trial alone give the numbers that it gave in company?"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from memsweep.config import TrialConfig
from memsweep.engine import trainer
from memsweep.engine.evaluation import numbers_of
from memsweep.engine.program import Program
from memsweep.engine.state import State


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
