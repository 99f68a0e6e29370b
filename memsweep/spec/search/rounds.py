"""The protocol of searches: a sequence of rounds. A round requests trials; the next round depends on how they ended.

No other state is stored: a search is resumed by replaying it on the stored trials, which leads to the same round.
Therefore a search draws random numbers only from its own seeds, and depends only on the ends that it is sent.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeAlias

from memsweep.spec.config import TrialConfig
from memsweep.spec.grid import Grid

Ends: TypeAlias = Mapping[str, Mapping[str, Any]]
"""trial_id -> row of `trials`, for every trial of a round; a paused trial has its counts at the pause."""


@dataclass(frozen=True)
class Round:
    """Trials that run together before the search continues.

    share: share of its budget at which each trial pauses, in (0, 1]; a later round may request it with a larger share.
    given_up: paused trials that no later round requests; they are stored as pruned.
    progress: state of the search, for people.
    """

    trials: tuple[TrialConfig, ...]
    progress: str
    share: float = 1.0
    given_up: tuple[TrialConfig, ...] = ()


RoundGenerator: TypeAlias = Generator[Round, Ends, str]
"""Yields rounds, is sent their ends, and returns a sentence with the result."""


class Search(Protocol):
    """A strategy that selects trials; passed as `Sweep(..., search=...)`.

    A search that needs only this file and the standard library also has a method `rounds(sweep) -> RoundGenerator`. The
    rounds of `BestSearch` are in `run/rounds/search.py`, with Optuna.
    """

    @property
    def name(self) -> str:
        """Returns the name of the search in tables and messages."""

    @property
    def parameters(self) -> str:
        """Returns the search's parameters as JSON, stored with its trials."""

    def problems(self, sweep: Grid) -> list[str]:
        """Returns one sentence per reason why this search can't run on the sweep."""

    def most(self, sweep: Grid) -> int:
        """Returns the largest number of trials that the search may request."""


def once(trials: Sequence[TrialConfig]) -> RoundGenerator:
    """Yields the only round of a sweep without a search: all its trials."""
    yield Round(tuple(trials), "")
    return ""


class Parameters:
    """Base class of search dataclasses, which returns their fields as JSON."""

    @property
    def parameters(self) -> str:
        """Returns the fields as JSON."""
        return json.dumps(asdict(self), separators=(",", ":"))  # type: ignore[call-overload]


def varied(names: Sequence[str], trial: TrialConfig) -> tuple[Any, ...]:
    """Returns a trial's values of these fields, in their order."""
    flat = trial.flat()
    return tuple(flat[name] for name in names)


def spelled(names: Sequence[str], values: Sequence[Any]) -> str:
    """Returns a text such as "model.width=8, model.depth=2"; "the sweep" without names."""
    return ", ".join(f"{name}={value}" for name, value in zip(names, values, strict=True)) or "the sweep"
