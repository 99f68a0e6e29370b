"""What a launch asks and tells while its packs run: rounds of searches, and what became of dead workers' packs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain, pairwise
from typing import Any, NamedTuple

from memsweep.budget import UNLIMITED, Budget
from memsweep.config import TrialConfig
from memsweep.launch import checkpoints, plan
from memsweep.launch.asking import Asking, give_up, unfinished
from memsweep.launch.ledger import Ledger
from memsweep.launch.packing import Pack, Tally
from memsweep.launch.patience import LastWords
from memsweep.results.store import Store, StoreError
from memsweep.schema import RETRIED, Status, cell, reproduction
from memsweep.sweep import Sweep

WANTED_ROWS = 5000
"""Of a part of `wanted`: a row takes 4 kB of memory on its way to the disk."""


class Due(NamedTuple):
    """Trials of one sweep that are to be run now."""

    trials: list[TrialConfig]
    share: float  # of their budgets
    is_searched: bool


class Rounds:
    """The rounds of all sweeps of a launch, which advance together, within its budget.

    due: what is to be run of the rounds at hand.  asked: every trial that was asked for so far, once.
    """

    def __init__(self, askings: Sequence[Asking], store: Store, budget: Budget = UNLIMITED, retry: bool = False):
        self.askings = askings
        self.store = store
        self._trials, self._steps = budget.trials, budget.steps  # left of them
        self._handed = set[tuple[str, float]]()  # trials that have been due before, with their shares
        self._written = dict.fromkeys(range(len(askings)), 0)  # rounds in `wanted`
        self.asked = self._all()
        self.due = self._affordable(self._find(retry))

    @property
    def missing(self) -> list[TrialConfig]:
        return [trial for part in self.due for trial in part.trials]

    def next(self) -> list[Due]:
        """What is to be run after all that was due has ended; nothing: the searches are over, or the budget is."""
        self._handed |= _handed(self.due)
        self.advance()
        self.note()
        due = self._find()
        if again := self._handed & _handed(due):
            raise StoreError(
                f"{self.store.results}: {len(again)} trials that have ended are not in its tables, e.g. "
                f"{min(again)[0]}, and would be run without end. What was stored there can't be read back: see "
                "memsweep doctor, or choose another folder with --results."
            )
        self.due = self._affordable(due)
        return self.due

    def advance(self) -> None:
        for asking in self.askings:
            if asking.sweep.search:
                asking.advance()
        self.asked = self._all()

    def note(self) -> None:
        """Stores what is wanted now, how far searches are, and who is given up."""
        for i, asking in enumerate(self.askings):
            give_up(asking.given_up, self.store)
            if asking.sweep.search:
                self.store.note_search(asking.sweep.name, asking.said)
            trials = list(asking.trials.values())
            for number, (first, end) in enumerate(pairwise([0, *asking.ends]), 1):
                if number > self._written[i] and first < end:
                    own = number if asking.sweep.search else None
                    write_wanted(asking.sweep, trials[first:end], self.store, first=first, number=own)
            self._written[i] = len(asking.ends)

    def said(self) -> list[str]:
        """How far each search is, or what it has found."""
        self.note()
        return [f"{asking.sweep.name}: {asking.said}" for asking in self.askings if asking.sweep.search]

    def _all(self) -> list[TrialConfig]:
        return list(chain.from_iterable(each_once([list(asking.trials.values()) for asking in self.askings])))

    def _find(self, retry: bool = False) -> list[Due]:
        rounds = [(a, a.round) for a in self.askings if a.round]
        found = each_once([round_.trials for _, round_ in rounds])
        return [
            Due(unfinished(trials, round_.share, self.store, retry=retry), round_.share, bool(asking.sweep.search))
            for (asking, round_), trials in zip(rounds, found, strict=True)
        ]

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
        if not trial.recorded <= known.recorded:
            probes = tuple(dict.fromkeys([*known.probes, *trial.probes]))
            steps = tuple(sorted({*known.probe_steps, *trial.probe_steps}))
            found[trial.trial_id] = replace(known, probes=probes, probe_steps=steps)
    return [[found.pop(trial.trial_id) for trial in trials if trial.trial_id in found] for trials in wanted]


class Driver:
    """What the queue of packs asks and tells; see `tune.Driver`."""

    def __init__(self, store: Store, watch: Callable[[Tally], None], more: Callable[[], list[Pack]]):
        self.store = store
        self.watch = watch
        self.more = more
        self.note_running = store.note_running
        self._ended_before = set(_ends(store).items())

    def remaining(self, pack: Pack) -> Pack | None:
        """Without those that have failed in this launch; those that had failed before are here to run again."""
        failed = {trial_id for trial_id, attempt in _ends(self.store).items() - self._ended_before}
        missing = plan.work(pack.trials, self.store, retry=True).missing
        trials = tuple(trial for trial in missing if trial.trial_id not in failed)
        return replace(pack, trials=trials, slots=min(pack.slots, len(trials))) if trials else None

    def reached(self, packs: Sequence[Pack]) -> list[int]:
        steps = checkpoints.steps(self.store)
        return [sum(steps.get(trial.trial_id, 0) for trial in pack.trials) for pack in packs]

    def last_words(self, pack: Pack) -> LastWords:
        from memsweep.launch import tune  # in memory already: it is who asks

        return tune.last_words(self.store.results, pack)

    def was_preempted(self, node_id: str) -> bool:
        from memsweep.launch import tune  # as above

        return tune.was_preempted(node_id)

    def quarantine(self, pack: Pack, deaths: int, words: LastWords) -> None:
        ledger = Ledger(self.store, pack.pack_id)
        company = "it was alone" if len(pack.trials) == 1 else f"{len(pack.trials)} trials were left, given up together"
        what = f"its packs ended their workers {deaths} times without a gain; at the last, {company}: {words.told()}"
        for trial in pack.trials:
            lines = [words.text, what, reproduction(trial, self.store.results)]
            ledger.settle(trial, Status.QUARANTINED, {"cause": "\n".join(filter(None, lines))})
        ledger.flush()


def _ends(store: Store) -> dict[str, str]:
    """Trials that an error ended -> the attempt in which it did."""
    columns = store.trials(["trial_id", "attempt_id", "status"]).to_pydict()
    rows = zip(columns["trial_id"], columns["attempt_id"], columns["status"], strict=True)
    return {trial_id: attempt for trial_id, attempt, status in rows if status in RETRIED}


def write_wanted(
    sweep: Sweep, trials: Sequence[TrialConfig], store: Store, *, first: int = 0, number: int | None = None
) -> None:
    """One row a trial; the same trials write the same parts.  first: position of the first.  number: of the round."""
    for begin in range(0, len(trials), WANTED_ROWS):
        part = enumerate(trials[begin : begin + WANTED_ROWS], first + begin)
        store.write("wanted", [_wanted_row(sweep, position, trial, number) for position, trial in part])


def _wanted_row(sweep: Sweep, position: int, trial: TrialConfig, number: int | None) -> dict[str, Any]:
    return {
        "sweep": sweep.name,
        "trial_id": trial.trial_id,
        "setting_id": trial.setting_id,
        "position": position,
        "seed": trial.seed,
        "search": sweep.search and sweep.search.name,
        "search_fields": sweep.search and sweep.search.told,
        "round": number,
        "probes": cell(trial.probes),
        "configuration": json.dumps(trial.flat(), separators=(",", ":")),
    }
