"""Trials that differ in their budget alone: the longer one may go on from the state in which the shorter one ended."""

from __future__ import annotations

from memsweep.spec.config import TrialConfig, trial_id_of
from memsweep.spec.fields import schedules

BUDGET = ("optimizer.epochs", "stop.steps")
"""Fields that a trial's numbers depend on only through its budget."""


def lineage_of(trial: TrialConfig) -> str:
    """Returns a hash of the trial's fields but those of its budget: 16 hexadecimal digits.

    >>> short, long = (TrialConfig.of({"optimizer.epochs": epochs}) for epochs in (3, 6))
    >>> lineage_of(short) == lineage_of(long), short.trial_id == long.trial_id
    (True, False)
    """
    return trial_id_of({name: value for name, value in trial.flat().items() if name not in BUDGET})


def obstacle(trial: TrialConfig, step: int) -> str:
    """Returns why a trial can't go on from a trial of its lineage that ended at this step; "" if it can."""
    schedule = trial.optimizer.schedule
    if schedules.depends_on_budget(schedule):
        return f"the schedule {schedule} depends on the budget"
    if step >= trial.budget:
        return "the kept states are of longer trainings"
    if trial.next_measurement(step - 1) != step:
        return f"they do not measure at step {step}, at which the shorter training ended"
    return ""
