"""Runs one pack to its end and writes its results. Uses tables and the trainer; independent of its caller."""

from __future__ import annotations

import gc
import time
import traceback
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from memsweep.data import given, tasks
from memsweep.engine.nn import models
from memsweep.engine.train import checkpoint, comparison, compilation, graphs, trainer
from memsweep.engine.train.checkpoint import CheckpointError
from memsweep.engine.train.evaluation import Measured
from memsweep.engine.train.program import Program
from memsweep.engine.train.record import Record
from memsweep.engine.train.state import State
from memsweep.results import kept_files
from memsweep.results.storage.parts import write_whole
from memsweep.results.storage.store import Store, StoreError
from memsweep.run import checkpoints
from memsweep.run.checkpoints import CHECKPOINT_SECONDS
from memsweep.run.packing import COMPILING, TRAINING, Pack, Tally
from memsweep.run.policy import calibration
from memsweep.run.worker import measurement, probes, sources, states
from memsweep.run.worker.attempt import Attempt
from memsweep.spec import contents
from memsweep.spec.config import TrialConfig
from memsweep.spec.options import STATES
from memsweep.spec.schema import Status

CHUNK_SECONDS = 2.0
"""About how long a pack trains between two reports of its progress."""
CHUNK_INDICES = 1 << 23
"""Most examples whose numbers and labels are looked up ahead: 128 MiB."""
FIRST_STEPS = 16
"""Steps of the first chunk, before their duration is known."""


class Trouble(NamedTuple):
    """An error in training as text, because the exception object would keep the pack's memory alive."""

    is_out_of_memory: bool
    text: str
    lift_problem: str  # the user's line that cannot be fused; empty: another error


def run_pack(
    pack: Pack, store: Store, device: str = "cpu", *, checkpoint_seconds: float = CHECKPOINT_SECONDS
) -> Generator[Tally, None, None]:
    """Trains every trial of the pack and writes the results; yields its progress after each chunk.

    A member that fits, diverges or finishes leaves, and a waiting trial takes its slot. Members resume from checkpoints
    in the folder. When memory runs out, the pack continues with half the slots. If the network is not liftable, its
    members run in turn, from their start. An error of a user's code ends only the members that raise it, as `failed`.
    When closed early, or when all trials are at their pause, it saves the members in training and stores the rest as
    `interrupted`.
    """
    given.read_from(store.results)
    contents.start_in(pack.folder)
    attempt, groups = Attempt(pack, store, device, checkpoint_seconds), [pack]
    try:
        while groups:
            group = attempt.remaining(groups.pop())
            if not group.trials:
                continue
            trouble = yield from _train(attempt, group)
            if trouble:
                groups += _after(attempt, group, trouble)
                if trouble.is_out_of_memory:
                    _free_memory(device)
                yield attempt.progress
            else:
                groups.append(group)  # the trials waiting behind paused members
        attempt.writer.flush()  # before deleting checkpoints, so that every trial is always in a table or a checkpoint
        checkpoints.tidy(store, attempt.paused, attempt.trial_ids)
    except GeneratorExit:
        attempt.settle(list(attempt.left.values()), Status.INTERRUPTED, None)
        raise
    finally:
        attempt.close()
    yield attempt.progress


def _train(attempt: Attempt, group: Pack) -> Generator[Tally, None, Trouble | None]:
    """Trains these trials of the pack to their ends. Returns the error that stopped training, or None."""
    training = Training(attempt, group)
    try:
        is_training = training.begin()
        if is_training and compilation.is_compiled(training.program):
            attempt.phase = COMPILING
            yield attempt.progress
        while is_training and not training.is_paused():
            training.advance()
            attempt.writer.flush(due_only=True)
            attempt.writer.show()
            if time.monotonic() >= attempt.save_at:
                training.save()
            yield attempt.progress
            is_training = len(training.state.members) > 0
        if is_training:
            training.pause()
    except GeneratorExit:
        training.save()
        raise
    except StoreError:  # not caused by a trial
        raise
    except Exception as error:
        lift_problem = calibration.line_of(error) if calibration.is_lifting(error) else ""
        return Trouble(_is_out_of_memory(error), "".join(traceback.format_exception(error)), lift_problem)
    return None


