"""How each program of a results folder is executed: chosen at its first launch in the folder, then stored.

Modes and compilation change the rounding of the last bits. The choice must stay the same when a launch is resumed with
fewer trials, so it is stored beside the tables.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from memsweep.data import tasks
from memsweep.results import attempts
from memsweep.results.storage.store import Store, StoreError
from memsweep.run.packing import ADVERSARIAL, CANNOT_BE_FUSED, by_program, describe, program_name
from memsweep.run.policy.savings import saved_seconds
from memsweep.spec import compiled_code, processors
from memsweep.spec.config import TrialConfig, is_pair
from memsweep.spec.fields.groups import Model
from memsweep.spec.fields.strengths import uses
from memsweep.spec.options import SEQUENCE_FAMILIES

if TYPE_CHECKING:
    from memsweep.run.policy.timings import Calibration

Calibrate = Callable[[list[list[TrialConfig]], str], "list[Calibration | None]"]
"""(trials of each program, device) -> a measurement of each; None where measuring failed."""

COMPILE_SECONDS = {"loaded": 0.5, "cached": 7.0, "new": 33.0}
"""Seconds until a worker has a compiled program, two workers at the same time: loaded from the disk as a library;
traced, its kernels cached by torch; and for the first time on a machine."""
LOADED, TRIED = "library", "tried"
"""Content of the mark of a program that is loaded."""
SEARCHING = 6
"""Factor for programs whose step searches for critical samples: 161 s against 27 at width 128."""
WORTH_CALIBRATING_SECONDS = 120.0
"""A program is not measured first if each worker's estimated work on it is shorter."""
GUESSED_SECONDS, GUESSED_FLOPS = 80e-6, 30e9
"""Estimated time of a member step, and rate of its products; with a sequence, the time counts once per 4 steps."""
CACHE_BYTES = 8 << 20
"""Cache available to the weights, gradients and moments of an unmeasured pack: on two cores that share 32 MiB,
compiled members of width 128 cost 500 us a step in packs of 16 to 64, and 830 in packs of 125."""
SLOTS = {"cpu": (8, 64), "cuda": (64, 512)}
"""Fewest and most members trained at a time without a measurement."""
STEP_BYTES = 4 << 20
"""Memory that one step of a sequence keeps for the backward pass, for all members of a recurrent pack: this much stays
in the caches and makes each operation long. A member step of an RNN of 16 units takes 0.78 ms with 1 MiB and 0.49 with
2.3 MiB, of an LSTM of 32 units 1.9 with 1 MiB and 1.2 with 4 MiB; wider cells are bounded by their weights."""
CONVOLUTIONAL = ("cnn", "resnet")
KERNEL_WIDTH = 192
"""From this width on, the library's LSTM, one member at a time, is as fast as fused members on a CPU."""
IN_TURN_SLOTS = 8
"""Members of a pack in turn; with more, another worker would only wait for the last pack."""
NO_COMPILER = "no C++ compiler; install g++, or set CXX to a compiler, to halve the time of training"
MEMORY_SHARE = 0.5
"""Share of the free memory for the packs of all workers together; on a GPU, of its memory for those of its workers."""


EXACT = "exact"


@dataclass(frozen=True)
class ExecutionPlan:
    """How a program is executed."""

    mode: str = "fused"
    compiled: bool = False
    slots: int = 64  # members trained at a time
    seconds: float | None = None  # of a member step when it was measured, uncompiled
    reason: str = ""  # why members cannot be fused, or why it is not compiled although compiling would save time
    measured_at: str = ""  # date and time of that measurement, UTC; empty: it was not measured
    is_reused: bool = False  # it was measured on this machine before, for another folder or a plan
    exactness: str = ""  # EXACT, or largest deviation of a tiny pack's members from each alone; empty: not checked


