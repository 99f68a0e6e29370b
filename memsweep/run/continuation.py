"""Which kept states trials go on from, and which kept states can't be used."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from memsweep.results import kept_states
from memsweep.results.storage.store import Store
from memsweep.run import checkpoints
from memsweep.run.packing import Pack
from memsweep.run.worker import provenance
from memsweep.spec.config import TrialConfig
from memsweep.spec.lineage import lineage_of, obstacle
from memsweep.spec.options import STATES
from memsweep.spec.schema import own_probes

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Continuations:
    """Packs whose trials go on from kept states where they can."""

    packs: list[Pack]
    steps: dict[str, int]  # trial -> step that it goes on from
    obstacles: Mapping[str, int]  # why kept states are not used -> trials

    @property
    def remarks(self) -> list[str]:
        """Returns sentences on what is saved, and on the trials that are trained from their first step."""
        trials = [trial for pack in self.packs for trial in pack.trials if trial.trial_id in self.steps]
        budgets = sum(trial.budget for trial in trials)
        saved = [
            f"Trials that go on from kept states: {len(trials)}; {sum(self.steps.values()):,} of their {budgets:,} "
            "steps are saved."
        ]
        lost = [
            f"Trials that start from their first step although shorter trainings are kept: {count}, because {reason}."
            for reason, count in self.obstacles.items()
        ]
        return [*(saved if trials else ()), *lost]


def of_packs(packs: Sequence[Pack], store: Store | None, device: str) -> Continuations:
    """Returns these packs, each trial with the longest kept state that it can go on from.

    device: on which they will run.  store: None where nothing is stored yet.
    """
    if store is None or not store.parts(STATES):
        return Continuations(list(packs), {}, {})
    lineages = {trial.trial_id: lineage_of(trial) for pack in packs for trial in pack.trials}
    kept = kept_states.by_lineage(store, lineages.values())
    if not kept:
        return Continuations(list(packs), {}, {})
    continued, steps, obstacles = [], dict[str, int](), Counter[str]()
    # workers compare the accelerator, which this machine may lack
    processor = None if device.startswith("cuda") else provenance.device_name(device)
    for pack in packs:
        how, chosen = checkpoints.state_execution(pack, device, processor), []
        for trial in pack.trials:
            row, reason = _best(trial, pack, kept.get(lineages[trial.trial_id], ()), how)
            if row is not None:
                chosen.append((trial.trial_id, row["trial_id"], row["file"]))
                steps[trial.trial_id] = row["step"]
            elif reason:
                obstacles[reason] += 1
        continued.append(replace(pack, states=tuple(chosen)))
    return Continuations(continued, steps, dict(obstacles.most_common()))


def _needed(trial: TrialConfig, step: int) -> frozenset[str]:
    """Returns what a trial records up to this step beside its measurements, as `TrialConfig.recorded`."""
    probes = own_probes.repeated(trial.probes)
    steps = {str(early) for early in trial.probe_steps if early < step} if probes else set()
    return frozenset({*trial.metrics, *(probes if steps else ()), *steps})


def _best(trial: TrialConfig, pack: Pack, rows: Sequence[Row], how: Mapping[str, Any]) -> tuple[Row | None, str]:
    """Returns the row of the longest usable state, or None and why the longest shorter one is not used."""
    reasons = []
    for row in rows:
        if row["trial_id"] == trial.trial_id:  # the trial itself, which runs again for what it lacks
            continue
        reason = obstacle(trial, row["step"]) or _difference(json.loads(row["execution"]), how)
        if not reason and (unrecorded := _needed(trial, row["step"]) - row[kept_states.RECORDS]):
            reason = f"they did not record {', '.join(sorted(unrecorded))}"
        if not reason and row["step"] > trial.pause(pack.share):
            reason = "their search compares them at fewer steps"
        if not reason:
            return row, ""
        reasons.append((row["step"] < trial.budget, reason))
    shorter = [reason for is_shorter, reason in reasons if is_shorter]
    return None, shorter[0] if shorter else ""


def _difference(kept: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Returns what differs between two ways of execution, as a reason; "" if they are the same."""
    kept, now = json.loads(checkpoints.as_text(kept)), json.loads(checkpoints.as_text(now))
    for name in sorted(kept.keys() | now.keys()):
        before, after = kept.get(name), now.get(name)
        if name == "device_name" and after is None:
            continue
        if name == "code" and before != after:
            return "they ran other code"
        if before != after:
            return f"they ran with {name.replace('_', ' ')} {before}, these run with {after}"
    return ""