def _after(attempt: Attempt, group: Pack, trouble: Trouble) -> list[Pack]:
    """Returns the groups to run after an error, the last first: smaller groups, until the failing trial is alone.

    Each group resumes from the last checkpoint. A trial that fails alone is settled.
    """
    if trouble.lift_problem and attempt.pack.mode == "fused":
        attempt.run_in_turn(trouble.lift_problem)
        return [group]
    if trouble.is_out_of_memory and graphs.turn_off():  # whose buffers may be what did not fit
        attempt.causes.append("out of memory; continued without CUDA graphs")
        return [group]
    present = [trial for trial in attempt.present if trial.trial_id in attempt.left]
    if len(present) <= 1:
        status = Status.OUT_OF_MEMORY if trouble.is_out_of_memory else Status.FAILED
        attempt.settle(present or list(attempt.remaining(group).trials), status, trouble.text)
        return [group]
    half = len(present) // 2
    if trouble.is_out_of_memory:
        attempt.causes.append(f"out of memory with {len(present)} slots; continued with {half}")
        return [replace(group, slots=half)]
    rest = tuple(trial for trial in group.trials if trial not in present)
    return [
        replace(group, trials=rest),
        *(replace(group, trials=tuple(part), slots=len(part)) for part in (present[half:], present[:half])),
    ]