def choose(
    trials: Iterable[TrialConfig],
    store: Store | None,
    device: str,
    workers: int,
    *,
    workers_per_gpu: int = 1,
    compiling: bool | None = None,
    calibrate: Calibrate | None = None,
) -> dict[str, ExecutionPlan]:
    """Returns program name -> how it is executed, for all programs of these trials.

    A stored choice is kept. A new program is measured where there is enough to do, or where it is a user's and may not
    be liftable. It is compiled with a C++ compiler, where that saves more than it costs.
    store: None where nothing is stored yet.  workers_per_gpu: that share the memory of a GPU.
    compiling: unless None, overrides the choice of compiling.
    """
    groups = by_program(trials)
    chosen = stored(store)
    fresh = {name: group for name, group in groups.items() if name not in chosen}
    measurable = {name: group for name, group in fresh.items() if _is_worth_measuring(group, workers)}
    calibrations = (
        calibrate(list(measurable.values()), device) if calibrate and measurable else [None] * len(measurable)
    )
    measured = dict(zip(measurable, calibrations, strict=True))
    for name, group in fresh.items():
        chosen[name] = _choice(name, group, device, workers, workers_per_gpu, measured.get(name))
    chosen = {name: chosen[name] for name in groups}
    if compiling is not None:
        chosen = {name: replace(choice, compiled=compiling) for name, choice in chosen.items()}
    return {
        name: replace(choice, compiled=choice.compiled and choice.mode == "fused") for name, choice in chosen.items()
    }


def remarks(chosen: Mapping[str, ExecutionPlan]) -> list[str]:
    """Returns messages on programs whose members cannot be fused, with the reason, and on a missing compiler."""
    sentences = []
    for name, choice in chosen.items():
        if choice.mode == "serial" and choice.reason:
            sentences.append(f"{name.split()[0]}: members run in turn, because they can't be fused: {choice.reason}")
        elif choice.reason:
            sentences.append(f"Programs run uncompiled: {choice.reason}")
    return list(dict.fromkeys(sentences))


def update(trials: Iterable[TrialConfig], store: Store) -> list[str]:
    """Updates the stored plans of these trials' programs from their packs; returns messages, at most two per program.

    A program whose members could not be fused is stored to run in turn from now on. A message names each program whose
    members' numbers depend on the other members.
    """
    ended = store.trials(["trial_id", "attempt_id"])
    fields = ["attempt_id", "mode", "cause", "deviation", "program_deviation"]
    packs = {row["attempt_id"]: row for row in store.current("packs", fields).to_pylist()}
    choices, changed, sentences = stored(store), dict[str, ExecutionPlan](), list[str]()
    for name, group in by_program(trials).items():
        attempt_ids = attempts.of_trials((trial.trial_id for trial in group), ended)
        rows = [packs[attempt_id] for attempt_id in sorted(attempt_ids) if attempt_id in packs]
        choice = before = choices.get(name, ExecutionPlan())
        problems = [row["cause"].partition(CANNOT_BE_FUSED)[2] for row in rows if row["cause"]]
        if before.mode == "fused" and (problem := next(filter(None, problems), "")):
            choice = ExecutionPlan("serial", slots=IN_TURN_SLOTS, reason=problem.partition("; ")[0])
            sentences += remarks({name: choice})
        rows = [row for row in rows if row["mode"] == choice.mode]
        checked = [row["program_deviation"] for row in rows if row["program_deviation"] is not None]
        if checked:
            choice = replace(choice, exactness=f"{max(checked):.1e}" if max(checked) else EXACT)
        if choice != before:
            changed[name] = choice
        deviations = [*checked, *(row["deviation"] for row in rows if row["deviation"] is not None)]
        if any(deviations):
            sentences.append(
                f"{describe(group[0])}: a trial's numbers depend on the other members, by up to {max(deviations):.1e} "
                "(packs.deviation, packs.program_deviation)"
            )
    if changed:
        note(store, changed)
    return sentences


def note(store: Store, chosen: Mapping[str, ExecutionPlan]) -> None:
    """Stores choices beside the stored choices of other programs."""
    store.note_programs({name: asdict(choice) for name, choice in chosen.items()})


