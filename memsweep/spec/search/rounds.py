"""What every search is: a sequence of rounds. A round asks for trials, and the next one follows from how they ended.

Nothing else is remembered: whoever goes on with a search replays it on the stored trials, and comes to the same round.
So a search must draw no random number but from seeds of its own, and look at nothing but the ends that it is sent.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from memsweep.spec.config import TrialConfig

if TYPE_CHECKING:
    from memsweep.spec.sweep import Sweep

Ends: TypeAlias = Mapping[str, Mapping[str, Any]]
"""trial_id -> its row of `trials`, of every trial of a round; where it was paused, with the counts it had then."""


@dataclass(frozen=True)
class Round:
    """Trials that are run together before the search goes on.

    share: of each trial's budget, at which it is paused, in (0, 1]; it may be asked for again, with a larger one.
    given_up: trials that were paused and are not asked for again; they are stored as pruned.
    said: how far the search has come, for people.
    """

    trials: tuple[TrialConfig, ...]
    said: str
    share: float = 1.0
    given_up: tuple[TrialConfig, ...] = ()


RoundGenerator: TypeAlias = Generator[Round, Ends, str]
"""Yields rounds, is sent their ends, and returns a sentence about what was found."""


class Search(Protocol):
    """A way to spend trials; `Sweep(..., search=...)` names it.

    A search that needs only this file and the standard library also has a method `rounds(sweep) -> RoundGenerator`. The
    rounds of `BestSearch` are in `run/rounds/search.py`, with Optuna.
    """

    @property
    def name(self) -> str:
        """Of the search, as tables and messages show it."""

    @property
    def told(self) -> str:
        """What it looks for, as JSON, for those who read its trials."""

    def problems(self, sweep: Sweep) -> list[str]:
        """Why it can't work on this sweep, a sentence each."""

    def most(self, sweep: Sweep) -> int:
        """Trials that it will ask for, at most."""


def once(trials: Sequence[TrialConfig]) -> RoundGenerator:
    """The rounds of a sweep without a search: one, of all its trials."""
    yield Round(tuple(trials), "")
    return ""


class Told:
    """A dataclass that tells its fields."""

    @property
    def told(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))  # type: ignore[call-overload]


def varied(names: Sequence[str], trial: TrialConfig) -> tuple[Any, ...]:
    """Values of these fields."""
    flat = trial.flat()
    return tuple(flat[name] for name in names)


def spelled(names: Sequence[str], values: Sequence[Any]) -> str:
    """model.width=8, model.depth=2; without names: the sweep."""
    return ", ".join(f"{name}={value}" for name, value in zip(names, values, strict=True)) or "the sweep"
