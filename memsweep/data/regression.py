"""What trials with real targets can't have, because it needs labels or answers that are right or wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from memsweep.spec.config import TrialConfig
from memsweep.spec.options import LABEL_NOISE

PROBES = ("examples", "weights")
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
    ("probes", lambda names: bool({*names} - {*PROBES}), f"leave out all but {', '.join(PROBES)}"),
)
"""Field, when it needs labels, and the fix."""


def problems(config: TrialConfig) -> Iterator[str]:
    """Yields a sentence per field that needs labels."""
    values = config.flat()
    for name, needs_labels, fix in _RULES:
        if needs_labels(values[name]):
            yield f"{name} = {values[name]!r}: the labels of {config.data.task!r} are real numbers; {fix}."
