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
    ids_within_limit: of these trials.
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
            definition.note(list(replay.trials.values()), replay.ends, is_over=replay.round is None)

    def progress(self) -> list[str]:
        """Returns the progress or the result of each search."""
        self.note()
        return [f"{replay.sweep.name}: {replay.progress}" for replay in self.replays if replay.sweep.search]

    def _count(self) -> None:
        trials = list(chain.from_iterable(each_once([list(replay.trials.values()) for replay in self.replays])))
        if self.part:
            mine = share(trials, self.part)
            trials = [trial for trial in trials if trial.trial_id in mine]
        self.trials = trials
        first = set(chain.from_iterable(map(self._first, self.replays)))
        self.ids_within_limit = first.intersection(trial.trial_id for trial in trials) if self.part else first

    def _find(self, retry: bool = False) -> list[Due]:
        rounds = [(a, a.round) for a in self.replays if a.round]
        groups = each_once([self._within(replay, round_.trials) for replay, round_ in rounds])
        return [
            Due(unfinished(trials, round_.share, self.store, retry=retry), round_.share, bool(replay.sweep.search))
            for (replay, round_), trials in zip(rounds, groups, strict=True)
        ]

    def _first(self, replay: Replay) -> Iterator[str]:
        """Yields the ids of a sweep's first trials, up to the limit."""
        return islice(replay.trials, self.limit)

    def _within(self, replay: Replay, trials: Sequence[TrialConfig]) -> list[TrialConfig]:
        first = self.ids_within_limit.intersection(self._first(replay))
        return [trial for trial in trials if trial.trial_id in first]

    def _affordable(self, due: Sequence[Due]) -> list[Due]:
        return [part._replace(trials=self._paid(part)) for part in due]

    def _paid(self, due: Due) -> list[TrialConfig]:
        """Returns the first due trials that the remaining budget covers."""
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


def each_once(wanted: Sequence[Sequence[TrialConfig]]) -> list[list[TrialConfig]]:
    """Returns the sweeps' trials, each only in the first sweep that wants it, and records what all sweeps want."""
    trials_by_id: dict[str, TrialConfig] = {}
    for trial in chain.from_iterable(wanted):
        first = trials_by_id.setdefault(trial.trial_id, trial)
        trials_by_id[trial.trial_id] = recording(first, trial.probes, trial.probe_steps, trial.metrics)
    return [
        [trials_by_id.pop(trial.trial_id) for trial in trials if trial.trial_id in trials_by_id] for trials in wanted
    ]
