"""Kept states of training: written where a trial's budget ends, for longer trials that go on from there."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from memsweep.engine.train import checkpoint
from memsweep.engine.train.record import Record
from memsweep.engine.train.state import State, select
from memsweep.results import kept_files
from memsweep.run import checkpoints
from memsweep.run.packing import Pack
from memsweep.run.worker import provenance
from memsweep.run.worker.attempt import Attempt
from memsweep.run.worker.writer import Row
from memsweep.spec.config import TrialConfig
from memsweep.spec.lineage import lineage_of
from memsweep.spec.options import STATES
from memsweep.spec.schema import own_probes


def keep(attempt: Attempt, state: State, members: Collection[int], ends: Mapping[str, Sequence[Row]]) -> None:
    """Writes the states of these members, which leave, to one file, and adds their rows of `states`.

    The last measurement must be on their curves.  ends: table -> rows of probes at their end, which a longer trial may
    want too.  Raises StoreError.
    """
    positions = [m for m in members if STATES in state.members[m].trial.probes]
    if not positions:
        return
    part = select(state, np.array(positions))
    trials = [member.trial for member in part.members]
    how = execution(attempt)
    note = checkpoints.note([trial.trial_id for trial in trials], len(trials), how)
    content = checkpoint.dump(part, [_record(attempt, trial, ends) for trial in trials], note)
    file = kept_files.write(attempt.store, STATES, content)
    row = {"execution": checkpoints.as_text(how), "file": file, "byte_count": len(content) // len(trials)}
    attempt.writer.add(
        STATES,
        [
            {**row, "trial_id": trial.trial_id, "lineage": lineage_of(trial), "step": int(part.step[m])}
            for m, trial in enumerate(trials)
        ],
    )


def execution(attempt: Attempt) -> dict[str, Any]:
    """Returns what must be equal to go on from a state that this attempt keeps."""
    return checkpoints.state_execution(attempt.pack, attempt.device, provenance.device_name(attempt.device))


def by_file(pack: Pack, trials: Sequence[TrialConfig]) -> dict[str, dict[str, str]]:
    """Returns file of `states` -> trial -> the shorter trial that it goes on from, of these trials."""
    entering, files = {trial.trial_id for trial in trials}, dict[str, dict[str, str]]()
    for trial_id, name, file in pack.states:
        if trial_id in entering:
            files.setdefault(file, {})[trial_id] = name
    return files


def _record(attempt: Attempt, trial: TrialConfig, ends: Mapping[str, Sequence[Row]]) -> Record:
    """Returns a member's results so far and, of the probes that are repeated, those at its end."""
    curve, probed = attempt.writer.record(trial)
    last = {
        table: [row for row in ends.get(table, ()) if row["trial_id"] == trial.trial_id]
        for table in own_probes.repeated(trial.probes).values()
    }
    return Record(curve, {name: [*probed.get(name, ()), *last.get(name, ())] for name in {**probed, **last}})
