"""Which own hyperparameters of a trial are declared per member (`members`), and which are constants of its program."""

from __future__ import annotations

from memsweep.spec.config import TrialConfig
from memsweep.spec.fields.own import OwnFields


def names(trial: TrialConfig) -> tuple[str, ...]:
    """Returns the declared fields that the trial has, without `own.`."""
    declared = (field.removeprefix("own.") for field in trial.members)
    return tuple(name for name in declared if name in trial.own)


def shared(trial: TrialConfig) -> OwnFields:
    """Returns the fields that are constants of the trial's program, with Python values."""
    if not trial.members:
        return trial.own
    return OwnFields({name: value for name, value in vars(trial.own).items() if name not in names(trial)})
