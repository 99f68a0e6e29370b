"""How each program of a results folder is executed: chosen when it is first launched there, and kept.

Modes, and compiled programs, round their last bits otherwise. So the choice must not change when a launch is resumed
with less to do, and it is stored beside the tables.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from memsweep.data import tasks
from memsweep.results.storage.store import Store, StoreError
from memsweep.run.packing import ADVERSARIAL, CANNOT_BE_FUSED, by_program, describe
from memsweep.spec import processors
from memsweep.spec.config import Model, TrialConfig
from memsweep.spec.options import FAMILIES, SEQUENCE_FAMILIES

if TYPE_CHECKING:
    from memsweep.run.policy.calibration import Calibration

Calibrate = Callable[[list[list[TrialConfig]], str], "list[Calibration | None]"]
"""(trials of each program, device) -> what was measured of each; None where that could not be done."""

COMPILE_SECONDS = {"cached": 7.0, "new": 28.0}
"""What compiling a program costs each worker, and the first time on a machine, two workers at the same time."""
SEARCHING = 6
"""So many times as much, where the step holds a search for critical samples: 161 s against 27 at width 128."""
SAVED_SECONDS, SAVED_SHARE = 50e-6, 0.17
"""What a compiled program saves a member step with its share of evaluation on one CPU core: 93 us of 168 at width 32,
350 of 2,600 at width 512."""
SAVED_UNMEASURED = 80e-6
WORTH_CALIBRATING_SECONDS = 120.0
"""A program of which each worker has less than this to do, by a guess, is not measured first."""
GUESSED_SECONDS, GUESSED_FLOPS = 80e-6, 30e9
"""A member step takes about the first, and its products at the second; with a sequence, the first for each 4 steps."""
CACHE_BYTES = 8 << 20
"""Weights, gradients and moments of a pack that is not measured fit into this share of the caches: on two cores that
share 32 MiB, compiled members of width 128 cost 500 us a step in packs of 16 to 64, and 830 in packs of 125."""
SLOTS = {"cpu": (8, 64), "cuda": (64, 512)}
"""Fewest and most members that are trained at a time without being measured."""
STEP_BYTES = 4 << 20
"""What one step of a sequence keeps for the way back, of all members of a recurrent pack: so much stays in the caches
and makes each operation long. A member step of an RNN of 16 units takes 0.78 ms with 1 MiB and 0.49 with 2.3 MiB, of an
LSTM of 32 units 1.9 with 1 MiB and 1.2 with 4 MiB; wider ones are bounded by their weights."""
KERNEL_WIDTH = 192
"""From this width on, the library's LSTM, one member at a time, is as fast as fused ones on a CPU."""
IN_TURN_SLOTS = 8
"""Members of a pack in turn; more would only keep another worker waiting for the last pack."""
NO_COMPILER = "no C++ compiler is here; install g++, or name one in CXX, and training takes half the time"
MEMORY_SHARE = 0.5
"""Of the free memory, that the packs of all workers may take together."""


EXACT = "exact"


@dataclass(frozen=True)
class ExecutionPlan:
    """How a program is executed."""

    mode: str = "fused"
    compiled: bool = False
    slots: int = 64  # members trained at a time
    seconds: float | None = None  # of a member step when it was measured, uncompiled
    reason: str = ""  # why its members cannot be fused, or why it is not compiled although that would pay
    exactness: str = ""  # EXACT, or how far members of a tiny pack were from each alone; empty: not checked


