"""Compiles programs that launches ran uncompiled because it did not pay, for the next launch into a new folder.

A launch writes a request for each such program into torch's folder of compiled programs, and starts a process that
meets all requests there at the lowest priority. One process of a user is at work at a time; a request that is not met,
because the process was killed, is met after the next launch that starts one.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from memsweep.results.mlflow import background
from memsweep.results.storage import locks
from memsweep.results.storage.parts import StoreError, digest, write_whole
from memsweep.run.packing import Pack, program_name
from memsweep.run.policy import execution_plan
from memsweep.run.policy.execution_plan import ExecutionPlan
from memsweep.spec import compiled_code, contents
from memsweep.spec.config import TrialConfig
from memsweep.spec.contents import is_given
from memsweep.spec.fields.strengths import strengths

VARIABLE = "MEMSWEEP_COMPILE_LATER"
"""Environment variable; 0: nothing is compiled after launches."""
LOCK, LOG = "requests", "requests.log"
STEPS = 2
"""Steps that a request trains before its measurement."""


class Uncompiled(NamedTuple):
    """A program of a launch that was not compiled: a small pack of it, and the member steps of the launch."""

    pack: Pack
    steps: int


def collect(packs: Iterable[Pack], into: dict[str, Uncompiled]) -> None:
    """Adds the programs of these packs that are fused and not compiled.

    into: text that names a program -> the program; the fields of its trials that add code are part of the text.
    """
    for pack in packs:
        if pack.mode == "fused" and not pack.compiled and all(map(_is_kept, pack.trials)):
            trials = _few(pack.trials)
            name = execution_plan.variant(trials)
            before = into.get(name) or Uncompiled(Pack(trials, len(trials), compiled=True, folder=pack.folder), 0)
            into[name] = before._replace(steps=before.steps + pack.steps)


def start(programs: Mapping[str, Uncompiled], plans: Mapping[str, ExecutionPlan], workers: int) -> list[str]:
    """Requests the programs that would have been compiled, had the disk had them; returns a sentence, if any.

    plans: program name -> how the launch ran it.  workers: of the launch.
    """
    if os.environ.get(VARIABLE) == "0" or background.ends_with_job():
        return []
    requests = [
        program.pack.to_json()
        for program in programs.values()
        if (plan := plans.get(program_name(program.pack.trials[0])))
        and execution_plan.pays_later(program.pack.trials, program.steps / workers, plan)
    ]
    if not requests:
        return []
    try:
        _folder().mkdir(parents=True, exist_ok=True)
        for text in requests:
            write_whole(_folder() / f"{digest(text.encode())}.json", text.encode())
    except (OSError, StoreError):
        return []  # the next launch runs uncompiled too
    command = [sys.executable, "-m", "memsweep.run.compiling"]
    if background.detach(command, _folder() / LOG, dict(os.environ)):
        return []
    return [
        f"Programs that ran uncompiled: {len(requests)}. They are being compiled in the background, at the lowest "
        "priority, for the next launch into a new folder."
    ]


def _is_kept(trial: TrialConfig) -> bool:
    """Returns whether the disk keeps the trial's program, and another process can make it without the launch."""
    return not trial.imports and not is_given(trial.data.task)


def _few(trials: tuple[TrialConfig, ...]) -> tuple[TrialConfig, ...]:
    """Returns two trials, and the first that has each field that adds code."""
    first: dict[str, TrialConfig] = {}
    for trial in trials:
        for name, strength in strengths(trial).items():
            if strength and name not in first:
                first[name] = trial
    chosen = {trial.trial_id: trial for trial in (*trials[:2], *first.values())}
    return tuple(chosen.values())


def _folder() -> Path:
    return compiled_code.folder() / LOCK


def main() -> None:
    """Meets all requests at the lowest priority."""
    background.take_lowest_priority()
    meet_requests()


def meet_requests() -> None:
    """Compiles the requested programs, one after another, unless another process does."""
    with suppress(locks.HeldError), locks.hold(_folder(), LOCK):
        while requests := sorted(_folder().glob("[!.]*.json")):
            for path in requests:
                try:
                    _meet(path)
                except Exception:
                    traceback.print_exc()  # in the log; the other requests follow


def _meet(path: Path) -> None:
    """Trains a request's pack for a few steps, measures it, and marks its program as compiled if the disk has it."""
    import torch  # takes a second, and another process may be at work

    from memsweep.engine.train import compilation, trainer

    torch.set_num_threads(1)  # as in a worker
    try:
        pack = Pack.from_json(path.read_text("utf-8"))
        execution_plan.note_tried(execution_plan.variant(pack.trials))  # a failure is not repeated after each launch
        contents.start_in(pack.folder)
        trials = [trial.with_fields({"stop.measure_steps": STEPS}) for trial in pack.trials]
        program = trainer.compose(trials, compiled=True)
        state = trainer.init(program, trials)
        trainer.advance(program, state, trainer.steps_to_measurement(state))
        is_loadable = compilation.is_loadable(program)
    finally:
        path.unlink(missing_ok=True)
    if is_loadable:
        execution_plan.note_cached(execution_plan.variant(pack.trials), is_loadable=True)


if __name__ == "__main__":
    main()