def variant(trials: Sequence[TrialConfig], device: str = "cpu") -> str:
    """Returns the name of a program with the code that these trials add to it: each variant is compiled on its own."""
    on_gpu = [device] if device != "cpu" else []
    return " ".join([program_name(trials[0]), *sorted(uses(trials)), *on_gpu])


def compile_seconds(program: str) -> float:
    """Returns the estimated seconds of compiling this variant of a program, per worker."""
    try:
        mark = _marker(program).read_text("utf-8")
        once = COMPILE_SECONDS["loaded" if mark == LOADED else "cached"]
    except OSError:
        once = COMPILE_SECONDS["new"]
    return once * (SEARCHING if ADVERSARIAL in program.split() else 1)


def note_cached(program: str, *, is_loadable: bool = False) -> None:
    """Marks the variant of a program as compiled on this machine; torch caches the machine code.

    is_loadable: whether the disk has it as a library.
    """
    with suppress(OSError):  # without the mark, only the time estimate suffers
        _marker(program).parent.mkdir(parents=True, exist_ok=True)
        _marker(program).write_text(LOADED if is_loadable else "", "utf-8")


def note_tried(program: str) -> None:
    """Marks the variant of a program as one that is not compiled again after a launch."""
    note_cached(f"{program} {TRIED}")


def has_compiler() -> bool:
    """Returns whether the C++ compiler that torch would use is installed."""
    return shutil.which(os.environ.get("CXX", "g++")) is not None


def stored(store: Store | None) -> dict[str, ExecutionPlan]:
    """Returns program name -> how it is executed, for all programs launched in this folder."""
    try:
        return {name: ExecutionPlan(**choice) for name, choice in (store.programs() if store else {}).items()}
    except TypeError as error:
        assert store is not None
        raise StoreError(
            f"{store.programs_path}: does not hold execution plans ({error}). Move the file away; the next launch "
            "writes a new one."
        ) from error


def _choice(
    name: str,
    trials: Sequence[TrialConfig],
    device: str,
    workers: int,
    workers_per_gpu: int,
    measured: Calibration | None,
) -> ExecutionPlan:
    steps = sum(trial.budget for trial in trials) / workers
    if _is_one_object_a_member(trials[0]):
        reason = f"optimizer.name = {trials[0].optimizer.name!r} is one object a member, and moves one member at a time"
        return ExecutionPlan("serial", slots=IN_TURN_SLOTS, reason=reason)

    def saved(seconds: float | None, members: int) -> float:
        """Returns the seconds of each member step that compiling saves, where it pays; else 0."""
        gain = saved_seconds(seconds, device, members)
        is_worth = _is_compilable(trials[0]) and steps * gain > compile_seconds(variant(trials, device))
        return gain if is_worth else 0.0

    best = measured.best(saved if has_compiler() else lambda seconds, members: 0.0) if measured else None
    if best is None:
        in_turn = bool(measured and measured.lift_problem) or (device == "cpu" and _has_better_kernel(trials[0].model))
        choice = ExecutionPlan("serial" if in_turn else "fused", slots=_slots(trials[0], device))
    else:
        assert measured is not None
        memory = measured.free_bytes / workers_per_gpu if device == "cuda" else _free_memory() / workers
        room = int(memory * MEMORY_SHARE / max(best.bytes_a_member, 1))
        measured_at = datetime.fromtimestamp(measured.measured_at, UTC).isoformat(timespec="seconds")
        choice = ExecutionPlan(
            best.mode, slots=max(1, min(best.members, room)), seconds=best.seconds,
            measured_at=measured_at, is_reused=measured.is_kept,
        )  # fmt: skip
    if choice.mode == "serial":
        return replace(choice, slots=IN_TURN_SLOTS, reason=measured.lift_problem if measured else "")
    pays = saved(choice.seconds, min(choice.slots, len(trials))) > 0
    return replace(choice, compiled=pays and has_compiler(), reason=NO_COMPILER if pays and not has_compiler() else "")