class Training:
    """Trials in training together: a state, advanced chunk by chunk, and the trials that wait for a slot."""

    state: State
    program: Program

    def __init__(self, attempt: Attempt, group: Pack):
        self.attempt = attempt
        self.group = group
        self.waiting = list(group.trials)
        self.saved = [s for s in checkpoints.stored(attempt.store) if s.execution == attempt.execution]
        for saved in reversed(self.saved):  # ascending in steps
            attempt.steps |= saved.steps
        self.chunk = FIRST_STEPS
        attempt.present = ()

    def begin(self) -> bool:
        """Puts the first trials into slots, from checkpoints where possible; returns whether there are trials."""
        begun = time.perf_counter()
        attempt = self.attempt
        while entering := self._next_in_line(self.group.slots):
            attempt.present = tuple(entering)
            try:
                trials = [entering[0], *attempt.pack.trials]  # all trials, so that the program stays the same
                mode, compiled = attempt.pack.mode, attempt.pack.compiled
                sources.check(entering, attempt.pack)
                self.program = trainer.compose(trials, attempt.device, mode=mode, compiled=compiled)
                self.state = trainer.init(self.program, entering)
            except Exception as error:
                self._settle_broken(entering, error)
                continue
            self._check_exactness()
            self._take_up(entering)
            attempt.clock.charge("start", begun)
            self._probe_newcomers(entering)
            return True
        return False

    def advance(self) -> None:
        """Trains a chunk of steps, at most to the next measurement; waiting trials replace members that end."""
        attempt, clock = self.attempt, self.attempt.clock
        steps = min(trainer.steps_to_measurement(self.state), probes.steps_to_probe(self.state), self.chunk)
        before, replayed = clock.seconds["train"], graphs.replayed_steps
        self.state, measured = trainer.advance(self.program, self.state, steps, clock)
        attempt.note_graphs((graphs.replayed_steps - replayed) * len(self.state.members), graphs.problem(self.program))
        attempt.writer.compiled = compilation.is_compiled(self.program)
        attempt.is_loadable = compilation.is_loadable(self.program)
        measurement.store(attempt, self.program, self.state, measured)
        attempt.member_steps += steps * len(self.state.members)
        attempt.phase = TRAINING
        self._note_steps()
        self.chunk = self._steps_ahead((clock.seconds["train"] - before) / steps)
        begun = time.perf_counter()
        entered = self._refill(measured)
        clock.charge("start", begun)
        self._probe_newcomers(entered)

    def _check_exactness(self) -> None:
        """Measures the deviation of the program's products, once for a compared pack; part of its start."""
        attempt = self.attempt
        if attempt.pack.compared and attempt.program_deviation is None:
            attempt.program_deviation = comparison.program_deviation(self.program, self.state)

    def is_paused(self) -> bool:
        """Returns whether all members are at their pause."""
        share, members = self.attempt.pack.share, self.state.members
        pauses = [member.trial.pause(share) for member in members] if share < 1 else []
        return share < 1 and bool((self.state.step >= pauses).all())

    def pause(self) -> None:
        """Saves the members in training, and stores their results so far."""
        self.save()
        trials = [member.trial for member in self.state.members]
        self.attempt.paused.update(trial.trial_id for trial in trials)
        self.attempt.settle(trials, Status.INTERRUPTED, None)

    def save(self) -> None:
        """Writes a checkpoint of the members in training.

        Settled trials are written before, so that every trial is always in a table or a checkpoint. If the checkpoint
        cannot be written, training continues without it.
        """
        attempt = self.attempt
        attempt.writer.flush()
        attempt.writer.show(now=True)
        if not self.state.step.any():
            return
        begun = time.monotonic()
        members = [member.trial for member in self.state.members]
        order = [trial.trial_id for trial in (*members, *self.waiting)]
        note = checkpoints.note(order, self.group.slots, attempt.execution)
        try:
            content = checkpoint.dump(self.state, [attempt.writer.record(trial) for trial in members], note)
            write_whole(checkpoints.path_of(attempt.store, self.group), content)
        except StoreError as error:
            attempt.causes.append(str(error))
        checkpoints.tidy(attempt.store, {*attempt.left, *attempt.paused}, attempt.trial_ids)
        attempt.schedule_checkpoint(time.monotonic() - begun)

    def _next_in_line(self, slots: int) -> list[TrialConfig]:
        entering, self.waiting = self.waiting[:slots], self.waiting[slots:]
        return entering

    def _refill(self, measured: Measured) -> list[TrialConfig]:
        """Puts waiting trials into free slots and removes the other free slots. Returns the trials that entered."""
        slots, entered = np.flatnonzero(~measured.active), []
        while len(slots) and (entering := self._next_in_line(len(slots))):
            self.attempt.present = (*(member.trial for member in self.state.members), *entering)
            try:
                sources.check(entering, self.attempt.pack)
                self.state = trainer.admit(self.program, self.state, slots[: len(entering)], entering)
            except Exception as error:
                self._settle_broken(entering, error)
                continue
            slots = slots[len(entering) :]
            self._take_up(entering)
            entered += entering
        if len(slots):
            self.state = trainer.select(self.state, np.delete(np.arange(len(self.state.members)), slots))
        return entered

    def _take_up(self, entering: Sequence[TrialConfig]) -> None:
        """Restores the entering members from checkpoints."""
        records = self._continue_kept(entering)
        for saved in self.saved:
            if saved.steps.keys().isdisjoint(trial.trial_id for trial in entering):
                continue
            try:
                self.state, restored = checkpoint.restore(self.program, self.state, saved.path.read_bytes())
                records |= restored
            except FileNotFoundError:  # replaced by a later checkpoint
                continue
            except CheckpointError as error:
                self.attempt.causes.append(f"checkpoint {saved.path.name} is deleted, because {error}")
                saved.path.unlink(missing_ok=True)
        for trial in entering:
            self.attempt.writer.enter(trial, records.get(trial.trial_id))
        self._note_steps()

    def _continue_kept(self, entering: Sequence[TrialConfig]) -> dict[str, Record]:
        """Restores entering members from the kept states of shorter trials; returns their records by trial."""
        records: dict[str, Record] = {}
        for file, names in states.by_file(self.attempt.pack, entering).items():
            path = kept_files.path_of(self.attempt.store, STATES, file)
            try:
                if checkpoints.read(path).execution != states.execution(self.attempt):
                    self.attempt.causes.append(f"kept state {file} is not used: it was trained in another way")
                    continue
                self.state, restored = checkpoint.restore(self.program, self.state, path.read_bytes(), names)
                records |= restored
            except (FileNotFoundError, checkpoints.DamagedError, CheckpointError) as error:
                self.attempt.causes.append(f"kept state {file} is not used: {error}")
        return records

    def _note_steps(self) -> None:
        members = zip(self.state.members, self.state.step.tolist(), strict=True)
        self.attempt.steps.update((member.trial.trial_id, int(step)) for member, step in members)

    def _probe_newcomers(self, entered: Sequence[TrialConfig]) -> None:
        """Probes members before their first step; resumed members were probed before they were saved."""
        new = {trial.trial_id for trial in entered}
        first = [m for m, member in enumerate(self.state.members) if member.trial.trial_id in new]
        measurement.probe(self.attempt, self.program, self.state, [m for m in first if self.state.step[m] == 0])

    def _settle_broken(self, entering: Sequence[TrialConfig], error: Exception) -> None:
        """Settles trials whose network or data can't be built; raises the error if no trial causes it."""
        broken = {} if _is_out_of_memory(error) else _broken(entering, self.attempt.pack)
        if not broken:
            raise error
        for trial in entering:
            if trial.trial_id in broken:
                self.attempt.settle([trial], Status.FAILED, broken[trial.trial_id])
        self.waiting = [trial for trial in entering if trial.trial_id not in broken] + self.waiting

    def _steps_ahead(self, step_seconds: float) -> int:
        """Returns the steps of the next chunk."""
        numbers = max(1, len(self.state.members)) * self.program.batch_size
        return max(1, min(int(CHUNK_SECONDS / max(step_seconds, 1e-9)), CHUNK_INDICES // numbers))


def _broken(trials: Sequence[TrialConfig], pack: Pack) -> dict[str, str]:
    """Returns trial_id -> error with traceback, for trials whose network or data can't be built alone."""
    errors = {}
    for trial in trials:
        try:
            models.build(trial, *tasks.shape(trial))
            tasks.load(trial)
            sources.check([trial], pack)
        except Exception as error:
            errors[trial.trial_id] = "".join(traceback.format_exception(error))
    return errors


def _free_memory(device: str) -> None:
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()


def _is_out_of_memory(error: Exception) -> bool:
    """Returns whether memory ran out; on the CPU torch reports it only in a RuntimeError's text."""
    texts = ("can't allocate memory", "DefaultCPUAllocator", "bad_alloc")
    return isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or any(text in str(error) for text in texts)