def choose(
    trials: Iterable[TrialConfig],
    store: Store | None,
    device: str,
    workers: int,
    *,
    compiling: bool | None = None,
    calibrate: Calibrate | None = None,
) -> dict[str, ExecutionPlan]:
    """Program name -> how it is executed, of all programs of these trials.

    A stored choice is kept. A new program is measured where there is enough to do, or where it is a user's and may not
    be liftable; compiled on CPUs with a C++ compiler, where that saves more than it costs.
    store: None where nothing is stored yet.  compiling: unless None, it overrules the choice of compiling.
    """
    groups = by_program(trials)
    chosen = stored(store)
    fresh = {name: group for name, group in groups.items() if name not in chosen}
    asked = {name: group for name, group in fresh.items() if _is_worth_measuring(group, workers)}
    found = calibrate(list(asked.values()), device) if calibrate and asked else [None] * len(asked)
    measured = dict(zip(asked, found, strict=True))
    for name, group in fresh.items():
        chosen[name] = _choice(name, group, device, workers, measured.get(name))
    chosen = {name: chosen[name] for name in groups}
    if compiling is not None:
        chosen = {name: replace(choice, compiled=compiling) for name, choice in chosen.items()}
    return {
        name: replace(choice, compiled=choice.compiled and choice.mode == "fused") for name, choice in chosen.items()
    }


def remarks(chosen: Mapping[str, ExecutionPlan]) -> list[str]:
    """What people should know of these choices: whose members cannot be fused, and why; what would be compiled."""
    sentences = []
    for name, choice in chosen.items():
        if choice.mode == "serial" and choice.reason:
            sentences.append(f"{name.split()[0]}: members run in turn, for they can't be fused: {choice.reason}")
        elif choice.reason:
            sentences.append(f"Programs run uncompiled: {choice.reason}")
    return list(dict.fromkeys(sentences))


def learned(trials: Iterable[TrialConfig], store: Store) -> list[str]:
    """Stores what packs found of the programs of these trials; what people should know of it, a line a program.

    A program whose members could not be fused when they ran is chosen to run in turn from now on. Whether members
    depend on their company is said of those that do.
    """
    columns = store.trials(["trial_id", "attempt_id"]).to_pydict()
    attempts = dict(zip(columns["trial_id"], columns["attempt_id"], strict=True))
    fields = ["attempt_id", "mode", "cause", "deviation", "program_deviation"]
    packs = {row["attempt_id"]: row for row in store.current("packs", fields).to_pylist()}
    choices, changed, sentences = stored(store), dict[str, ExecutionPlan](), list[str]()
    for name, group in by_program(trials).items():
        own = {attempts[trial.trial_id] for trial in group if trial.trial_id in attempts}
        rows = [packs[attempt_id] for attempt_id in sorted(own) if attempt_id in packs]
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
        seen = [*checked, *(row["deviation"] for row in rows if row["deviation"] is not None)]
        if any(seen):
            sentences.append(
                f"{describe(group[0])}: a trial's numbers depend on its company, by up to {max(seen):.1e} "
                "(packs.deviation, packs.program_deviation)"
            )
    if changed:
        note(store, changed)
    return sentences


def note(store: Store, chosen: Mapping[str, ExecutionPlan]) -> None:
    """Stores choices beside what is stored of other programs."""
    store.note_programs({name: asdict(choice) for name, choice in chosen.items()})


def compile_seconds(program: str) -> float:
    """What compiling this program will cost each worker here, about."""
    once = COMPILE_SECONDS["cached" if _marker(program).exists() else "new"]
    return once * (SEARCHING if ADVERSARIAL in program.split() else 1)


def note_cached(program: str) -> None:
    """Remembers that this machine has compiled the program; torch keeps the machine code."""
    with suppress(OSError):  # a mark that cannot be made costs an estimate
        _marker(program).parent.mkdir(parents=True, exist_ok=True)
        _marker(program).touch()


def has_compiler() -> bool:
    """Whether the C++ compiler is here that torch would use."""
    return shutil.which(os.environ.get("CXX", "g++")) is not None


def saved_seconds(seconds: float | None) -> float:
    """What compiling saves of a member step that takes so long uncompiled; None: not measured."""
    return SAVED_UNMEASURED if seconds is None else min(SAVED_SECONDS + SAVED_SHARE * seconds, seconds / 2)


