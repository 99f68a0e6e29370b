"""Runs one pack to its end and writes what it finds. Knows tables and the trainer, and nothing of who called it."""

from __future__ import annotations

import hashlib
import math
import platform
import resource
import subprocess
import time
import traceback
import uuid
from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from memsweep.config import FIELDS, TrialConfig
from memsweep.engine import compilation, trainer
from memsweep.engine.evaluation import Measured, numbers_of
from memsweep.engine.program import Program
from memsweep.engine.state import Member, State
from memsweep.launch.choices import note_cached
from memsweep.launch.packing import Pack, describe, program_name
from memsweep.results.store import Store
from memsweep.schema import Status, cell

FLUSH_SECONDS = 5.0
"""Settled members wait at most this long to be written, so that a kill loses little and parts stay few."""

Row = dict[str, Any]


class Progress(NamedTuple):
    """How far a pack is."""

    settled: int  # trials that were written, whatever their status
    failed: int  # of these, ended by an error
    member_steps: int


class Ledger:
    """What a pack has found and not yet written: rows of `steps`, `examples` and `trials`, settled members only."""

    def __init__(self, store: Store, pack_id: str):
        self.store = store
        self.pack_id = pack_id
        self.attempt_id = f"{pack_id}-{uuid.uuid4().hex[:8]}"
        self.written = self.failed = 0
        self.compiled = False
        self.write_seconds = 0.0
        self._curves: dict[str, list[Row]] = {}  # of members still training
        self._rows: dict[str, list[Row]] = {"steps": [], "examples": [], "trials": []}
        self._begun: dict[str, float] = {}
        self._flushed_at = time.monotonic()

    def enter(self, trial: TrialConfig) -> None:
        self._begun[trial.trial_id] = time.monotonic()
        self._curves[trial.trial_id] = []

    def measure(self, trial: TrialConfig, step: int, counts: Row) -> None:
        """Adds a point to a member's curve; a measurement that is not finite is no point."""
        if math.isfinite(counts["train_loss_sum_nats"] + counts["validation_loss_sum_nats"]):
            epoch = step * trial.optimizer.batch_size / trial.data.examples
            key = {"trial_id": trial.trial_id, "attempt_id": self.attempt_id}
            self._curves[trial.trial_id].append({**key, "step": step, "epoch": epoch, **counts})

    def settle(self, trial: TrialConfig, status: Status, facts: Row) -> None:
        """The member's last word; written with the next flush."""
        curve = self._curves.pop(trial.trial_id, [])
        last = {name: value for name, value in curve[-1].items() if name not in ("step", "epoch")} if curve else {}
        self._rows["steps"] += curve
        self._rows["trials"].append(
            {
                **_identity(trial),
                **last,
                "attempt_id": self.attempt_id,
                "pack_id": self.pack_id,
                "status": status.value,
                "wall_seconds": time.monotonic() - self._begun.pop(trial.trial_id, time.monotonic()),
                "finished_at": datetime.now(UTC),
                **_versions(),
                **facts,
            }
        )

    def add_examples(self, rows: list[Row]) -> None:
        self._rows["examples"] += rows

    def flush(self, *, due_only: bool = False) -> None:
        """Writes settled members: their curves and examples first, their `trials` rows last, as the commit."""
        if not self._rows["trials"] or (due_only and time.monotonic() - self._flushed_at < FLUSH_SECONDS):
            return
        begun = time.perf_counter()
        for table, rows in self._rows.items():
            if rows:
                self.store.write(table, rows)
        self.written += len(self._rows["trials"])
        self.failed += sum(row["cause"] is not None for row in self._rows["trials"])
        self._rows = {table: [] for table in self._rows}
        self._flushed_at = time.monotonic()
        self.write_seconds += time.perf_counter() - begun


def run_pack(pack: Pack, store: Store, device: str = "cpu") -> Generator[Progress, None, None]:
    """Trains every trial of the pack, yielding its progress after each measurement; all is written when it ends.

    A member that fits, diverges or finishes leaves, and a waiting trial takes its slot. An error ends the members
    that are left as `failed`, lack of memory as `out_of_memory`. Closed early, it stores the rest as `interrupted`.
    """
    begun, clock, ledger = time.monotonic(), trainer.Clock(), Ledger(store, pack.pack_id)
    left = {trial.trial_id: trial for trial in pack.trials}
    member_steps = 0
    try:
        for steps in _train(pack, ledger, left, clock, device):
            member_steps += steps
            ledger.flush(due_only=True)
            yield Progress(ledger.written, ledger.failed, member_steps)
    except GeneratorExit:
        _settle_rest(ledger, left, Status.INTERRUPTED, None)
        raise
    except Exception as error:
        status = Status.OUT_OF_MEMORY if _is_out_of_memory(error) else Status.FAILED
        _settle_rest(ledger, left, status, "".join(traceback.format_exception(error)))
    finally:
        ledger.flush()
        if ledger.compiled:
            note_cached(program_name(pack.trials[0]))
        store.write("packs", [_pack_row(pack, ledger, clock, device, member_steps, time.monotonic() - begun)])
    yield Progress(ledger.written, ledger.failed, member_steps)


def _train(
    pack: Pack, ledger: Ledger, left: dict[str, TrialConfig], clock: trainer.Clock, device: str
) -> Iterator[int]:
    """Moves the pack from measurement to measurement; yields member steps. What settles is taken out of `left`."""
    begun = time.perf_counter()
    program = trainer.compose(pack.trials, device, mode=pack.mode, compiled=pack.compiled)
    first, waiting = pack.trials[: pack.slots], list(pack.trials[pack.slots :])
    state = trainer.init(program, first)
    for trial in first:
        ledger.enter(trial)
    clock.charge("start", begun)
    while len(state.members):
        steps = trainer.steps_to_measurement(state)
        state, measured = trainer.advance(program, state, steps, clock)
        ledger.compiled = compilation.is_compiled(program)
        _record(ledger, program, state, measured, left)
        yield steps * len(state.members)
        begun = time.perf_counter()
        state = _refill(ledger, program, state, measured, waiting)
        clock.charge("start", begun)


