"""The rounds of a launch: the trials of its sweeps that are due, within its limit and budget."""

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
    """Trials of one sweep to run now."""

    trials: list[TrialConfig]
    share: float  # of their budgets
    is_searched: bool


class Rounds:
    """The rounds of all sweeps of a launch, which advance together, within its budget.

    limit: of the trials of each sweep that run; all are wanted.
    add: trials wanted by the sweeps' last launches stay wanted.
    due: what to run of the current rounds.  asked: every trial requested so far, once.
    admitted: ids of the trials within the limit.
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
        self._trials, self._steps = budget.trials, budget.steps  # remaining budget
        self._handed = set[tuple[str, float]]()  # trials that were due before, with their shares
        self._definitions = [Definition(asking.sweep, store, add=add) for asking in askings]
        self._count()
        self.due = self._affordable(self._find(retry))

    @property
    def missing(self) -> list[TrialConfig]:
        """All trials that are due."""
        return [trial for part in self.due for trial in part.trials]

    def next(self) -> list[Due]:
        """Returns what to run after all due trials have ended; empty: the searches are over, or the budget is spent.

        Raises StoreError where ended trials are not in the tables.
        """
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
        """Replays searches on the stored results."""
        for asking in self.askings:
            if asking.sweep.search:
                asking.advance()
        self._count()

    def note(self) -> None:
        """Stores the wanted trials, the progress of searches, and trials that were given up."""
        for asking, definition in zip(self.askings, self._definitions, strict=True):
            give_up(asking.given_up, self.store)
            if asking.sweep.search:
                self.store.note_search(asking.sweep.name, asking.said)
            definition.note(list(asking.trials.values()), asking.ends, is_over=asking.round is None)

    def said(self) -> list[str]:
        """Returns the progress or the result of each search."""
        self.note()
        return [f"{asking.sweep.name}: {asking.said}" for asking in self.askings if asking.sweep.search]

    def _count(self) -> None:
        self.asked = list(chain.from_iterable(each_once([list(asking.trials.values()) for asking in self.askings])))
        self.admitted = set(chain.from_iterable(map(self._first, self.askings)))

    def _find(self, retry: bool = False) -> list[Due]:
        rounds = [(a, a.round) for a in self.askings if a.round]
        groups = each_once([self._within(asking, round_.trials) for asking, round_ in rounds])
        return [
            Due(unfinished(trials, round_.share, self.store, retry=retry), round_.share, bool(asking.sweep.search))
            for (asking, round_), trials in zip(rounds, groups, strict=True)
        ]

    def _first(self, asking: Asking) -> Iterator[str]:
        """Ids of a sweep's first trials, up to the limit."""
        return islice(asking.trials, self.limit)

    def _within(self, asking: Asking, trials: Sequence[TrialConfig]) -> list[TrialConfig]:
        first = set(self._first(asking))
        return [trial for trial in trials if trial.trial_id in first]

    def _affordable(self, due: Sequence[Due]) -> list[Due]:
        return [part._replace(trials=self._paid(part)) for part in due]

    def _paid(self, due: Due) -> list[TrialConfig]:
        """The first due trials that the remaining budget covers."""
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
    """Returns the sweeps' trials, each only in the first sweep that wants it, with the probes of all sweeps."""
    trials_by_id: dict[str, TrialConfig] = {}
    for trial in chain.from_iterable(wanted):
        first = trials_by_id.setdefault(trial.trial_id, trial)
        trials_by_id[trial.trial_id] = with_probes(first, trial.probes, trial.probe_steps)
    return [
        [trials_by_id.pop(trial.trial_id) for trial in trials if trial.trial_id in trials_by_id] for trials in wanted
    ]
