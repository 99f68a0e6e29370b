"""Fields that add code to a program where they are not zero."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memsweep.spec.config import TrialConfig


def strengths(trial: TrialConfig) -> dict[str, float]:
    """Returns the strengths of all fields that add code to a program if they are not zero."""
    r = trial.regularization
    return {
        "dropout": r.dropout,
        "input_dropout": r.input_dropout,
        "input_noise": r.input_noise,
        "hidden_noise": r.hidden_noise,
        "label_smoothing": r.label_smoothing,
        "adversarial": r.adversarial,
        "penalty_strength": r.penalty_strength,
        "clip": trial.optimizer.clip,
        "averaging": trial.optimizer.averaging,
        "perturbation": trial.model.perturbation,
    }


def uses(trials: Iterable[TrialConfig]) -> frozenset[str]:
    """Returns the names of these fields that are not zero in at least one trial."""
    return frozenset(name for trial in trials for name, strength in strengths(trial).items() if strength)
