"""One execution of a pack: its results, the trials left, its checkpoint times, and its row in `packs`."""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import torch

from memsweep.engine.train import trainer
from memsweep.results.storage.store import Store
from memsweep.run import checkpoints
from memsweep.run.packing import CANNOT_BE_FUSED, STARTING, Pack, Tally, describe
from memsweep.run.policy.execution_plan import note_cached, variant
from memsweep.run.worker import provenance
from memsweep.run.worker.writer import PackWriter, Row
from memsweep.spec.config import TrialConfig
from memsweep.spec.schema import Status, reproduction

CHECKPOINT_COST = 0.05
"""Largest share of the time spent on checkpoints; if they take longer, they are written less often."""


class Attempt:
    """The state of one execution, shared by its groups of trials."""

    def __init__(self, pack: Pack, store: Store, device: str, checkpoint_seconds: float):
        self.pack = pack
        self.store = store
        self.device = device
        self.checkpoint_seconds = checkpoint_seconds
        self.execution = checkpoints.execution(pack, device)
        self.trial_ids = frozenset(trial.trial_id for trial in pack.trials)
        self.writer = PackWriter(store, pack.pack_id, pack.after)
        self.clock = trainer.Clock()
        self.left = {trial.trial_id: trial for trial in pack.trials}
        self.paused: set[str] = set()  # trials no longer in `left` whose checkpoints are kept
        self.present: tuple[TrialConfig, ...] = ()  # in slots, or about to enter: the possible causes of an error
        self.member_steps = 0
        self.graph_steps = 0  # of these, steps that graphs ran
        self.phase = STARTING
        self.steps: dict[str, int] = {}  # steps of the trials left
        self.causes: list[str] = []  # errors that ended no trial
        self.deviation: float | None = None  # of the member that was compared with a run alone
        self.program_deviation: float | None = None  # of a tiny pack's members from each alone
        self.is_loadable = False  # the next worker loads the program from the disk
        self.compare_seconds = 0.0
        self.save_at = time.monotonic() + checkpoint_seconds
        self._begun = time.monotonic()

    @property
    def progress(self) -> Tally:
        """Returns the tally of this attempt so far."""
        ahead = (trial.pause(self.pack.share) - self.steps.get(trial_id, 0) for trial_id, trial in self.left.items())
        left = sum(steps for steps in ahead if steps > 0)
        return Tally(self.writer.written, self.writer.failed, self.member_steps, left, phase=self.phase)

    def remaining(self, group: Pack) -> Pack:
        """Returns the group with its remaining trials."""
        trials = tuple(trial for trial in group.trials if trial.trial_id in self.left)
        return replace(group, trials=trials, slots=min(group.slots, max(1, len(trials))))

    def settle(self, trials: Sequence[TrialConfig], status: Status, cause: str | None) -> None:
        """Stores the end of trials without measurements."""
        for trial in trials:
            command = f"\n{reproduction(trial, self.store.results)}\n" if cause else ""
            self.writer.settle(trial, status, {"cause": cause and cause + command})
            del self.left[trial.trial_id]

    def run_in_turn(self, lift_problem: str) -> None:
        """Runs the rest of the pack in turn, because its members cannot be fused."""
        self.pack = replace(self.pack, mode="serial", compiled=False)
        self.execution = checkpoints.execution(self.pack, self.device)
        self.program_deviation = None
        self.causes.append(f"{CANNOT_BE_FUSED}{lift_problem}")

    def note_graphs(self, steps: int, problem: str) -> None:
        """Counts member steps that CUDA graphs ran.  problem: why the program has no graphs; empty: none."""
        self.graph_steps += steps
        if problem and (cause := f"no CUDA graphs: {problem}") not in self.causes:
            self.causes.append(cause)

    def schedule_checkpoint(self, seconds: float) -> None:
        """Schedules the next checkpoint.  seconds: that this one took."""
        self.writer.write_seconds += seconds
        self.save_at = time.monotonic() + max(self.checkpoint_seconds, seconds / CHECKPOINT_COST)

    def close(self) -> None:
        """Writes all results and the row of `packs`."""
        self.writer.close()
        if self.writer.compiled:
            note_cached(variant(self.pack.trials, self.device.partition(":")[0]), is_loadable=self.is_loadable)
        self.store.write("packs", [_pack_row(self, time.monotonic() - self._begun)])


def _pack_row(attempt: Attempt, wall_seconds: float) -> Row:
    pack, writer, device = attempt.pack, attempt.writer, attempt.device
    on_gpu = device.startswith("cuda")
    peak = torch.cuda.max_memory_allocated() if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "attempt_id": writer.attempt_id,
        "pack_id": pack.pack_id,
        "program": describe(pack.trials[0]),
        "members": len(pack.trials),
        "slots": pack.slots,
        "settled_count": writer.written,
        "device": "cuda" if on_gpu else "cpu",
        "device_name": provenance.device_name(device),
        "thread_count": torch.get_num_threads(),
        "mode": attempt.pack.mode,
        "compiled": writer.compiled,
        "member_step_count": attempt.member_steps,
        "graph_step_count": attempt.graph_steps,
        **{f"{name}_seconds": seconds for name, seconds in attempt.clock.seconds.items()},
        "write_seconds": writer.write_seconds,
        "compare_seconds": attempt.compare_seconds,
        "deviation": attempt.deviation,
        "program_deviation": attempt.program_deviation,
        "wall_seconds": wall_seconds,
        "peak_memory_bytes": peak,
        "cause": "; ".join(attempt.causes) or None,
        "finished_at": datetime.now(UTC),
        "host": provenance.versions()["host"],
        "memsweep_commit": provenance.commit(),
    }
