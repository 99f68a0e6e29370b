"""Measures the cost of a program's step on this machine, by mode and number of members.

A fused program is not always faster than its members in turn: small networks gain ten times from it, lifted
convolutions on a CPU are slower. And a pack that outgrows the core's cache is slower than a smaller one.
"""

from __future__ import annotations

import math
import textwrap
import time
import traceback
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch.func import vmap

from memsweep.data import tasks
from memsweep.engine import door_hooks
from memsweep.engine.nn import member_fields, models
from memsweep.engine.train import trainer
from memsweep.engine.train.evaluation import first_answers
from memsweep.engine.train.own_metrics import bound_metric
from memsweep.spec import member_names
from memsweep.spec.config import TrialConfig

SECONDS = 0.25
"""About how long each mode and number of members is run; at least one step."""
IN_TURN_MEMBERS = 2
FUSED_MEMBERS = {"cpu": (8, 32, 64), "cuda": (64, 512, 4096)}
LIFTING = ("vmap", "Batching rule", "functorch", "torch.func", "data-dependent", "BatchedTensor")
"""Words in torch's error messages on operations that cannot be lifted."""
GAIN = 0.97
"""A larger or fused pack is chosen where its step takes at most this share of the alternative's time."""


class Timing(NamedTuple):
    """The measured cost of a program in one mode and pack size."""

    mode: str
    members: int
    seconds: float  # of one step of one member, uncompiled
    bytes_a_member: int  # at most


class Calibration(NamedTuple):
    """The measurements of one program."""

    timings: tuple[Timing, ...]
    lift_problem: str = ""  # why its members cannot be fused, naming the line; empty: they can
    free_bytes: int = 0  # of the GPU's memory, before the measurement; 0 on a CPU

    def best(self, saved: Callable[[float, int], float] = lambda seconds, members: 0.0) -> Timing | None:
        """Returns the fastest timing, or an earlier timing that is nearly as fast (see GAIN); None: no timing.

        saved: seconds that compiling saves of a fused member step, by its length and the members of its pack.
        """
        best, fastest = None, math.inf
        for timing in self.timings:
            seconds = timing.seconds - (saved(timing.seconds, timing.members) if timing.mode == "fused" else 0.0)
            if seconds < GAIN * fastest:
                best, fastest = timing, seconds
        return best


def calibrate(trials: Sequence[TrialConfig], device: str) -> Calibration:
    """Returns timings of a program's steps in turn and fused, with growing numbers of members while each is faster.

    trials: of one program; a pack never has more members than there are trials.
    """
    torch.set_num_threads(1)  # as in a worker
    free = torch.cuda.mem_get_info()[0] if device == "cuda" else 0
    if problem := lift_problem(trials, device):
        return Calibration(_timed(trials, "serial", IN_TURN_MEMBERS, device), problem, free)
    timings = list(_timed(trials, "serial", IN_TURN_MEMBERS, device))
    for members in dict.fromkeys(min(size, len(trials)) for size in FUSED_MEMBERS[device]):
        before = min((timing.seconds for timing in timings if timing.mode == "fused"), default=math.inf)
        timings += (measured := _timed(trials, "fused", members, device))
        if not measured or measured[0].seconds > before:
            break
    return Calibration(tuple(timings), free_bytes=free)


def lift_problem(trials: Sequence[TrialConfig], device: str) -> str:
    """Returns why a step and an evaluation of two members cannot be fused, with the user's line.

    Empty where they can be fused, or fail in turn too.  trials: all of the program, since each may add a regularizer.
    """
    try:
        _step_and_evaluation(trials, "fused", device)
    except Exception as error:
        lifted = error
    else:
        return ""
    try:
        _step_and_evaluation(trials, "serial", device)
    except Exception:
        return ""  # the error is not caused by lifting; the pack will report it
    return line_of(lifted)


def metric_remarks(trial: TrialConfig) -> list[str]:
    """Returns a sentence for each metric of a trial that can't be fused, with the user's line."""
    sentences = []
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        tensors = door_hooks.answered(trial, models.build(trial, *tasks.shape(trial)))
        vectors = {name: member_fields.stacked([trial, trial], name) for name in member_names.names(trial)}
        twice = [torch.stack([tensor, tensor]) for tensor in tensors]
        for path in trial.metrics:
            metric = bound_metric(path, member_names.shared(trial))
            try:
                vmap(member_fields.lifted(metric))(vectors, *twice)
            except Exception as error:
                if is_lifting(error):
                    sentences.append(f"{path}: members follow in turn, because it can't be fused: {line_of(error)}")
    return sentences


def is_lifting(error: Exception) -> bool:
    """Returns whether an error is about lifting over members: torch has no exception class for these."""
    return any(word in str(error) for word in LIFTING)


def line_of(error: Exception) -> str:
    """Returns the user's line that raised an error, and the message."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_library(frame.filename)]
    where = f"{frames[-1].filename}, line {frames[-1].lineno}: {frames[-1].line}" if frames else "its forward"
    return f"{where} ({textwrap.shorten(str(error), 200)})"


def _step_and_evaluation(trials: Sequence[TrialConfig], mode: str, device: str) -> None:
    program = trainer.compose(trials, device, mode=mode)
    state = trainer.init(program, (list(trials[:2]) * 2)[:2])
    state, _ = trainer.train(program, state, 1)
    first_answers(program, state)


def _timed(trials: Sequence[TrialConfig], mode: str, members: int, device: str) -> tuple[Timing, ...]:
    """Returns one timing; empty where the program fails or exceeds the device's memory."""
    some = trials[:members]
    try:
        program = trainer.compose(trials, device, mode=mode)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        state = trainer.init(program, some)
        turns: list[float] = []  # seconds per step; the first is a warm-up
        steps, until = 1, time.perf_counter() + SECONDS
        while len(turns) < 2 or time.perf_counter() < until:
            steps = min(2 * steps, trainer.steps_to_measurement(state))
            clock = trainer.Clock()
            state, measured = trainer.advance(program, state, steps, clock)
            turns.append(clock.seconds["train"] / steps)
            if not measured.active.all():
                break
    except Exception:
        return ()
    size = torch.cuda.max_memory_allocated() if device == "cuda" else 2 * trainer.state_bytes(state)
    return (Timing(mode, len(some), min(turns[1:] or turns) / len(some), size // len(some)),)


def _is_library(file: str) -> bool:
    return "site-packages" in file or file.startswith("<") or "/memsweep/engine/" in file or "/memsweep/run/" in file
