"""Objectives of searches: a number of each trial, computed from its row of `trials`."""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from memsweep.spec.grid import Grid
from memsweep.spec.options import LABEL_NOISE, SHARES, SHARES_AT_END, SOLVABLE_TASKS, TARGET_TASKS, TASKS

FITTED = "fitted"
"""Objective: 1 if the trial met stop.fit, else 0."""
AT_SHARE = ("finished", "interrupted")
"""Statuses whose counts are those at the requested share of the budget. Pruned trials never reached that share."""


class Need(NamedTuple):
    """A condition on a trial's fields that makes the numbers of some columns meaningful."""

    concerns: Callable[[str], bool]  # takes a column's name
    fields: tuple[str, ...]
    is_met: Callable[..., bool]  # takes the values of `fields`, in their order
    rule: str


NEEDS = (
    Need(
        lambda column: column.startswith("validation_"),
        ("data.validation_examples",),
        lambda count: bool(count > 0),
        "data.validation_examples must be 1 or more",
    ),
    Need(
        lambda column: column.startswith("test_"),
        ("data.test_examples",),
        lambda count: bool(count > 0),
        "data.test_examples must be 1 or more",
    ),
    Need(
        lambda column: column in ("memorized_count", "recovered_count", "label_changed_count"),
        ("data.noise_kind", "data.noise_fraction"),
        lambda kind, fraction: kind in LABEL_NOISE and fraction > 0,
        f"data.noise_kind must be {' or '.join(LABEL_NOISE)}, and data.noise_fraction above 0",
    ),
    Need(
        lambda column: column.startswith("corrupted_"),
        ("data.noise_kind", "data.noise_fraction"),
        lambda kind, fraction: kind != "none" and fraction > 0,
        "data.noise_kind must not be none, and data.noise_fraction above 0",
    ),
    Need(
        lambda column: "_target_" in column,
        ("data.task",),
        lambda task: task in TARGET_TASKS or task not in TASKS,
        f"data.task must be one of {', '.join(TARGET_TASKS)}, or data of yours with real numbers as labels",
    ),
    Need(
        lambda column: "_squared_error_" in column,
        ("data.task",),
        lambda task: task in ("adding", "reconstruction") or task not in TASKS,
        "data.task must be adding or reconstruction, or data of yours with real numbers as labels",
    ),
    Need(
        lambda column: column in (FITTED, "fitted_step"),
        ("stop.fit",),
        lambda share: bool(share > 0),
        "set it, for example to 1, or no trial counts as fitted",
    ),
    Need(
        lambda column: column == "solved_step",
        ("data.task", "data.validation_examples"),
        lambda task, count: task in SOLVABLE_TASKS and count > 0,
        f"data.task must be one of {', '.join(SOLVABLE_TASKS)}, and data.validation_examples 1 or more",
    ),
    Need(
        lambda column: column == "distance",
        ("model.perturbation",),
        lambda norm: bool(norm > 0),
        "model.perturbation must be above 0",
    ),
)


def unmet(objective: str, sweep: Grid, space: Mapping[str, Sequence[Any]] = MappingProxyType({})) -> Iterator[str]:
    """Yields a sentence per need of this objective that trials of the sweep do not meet, with the first such values.

    space: field -> values that a search sets in addition to the sweep's axes.
    """
    columns = _columns(objective)
    for need in NEEDS:
        if not any(map(need.concerns, columns)):
            continue
        searched = [name for name in need.fields if name in space]
        for values in sweep.values_of(need.fields):
            points = (
                {**values, **dict(zip(searched, row, strict=True))}
                for row in itertools.product(*(space[name] for name in searched))
            )
            if wrong := next((p for p in points if not need.is_met(*(p[name] for name in need.fields))), None):
                given = " and ".join(f"{name} is {value}" for name, value in wrong.items())
                yield f"objective {objective!r}: {given}; {need.rule}."
                break


def _columns(objective: str) -> tuple[str, ...]:
    return {**SHARES, **SHARES_AT_END}.get(objective) or tuple(objective.split("/", 1))


def of_right_answers(search: Any) -> list[str]:
    """Returns the objectives of a search that count right answers."""
    return _objectives(search, "correct", "memorized")


def of_targets(search: Any) -> list[str]:
    """Returns the objectives of a search that compare answers with targets, which are no labels."""
    return _objectives(search, "_target_", "_squared_error_")


def _objectives(search: Any, *parts: str) -> list[str]:
    names = getattr(search, "objectives", None) or [getattr(search, "objective", "")]
    return [name for name in names if any(part in column for column in _columns(name) for part in parts)]


def problem(objective: str) -> str | None:
    """Returns the error message if no table holds this objective, else None."""
    if objective == FITTED or objective in SHARES or objective in SHARES_AT_END:
        return None
    from memsweep.spec.schema import NUMBERS  # imports pyarrow

    for part in objective.split("/", 1):
        if part not in NUMBERS:
            near = difflib.get_close_matches(part, [FITTED, *SHARES, *SHARES_AT_END, *NUMBERS], 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            return (
                f"objective {objective!r}: no table has {part!r}; allowed are fitted, {', '.join(SHARES)}, a column of "
                f"trials that is a number, or two of them as count/count.{hint}"
            )
    return None


def value(objective: str, end: Mapping[str, Any]) -> float:
    """Returns the objective of one trial; nan if its row has no value, for example after an error or when pruned.

    end: the trial's row of `trials`.

    >>> value("validation_accuracy", {"status": "finished", "validation_correct_count": 3, "validation_count": 4})
    0.75
    """
    if objective == FITTED:
        return float(end["fitted_step"] is not None) if end["status"] in (*AT_SHARE, "diverged") else math.nan
    if end["status"] not in AT_SHARE:
        return math.nan
    above, _, below = objective.partition("/")
    if objective in SHARES or objective in SHARES_AT_END:
        above, below = {**SHARES, **SHARES_AT_END}[objective]
    numbers = [end[name] for name in (above, below) if name]
    if any(number is None for number in numbers):
        return math.nan
    return float(numbers[0]) if len(numbers) == 1 else float(numbers[0]) / numbers[1] if numbers[1] else math.nan