def _refill(ledger: Ledger, program: Program, state: State, measured: Measured, waiting: list[TrialConfig]) -> State:
    """Waiting trials into the slots that fell free; slots that stay free are given up."""
    free = np.flatnonzero(~measured.active)
    if not len(free):
        return state
    taken, rest = free[: len(waiting)], free[len(waiting) :]
    if len(taken):
        entering = [waiting.pop(0) for _ in taken]
        state = trainer.admit(program, state, taken, entering)
        for trial in entering:
            ledger.enter(trial)
    return trainer.select(state, np.delete(np.arange(len(state.members)), rest)) if len(rest) else state


def _record(ledger: Ledger, program: Program, state: State, measured: Measured, left: dict[str, TrialConfig]) -> None:
    counts, tests = (
        {name: values.tolist() for name, values in columns.items()} for columns in (measured.counts, measured.test)
    )
    for m in np.flatnonzero(measured.due):
        member, step, status = state.members[m], int(measured.step[m]), measured.status[m]
        ledger.measure(member.trial, step, {name: values[m] for name, values in counts.items()})
        if status is None:
            continue
        test = {name: values[m] for name, values in tests.items()} if status != Status.DIVERGED else {}
        if "examples" in member.trial.probes:
            ledger.add_examples(_example_rows(ledger.attempt_id, state, int(m)))
        facts = {
            **test,
            "cause": None,
            "step_count": step,
            "fitted_step": step if measured.fitted[m] else None,
            "input_count": program.input_dim,
            "class_count": program.classes,
            "parameter_count": member.parameter_count,
            "data_fingerprint": member.data.fingerprint,
            "weights_fingerprint": weights_fingerprint(state, int(m)),
        }
        ledger.settle(member.trial, status, facts)
        del left[member.trial.trial_id]


def weights_fingerprint(state: State, m: int) -> str:
    """16 hexadecimal digits that name the bits of a member's weights and buffers."""
    digest = hashlib.blake2b(digest_size=8)
    for name, value in sorted(numbers_of(state).items()):
        digest.update(name.encode() + value[m].cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _settle_rest(ledger: Ledger, left: dict[str, TrialConfig], status: Status, cause: str | None) -> None:
    for trial in left.values():
        ledger.settle(trial, status, {"cause": cause})
    left.clear()


def _example_rows(attempt_id: str, state: State, m: int) -> list[Row]:
    member: Member = state.members[m]
    data, count = member.data, len(member.data.labels)
    learned, forgotten, loss = (
        getattr(state.history, name)[m, :count].tolist() for name in ("learned", "forgotten", "loss")
    )
    return [
        {
            "trial_id": member.trial.trial_id,
            "attempt_id": attempt_id,
            "example": i,
            "source_index": int(data.source_index[i]),
            "corrupted": bool(data.corrupted[i]),
            "given_label": int(data.labels[i]),
            "true_label": int(data.true_labels[i]),
            "first_learned_step": learned[i] if learned[i] >= 0 else None,
            "forgotten_count": forgotten[i],
            "final_loss_nats": loss[i],
        }
        for i in range(count)
    ]


def _identity(trial: TrialConfig) -> Row:
    flat = trial.flat()
    return {
        "trial_id": trial.trial_id,
        "setting_id": trial.setting_id,
        **{spec.column: cell(flat[name]) for name, spec in FIELDS.items()},
    }


@cache
def _versions() -> Row:
    return {
        "host": platform.node(),
        "memsweep_version": version("memsweep"),
        "torch_version": str(torch.__version__),
    }


def _pack_row(
    pack: Pack, ledger: Ledger, clock: trainer.Clock, device: str, member_steps: int, wall_seconds: float
) -> Row:
    on_gpu = device.startswith("cuda")
    peak = torch.cuda.max_memory_allocated() if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "attempt_id": ledger.attempt_id,
        "pack_id": pack.pack_id,
        "program": describe(pack.trials[0]),
        "members": len(pack.trials),
        "slots": pack.slots,
        "settled_count": ledger.written,
        "device": "cuda" if on_gpu else "cpu",
        "device_name": torch.cuda.get_device_name() if on_gpu else _processor(),
        "thread_count": torch.get_num_threads(),
        "mode": pack.mode,
        "compiled": ledger.compiled,
        "member_step_count": member_steps,
        **{f"{name}_seconds": seconds for name, seconds in clock.seconds.items()},
        "write_seconds": ledger.write_seconds,
        "wall_seconds": wall_seconds,
        "peak_memory_bytes": peak,
        "finished_at": datetime.now(UTC),
        "host": platform.node(),
        "memsweep_commit": _commit(),
    }


@cache
def _commit() -> str | None:
    """The commit that this code is at, where it runs from a checkout of its own and git is there to ask."""
    home = Path(__file__).parent
    ask = ["git", "-C", str(home)]
    try:
        subprocess.run([*ask, "ls-files", "--error-unmatch", Path(__file__).name], check=True, capture_output=True)
        told = subprocess.run(
            [*ask, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            check=True,
            capture_output=True,
            text=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return told.stdout.strip()


@cache
def _processor() -> str:
    """The processor's name as Linux tells it, else its architecture."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _is_out_of_memory(error: Exception) -> bool:
    """torch tells a full CPU memory by a RuntimeError's text alone."""
    return isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or "can't allocate memory" in str(error)
