"""What trials with real targets can't have, because it needs labels or answers that are right or wrong."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from memsweep.spec.config import TrialConfig
from memsweep.spec.options import LABEL_NOISE
from memsweep.spec.search import objectives

PROBES = ("examples", "states", "weights")
"""Probes that need no labels."""

_RULES: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("stop.fit", bool, "set it to 0, and stop.steps to a budget"),
    ("data.noise_kind", lambda kind: kind in LABEL_NOISE, "set it to none, or to a noise of inputs"),
    ("regularization.label_smoothing", bool, "set it to 0"),
    ("regularization.adversarial", bool, "set it to 0"),
    ("optimizer.objective", lambda name: name != "cross_entropy", "leave it at cross_entropy; the loss is squared"),
    (
        "model.initialization",
        lambda name: name in ("memorizer", "interpolating"),
        "set it to another initialization",
    ),
    (
        "probes",
        lambda names: any(name not in PROBES and ":" not in name for name in names),
        f"leave out all but {', '.join(PROBES)} and probes of yours",
    ),
)
"""Field, when it needs labels, and the fix."""


def problems(config: TrialConfig) -> Iterator[str]:
    """Yields a sentence per field that needs labels."""
    values = config.flat()
    for name, needs_labels, fix in _RULES:
        if needs_labels(values[name]):
            yield f"{name} = {values[name]!r}: the labels of {config.data.task!r} are real numbers; {fix}."


def objective_problems(has_targets: Collection[bool], searches: Iterable[Any]) -> Iterator[str]:
    """Yields a sentence per objective that needs labels of a task with targets, or targets of a task with labels.

    has_targets: of each of the user's tasks. Objectives of built-in tasks are checked with the sweep.
    """
    for search in searches:
        for name in objectives.of_right_answers(search) if True in has_targets else ():
            yield (
                f"objective {name!r}: counts right answers, and the task has real numbers as labels; minimize "
                "validation_squared_error."
            )
        for name in objectives.of_targets(search) if False in has_targets else ():
            yield (
                f"objective {name!r}: measures distances from real numbers, and the labels of the task are classes; "
                "maximize validation_accuracy, or minimize validation_loss_nats."
            )
