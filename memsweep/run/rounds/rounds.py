"""The rounds of a launch: the trials of its sweeps that are due, within its limit and budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import NamedTuple

from memsweep.results.storage.store import Store, StoreError
from memsweep.run.packing import share
from memsweep.run.rounds.definition import Definition
from memsweep.run.rounds.launch_code import LaunchCode
from memsweep.run.rounds.replay import Replay, give_up, recording, unfinished
from memsweep.spec.budget import UNLIMITED, Budget
from memsweep.spec.config import TrialConfig
from memsweep.spec.part import Part
from memsweep.spec.sweep import SweepError


class Due(NamedTuple):
    """Trials of one sweep to run now."""

    trials: list[TrialConfig]
    share: float  # of their budgets
    is_searched: bool


class Rounds:
    """The rounds of all sweeps of a launch, which advance together, within its budget.

    limit: most trials of each sweep that run; all trials are wanted.
    add: trials wanted by the sweeps' last launches stay wanted.
    code: of the launch, which decides the code whose stored results count.
    part: of the trials; None: all run.  Raises SweepError for a part of a search.
    due: trials of the current rounds to run now.  trials: every trial of the part that was requested so far, once.
    count: of these trials, within the limit.
    """

    def __init__(
        self,
        replays: Sequence[Replay],
        store: Store,
        budget: Budget = UNLIMITED,
        retry: bool = False,
        *,
        limit: int | None = None,
        add: bool = False,
        code: LaunchCode | None = None,
        part: Part | None = None,
    ):
        if part and (names := [replay.sweep.name for replay in replays if replay.sweep.search]):
            raise SweepError(
                [
                    f"part {part}: {', '.join(names)} is a search, whose rounds need the results of all trials: launch "
                    "it without --part. Parts are for grids."
                ]
            )
        self.part = part
        self.replays = replays
        self.store = store
        self.limit = limit
        self._trials_left, self._steps_left = budget.trials, budget.steps
        self._due_before: dict[float, set[str]] = {}  # share -> trials that were due before, up to it
        self._definitions = [Definition(replay.sweep, store, add=add, code=code) for replay in replays]
        self._count()
        self.due = self._affordable(self._find(retry))

    @property
    def missing(self) -> list[TrialConfig]:
        """Returns all trials that are due."""
        return [trial for part in self.due for trial in part.trials]

    def next(self) -> list[Due]:
        """Returns the trials that are due after all due trials have ended; empty: no trial is left, or no budget.

        Raises StoreError where ended trials are not in the tables.
        """
        for part in self.due:
            self._due_before.setdefault(part.share, set()).update(trial.trial_id for trial in part.trials)
        self.advance()
        self.note()
        self.due = self._affordable(self._find())
        if again := [trial_id for part in self.due for trial_id in self._again(part)]:
            raise StoreError(
                f"{self.store.results}: {len(again)} trials that have ended are not in its tables, e.g. "
                f"{min(again)}, and would run again and again: stored rows can't be read back. Run memsweep doctor, "
                "or choose another folder with --results."
            )
        return self.due

    def _again(self, due: Due) -> list[str]:
        before = self._due_before.get(due.share, set())
        return [trial.trial_id for trial in due.trials if trial.trial_id in before]

    def advance(self) -> None:
        """Replays searches on the stored results."""
        for replay in self.replays:
            if replay.sweep.search:
                replay.advance()
        self._count()

    def note(self) -> None:
        """Stores the wanted trials, the progress of searches, and trials that were given up."""
        for replay, definition in zip(self.replays, self._definitions, strict=True):
            give_up(replay.given_up, self.store)
            if replay.sweep.search:
                self.store.note_search(replay.sweep.name, replay.progress)
            definition.note(replay.trials, replay.ends, is_over=replay.round is None)

    def progress(self) -> list[str]:
        """Returns the progress or the result of each search."""
        self.note()
        return [f"{replay.sweep.name}: {replay.progress}" for replay in self.replays if replay.sweep.search]

    def _count(self) -> None:
        groups = each_once([replay.trials for replay in self.replays])
        self.trials = groups[0] if len(groups) == 1 else list(chain.from_iterable(groups))
        self._mine = share(self.trials, self.part) if self.part else None
        self._first = None if self.limit is None else set(chain.from_iterable(map(self._ids, self.replays)))
        self.trials = self._of_part(self.trials)
        self.count = len(self.within_limit(self.trials))

    def _find(self, retry: bool = False) -> list[Due]:
        rounds = [(a, a.round) for a in self.replays if a.round]
        groups = each_once([self._of_part(self._of_first(replay, round_.trials)) for replay, round_ in rounds])
        return [
            Due(unfinished(trials, round_.share, self.store, retry=retry), round_.share, bool(replay.sweep.search))
            for (replay, round_), trials in zip(rounds, groups, strict=True)
        ]

    def within_limit(self, trials: Sequence[TrialConfig]) -> Sequence[TrialConfig]:
        """Returns those of these trials that are within the limit of a sweep."""
        return trials if self._first is None else [trial for trial in trials if trial.trial_id in self._first]

    def _ids(self, replay: Replay) -> Iterator[str]:
        """Yields the ids of a sweep's first trials, up to the limit."""
        return (trial.trial_id for trial in islice(replay.trials, self.limit))

    def _of_first(self, replay: Replay, trials: Sequence[TrialConfig]) -> Sequence[TrialConfig]:
        """Returns those of a sweep's trials that are among its own first."""
        if self.limit is None:
            return trials
        first = set(self._ids(replay))
        return [trial for trial in trials if trial.trial_id in first]

    def _of_part(self, trials: Sequence[TrialConfig]) -> Sequence[TrialConfig]:
        """Returns those of these trials that this part of the launch runs."""
        return trials if self._mine is None else [trial for trial in trials if trial.trial_id in self._mine]

    def _affordable(self, due: Sequence[Due]) -> list[Due]:
        return [part._replace(trials=self._paid(part)) for part in due]

    def _paid(self, due: Due) -> list[TrialConfig]:
        """Returns the first due trials that the remaining budget covers."""
        if self._trials_left is None and self._steps_left is None:
            return due.trials
        paid = []
        for trial in due.trials:
            steps = trial.pause(due.share)
            is_out_of_trials = self._trials_left is not None and self._trials_left < 1
            if is_out_of_trials or (self._steps_left is not None and self._steps_left < steps):
                break
            self._trials_left = self._trials_left and self._trials_left - 1
            self._steps_left = self._steps_left and self._steps_left - steps
            paid.append(trial)
        return paid


def each_once(wanted: Sequence[Sequence[TrialConfig]]) -> Sequence[Sequence[TrialConfig]]:
    """Returns the sweeps' trials, each only in the first sweep that wants it, and records what all sweeps want.

    wanted: of each sweep, each trial once.
    """
    if len(wanted) == 1:
        return wanted
    trials_by_id: dict[str, TrialConfig] = {}
    for trial in chain.from_iterable(wanted):
        first = trials_by_id.setdefault(trial.trial_id, trial)
        trials_by_id[trial.trial_id] = recording(first, trial.probes, trial.probe_steps, trial.metrics)
    return [
        [trials_by_id.pop(trial.trial_id) for trial in trials if trial.trial_id in trials_by_id] for trials in wanted
    ]