def _free_memory() -> int:
    """Returns the bytes of this machine's memory that packs on its processors may still take."""
    return int(min(psutil.virtual_memory().available, processors.memory_left()))


def pays_later(trials: Sequence[TrialConfig], steps: float, plan: ExecutionPlan) -> bool:
    """Returns whether a program would have been compiled if the disk had it, and no process has tried to compile it.

    trials: of one variant.  steps: member steps of a worker.  plan: how it ran.
    """
    trial, name = trials[0], variant(trials)
    seconds = COMPILE_SECONDS["loaded"] * (SEARCHING if ADVERSARIAL in name.split() else 1)
    is_new = not (_marker(name).exists() or _marker(f"{name} {TRIED}").exists())
    return is_new and _is_compilable(trial) and has_compiler() and steps * saved_seconds(plan.seconds) > seconds


def _is_compilable(trial: TrialConfig) -> bool:
    """Returns whether compiling may save time; a compiled recurrent program grows with its steps."""
    is_compiled = trial.compute.autocast == "none" and not is_pair(trial.optimizer.name)  # see engine's `compose`
    return trial.model.family != "recurrent" and is_compiled


def _is_worth_measuring(trials: Sequence[TrialConfig], workers: int) -> bool:
    """Returns whether there is enough to do. A user's code is always measured: it may not be liftable."""
    first = trials[0]
    if _is_one_object_a_member(first):  # then they always follow in turn
        return False
    if any(":" in hook for hook in (first.model.family, first.optimizer.objective, first.optimizer.name)):
        return True
    if first.regularization.penalty != "none":
        return True
    if first.model.family in CONVOLUTIONAL:
        return len(trials) > 1
    return sum(trial.budget for trial in trials) * guessed_seconds(first) / workers > WORTH_CALIBRATING_SECONDS


def _is_one_object_a_member(trial: TrialConfig) -> bool:
    """Returns whether the trial's optimizer is a class of the user's or of torch's."""
    return ":" in trial.optimizer.name and not is_pair(trial.optimizer.name)


def guessed_seconds(trial: TrialConfig) -> float:
    """Returns the estimated seconds of a member step, from its arithmetic alone."""
    steps = max(trial.data.sequence_length, 1)
    flops = 6 * trial.optimizer.batch_size * _weight_count(trial) * steps
    return GUESSED_SECONDS * max(1.0, steps / 4) + flops / GUESSED_FLOPS


def _has_better_kernel(model: Model) -> bool:
    """Returns whether the library's kernels, one member at a time, are faster than a fused pack on a CPU."""
    return model.family in CONVOLUTIONAL or (model.cell == "lstm" and model.width >= KERNEL_WIDTH)


def _slots(trial: TrialConfig, device: str) -> int:
    """Returns how many members' weights, gradients, velocities and kept steps of sequences fit the caches."""
    fewest, most = SLOTS[device]
    room = CACHE_BYTES // (3 * 4 * _weight_count(trial))
    if trial.model.family == "recurrent" and device == "cpu":
        fewest, kept = 4, 4 * 8 * trial.model.width * trial.optimizer.batch_size
        room = min(room, STEP_BYTES // kept)
    return max(fewest, min(most, room))


def _weight_count(trial: TrialConfig) -> int:
    """Returns about how many weights a step's products read."""
    input_dim, classes = tasks.shape(trial)
    model = trial.model
    if model.family == "resnet":  # every stage takes as many operations, for weights that every place reads
        return 54 * model.depth * model.width**2 * input_dim + 4 * model.width * classes
    if model.family in SEQUENCE_FAMILIES:
        return model.width * (classes + 12 * model.depth * model.width)
    return sum(i * o for i, o in pairwise([input_dim, *[model.width] * model.depth, classes]))


def _marker(program: str) -> Path:
    """Returns a file in torch's folder of compiled programs, so that the mark is deleted with them."""
    digest = hashlib.blake2b(f"{program} {version('torch')} {version('memsweep')}".encode(), digest_size=6).hexdigest()
    return compiled_code.folder() / digest
