"""Measures the cost of a program's step on this machine, by mode and number of members.

A fused program is not always faster than its members in turn: small networks gain ten times from it, lifted
convolutions on a CPU are slower. And a pack that outgrows the core's cache is slower than a smaller one.
"""

from __future__ import annotations

import math
import textwrap
import time
import traceback
from collections.abc import Sequence

import torch
from torch.func import vmap

from memsweep.data import tasks
from memsweep.engine import door_hooks
from memsweep.engine.nn import member_fields, models
from memsweep.engine.train import recordings, trainer
from memsweep.engine.train.evaluation import first_answers
from memsweep.engine.train.own_metrics import bound_metric
from memsweep.run.policy.timings import Calibration, Timing, fused_members
from memsweep.run.worker import allocator
from memsweep.spec import member_names
from memsweep.spec.config import TrialConfig

SECONDS = 0.25
"""About how long each mode and number of members is run; at least one step."""
CLEAN_SHARE = 0.9
"""Least share of a processor that the process has in a time that is kept: less where others use the processors."""
IN_TURN_MEMBERS = 2
LIFTING = ("vmap", "Batching rule", "functorch", "torch.func", "data-dependent", "BatchedTensor")
"""Words in torch's error messages on operations that cannot be lifted."""


def calibrate(trials: Sequence[TrialConfig], device: str) -> Calibration:
    """Returns timings of a program's steps in turn and fused, with growing numbers of members while each is faster.

    trials: of one program; a pack never has more members than there are trials.
    """
    torch.set_num_threads(1)  # as in a worker, and so the allocator
    allocator.keep_freed()
    free = torch.cuda.mem_get_info()[0] if device == "cuda" else 0
    if problem := lift_problem(trials, device):
        return Calibration(_timed(trials, "serial", IN_TURN_MEMBERS, device), problem, free, time.time())
    timings = list(measured := _timed(trials, "serial", IN_TURN_MEMBERS, device))
    is_whole = bool(measured)
    for members in fused_members(len(trials), device):
        before = min((timing.seconds for timing in timings if timing.mode == "fused"), default=math.inf)
        timings += (measured := _timed(trials, "fused", members, device))
        is_whole &= bool(measured)
        if not measured or measured[0].seconds > before:
            break
    is_whole &= all(timing.is_clean for timing in timings)
    return Calibration(tuple(timings), free_bytes=free, measured_at=time.time(), is_whole=is_whole)


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
        turns: list[tuple[float, float]] = []  # seconds per step, share of a processor; the first is a warm-up
        steps, until = 1, time.perf_counter() + SECONDS
        while len(turns) < 2 or time.perf_counter() < until:
            steps = min(2 * steps, trainer.steps_to_measurement(state))
            clock, used, began = trainer.Clock(), time.process_time(), time.perf_counter()
            with recordings.off():
                state, measured = trainer.advance(program, state, steps, clock)
            share = (time.process_time() - used) / (time.perf_counter() - began)
            turns.append((clock.seconds["train"] / steps, share))
            if not measured.active.all():
                break
    except Exception:
        return ()
    size = torch.cuda.max_memory_allocated() if device == "cuda" else 2 * trainer.state_bytes(state)
    seconds, share = min(turns[1:] or turns)
    is_clean = len(turns) > 1 and share >= CLEAN_SHARE
    return (Timing(mode, len(some), seconds / len(some), size // len(some), is_clean),)


def _is_library(file: str) -> bool:
    return "site-packages" in file or file.startswith("<") or "/memsweep/engine/" in file or "/memsweep/run/" in file