def stored(store: Store | None) -> dict[str, ExecutionPlan]:
    """Program name -> how it is executed, of all that were launched in this folder."""
    try:
        return {name: ExecutionPlan(**choice) for name, choice in (store.programs() if store else {}).items()}
    except TypeError as error:
        assert store is not None
        raise StoreError(
            f"{store.programs_path} can't be understood ({error}): move it away, and programs are chosen anew."
        ) from error


def _choice(
    name: str, trials: Sequence[TrialConfig], device: str, workers: int, measured: Calibration | None
) -> ExecutionPlan:
    steps = sum(trial.budget for trial in trials) / workers

    def saved(seconds: float | None) -> float:
        """Of each member step, where compiling the program pays."""
        gain = saved_seconds(seconds)
        can = device == "cpu" and trials[0].model.family != "recurrent"  # whose program would grow with its steps
        return gain if can and steps * gain > compile_seconds(name) else 0.0

    best = measured.best(saved if has_compiler() else lambda seconds: 0.0) if measured else None
    if best is None:
        in_turn = bool(measured and measured.lift_problem) or (device == "cpu" and _has_better_kernel(trials[0].model))
        choice = ExecutionPlan("serial" if in_turn else "fused", slots=_slots(trials[0], device))
    else:
        free = min(psutil.virtual_memory().available, processors.memory_left())
        room = int(free * MEMORY_SHARE / workers / max(best.bytes_a_member, 1))
        choice = ExecutionPlan(best.mode, slots=max(1, min(best.members, room)), seconds=best.seconds)
    if choice.mode == "serial":
        return replace(choice, slots=IN_TURN_SLOTS, reason=measured.lift_problem if measured else "")
    pays = saved(choice.seconds) > 0
    return replace(choice, compiled=pays and has_compiler(), reason=NO_COMPILER if pays and not has_compiler() else "")


def _is_worth_measuring(trials: Sequence[TrialConfig], workers: int) -> bool:
    """A user's own module always is: it may not be liftable."""
    first = trials[0]
    if first.model.family not in FAMILIES or first.regularization.penalty != "none":
        return True
    if first.model.family == "cnn":
        return len(trials) > 1
    return sum(trial.budget for trial in trials) * guessed_seconds(first) / workers > WORTH_CALIBRATING_SECONDS


def guessed_seconds(trial: TrialConfig) -> float:
    """Of a member step, by its arithmetic alone."""
    steps = max(trial.data.sequence_length, 1)
    flops = 6 * trial.optimizer.batch_size * _weight_count(trial) * steps
    return GUESSED_SECONDS * max(1.0, steps / 4) + flops / GUESSED_FLOPS


def _has_better_kernel(model: Model) -> bool:
    """Whether the library's own kernels, one member at a time, beat a fused pack on a CPU."""
    return model.family == "cnn" or (model.cell == "lstm" and model.width >= KERNEL_WIDTH)


def _slots(trial: TrialConfig, device: str) -> int:
    """Members whose weights, gradients and velocities fit the caches together, and of sequences what a step keeps."""
    fewest, most = SLOTS[device]
    room = CACHE_BYTES // (3 * 4 * _weight_count(trial))
    if trial.model.family == "recurrent" and device == "cpu":
        fewest, kept = 4, 4 * 8 * trial.model.width * trial.optimizer.batch_size
        room = min(room, STEP_BYTES // kept)
    return max(fewest, min(most, room))


def _weight_count(trial: TrialConfig) -> int:
    """Weights that a step's products read, about."""
    input_dim, classes = tasks.shape(trial)
    model = trial.model
    if model.family in SEQUENCE_FAMILIES:
        return model.width * (classes + 12 * model.depth * model.width)
    return sum(i * o for i, o in pairwise([input_dim, *[model.width] * model.depth, classes]))


def _marker(program: str) -> Path:
    """In torch's own folder of compiled programs, so that the mark goes when they go."""
    default = Path(tempfile.gettempdir(), f"torchinductor_{getpass.getuser()}")
    digest = hashlib.blake2b(f"{program} {version('torch')} {version('memsweep')}".encode(), digest_size=6).hexdigest()
    return Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR", default), "memsweep", digest)
