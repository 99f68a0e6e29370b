"""The rounds of a launch: which trials of its sweeps are due now, within its limit and budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import NamedTuple

from memsweep.results.storage.store import Store, StoreError
from memsweep.run.rounds.asking import Asking, give_up, unfinished, with_probes
from memsweep.run.rounds.definition import Definition
from memsweep.spec.budget import UNLIMITED, Budget
from memsweep.spec.config import TrialConfig


class Due(NamedTuple):
    """Trials of one sweep that are to be run now."""

    trials: list[TrialConfig]
    share: float  # of their budgets
    is_searched: bool


class Rounds:
    """The rounds of all sweeps of a launch, which advance together, within its budget.

    limit: of the trials of each sweep that are run; all are wanted.
    add: what the sweeps' last launches want counts on.
    due: what is to be run of the rounds at hand.  asked: every trial that was asked for so far, once.
    admitted: ids of those that are run, as far as the limit goes.
    """

    def __init__(
        self,
        askings: Sequence[Asking],
        store: Store,
        budget: Budget = UNLIMITED,
        retry: bool = False,
        *,
        limit: int | None = None,
        add: bool = False,
    ):
        self.askings = askings
        self.store = store
        self.limit = limit
        self._trials, self._steps = budget.trials, budget.steps  # left of them
        self._handed = set[tuple[str, float]]()  # trials that have been due before, with their shares
        self._definitions = [Definition(asking.sweep, store, add=add) for asking in askings]
        self._count()
        self.due = self._affordable(self._find(retry))

    @property
    def missing(self) -> list[TrialConfig]:
        return [trial for part in self.due for trial in part.trials]

    def next(self) -> list[Due]:
        """What is to be run after all that was due has ended; nothing: the searches are over, or the budget is."""
        self._handed |= _handed(self.due)
        self.advance()
        self.note()
        self.due = self._affordable(self._find())
        if again := self._handed & _handed(self.due):
            raise StoreError(
                f"{self.store.results}: {len(again)} trials that have ended are not in its tables, e.g. "
                f"{min(again)[0]}, and would be run without end. What was stored there can't be read back: see "
                "memsweep doctor, or choose another folder with --results."
            )
        return self.due

    def advance(self) -> None:
        for asking in self.askings:
            if asking.sweep.search:
                asking.advance()
        self._count()

    def note(self) -> None:
        """Stores what is wanted now, how far searches are, and who is given up."""
        for asking, definition in zip(self.askings, self._definitions, strict=True):
            give_up(asking.given_up, self.store)
            if asking.sweep.search:
                self.store.note_search(asking.sweep.name, asking.said)
            definition.note(list(asking.trials.values()), asking.ends, is_over=asking.round is None)

    def said(self) -> list[str]:
        """How far each search is, or what it has found."""
        self.note()
        return [f"{asking.sweep.name}: {asking.said}" for asking in self.askings if asking.sweep.search]

    def _count(self) -> None:
        self.asked = list(chain.from_iterable(each_once([list(asking.trials.values()) for asking in self.askings])))
        self.admitted = set(chain.from_iterable(map(self._first, self.askings)))

    def _find(self, retry: bool = False) -> list[Due]:
        rounds = [(a, a.round) for a in self.askings if a.round]
        found = each_once([self._within(asking, round_.trials) for asking, round_ in rounds])
        return [
            Due(unfinished(trials, round_.share, self.store, retry=retry), round_.share, bool(asking.sweep.search))
            for (asking, round_), trials in zip(rounds, found, strict=True)
        ]

    def _first(self, asking: Asking) -> Iterator[str]:
        """Ids of the first trials of a sweep, as far as the limit goes."""
        return islice(asking.trials, self.limit)

    def _within(self, asking: Asking, trials: Sequence[TrialConfig]) -> list[TrialConfig]:
        first = set(self._first(asking))
        return [trial for trial in trials if trial.trial_id in first]

    def _affordable(self, due: Sequence[Due]) -> list[Due]:
        return [part._replace(trials=self._paid(part)) for part in due]

    def _paid(self, due: Due) -> list[TrialConfig]:
        """The first of them, as far as what is left of the budget goes."""
        paid = []
        for trial in due.trials:
            steps = trial.pause(due.share)
            if (self._trials is not None and self._trials < 1) or (self._steps is not None and self._steps < steps):
                break
            self._trials = self._trials and self._trials - 1
            self._steps = self._steps and self._steps - steps
            paid.append(trial)
        return paid


def _handed(due: Sequence[Due]) -> set[tuple[str, float]]:
    return {(trial.trial_id, part.share) for part in due for trial in part.trials}


def each_once(wanted: Sequence[Sequence[TrialConfig]]) -> list[list[TrialConfig]]:
    """Trials of several sweeps, each with the first sweep that wants it, and with the probes that any of them asks."""
    found: dict[str, TrialConfig] = {}
    for trial in chain.from_iterable(wanted):
        known = found.setdefault(trial.trial_id, trial)
        found[trial.trial_id] = with_probes(known, trial.probes, trial.probe_steps)
    return [[found.pop(trial.trial_id) for trial in trials if trial.trial_id in found] for trials in wanted]
