"""The trials that a sweep has requested so far: a whole grid, or a search replayed on the stored results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from types import MappingProxyType
from typing import Any

from memsweep.results import own_types, trial_state
from memsweep.results.storage.notes import STUDIES
from memsweep.results.storage.parts import write_whole
from memsweep.results.storage.store import Store
from memsweep.results.wanted import Records
from memsweep.run import plan
from memsweep.run.policy import protocols
from memsweep.run.rounds.launch_code import LaunchCode
from memsweep.run.rounds.spelling import as_stored
from memsweep.spec.config import TrialConfig
from memsweep.spec.schema import SCHEMAS, Status
from memsweep.spec.search import BestSearch
from memsweep.spec.search.rounds import Ends, Round, RoundGenerator, once
from memsweep.spec.sweep import Sweep


class Replay:
    """The rounds of one sweep, replayed on the stored results up to the first incomplete round.

    store: None where nothing is stored yet.  limit: most trials requested.
    retry: whether failed trials run again, so that their round is incomplete.
    records: trial_id -> what is recorded besides what the sweep wants.
    code: of the launch; default: code that differs from that of stored trials does not count as theirs.
    """

    def __init__(
        self,
        sweep: Sweep,
        store: Store | None,
        *,
        limit: int | None = None,
        retry: bool = False,
        records: Mapping[str, Records] = MappingProxyType({}),
        code: LaunchCode | None = None,
    ):
        own_types.check([sweep], store)
        self.sweep, self.remarks = as_stored(sweep, store) if store is not None else (sweep, [])
        self.records = records
        self.code = code or LaunchCode(store)
        self.store = store and store.accepting(self.code.accepted)
        self.limit = limit
        self.trials: tuple[TrialConfig, ...] = ()  # each once, in the order of request
        self.ends: list[int] = []  # number of trials after each round
        self.round: Round | None = None  # None: the search is over
        self.given_up: list[TrialConfig] = []  # in any round so far
        self.progress = ""  # progress or result of the search
        self._requested: set[str] = set()  # ids of trials
        self._rounds = _begin(self.sweep, self._keep, limit)
        self._is_cut = False
        self._step(None)
        self.advance(retry=retry)

    def advance(self, *, retry: bool = False) -> None:
        """Replays further rounds, as far as their results are stored."""
        while self.round is not None and not self._is_cut and not self.missing(retry=retry):
            self._step(self._ends(self.round) if self.sweep.search else {})

    def missing(self, *, retry: bool = False) -> list[TrialConfig]:
        """Returns the trials of the current round that have to run."""
        return unfinished(self.round.trials, self.round.share, self.store, retry=retry) if self.round else []

    def _step(self, ends: Ends | None) -> None:
        """Advances to the next round.  ends: of the current round; None: before the first round."""
        try:
            batch = next(self._rounds) if ends is None else self._rounds.send(ends)
        except StopIteration as end:
            self.round, self.progress = None, str(end.value or "")
            return
        if self.records:
            batch = replace(batch, trials=tuple(self._recording(trial) for trial in batch.trials))
        new = self._new(batch.trials)
        trials = batch.trials
        if len(new) < len(trials):
            trials = tuple({t.trial_id: t for t in trials if t.trial_id in self._requested}.values())
        self._is_cut = any(trial.trial_id not in self._requested for trial in batch.trials)
        self.trials = (*self.trials, *new) if self.trials else trials
        if not self.sweep.search:  # one round: a million ids are of no more use
            self._requested.clear()
        self.code.request(self.sweep.name, trials)
        self.ends.append(len(self.trials))
        self.given_up += batch.given_up
        self.round = replace(batch, trials=trials)
        self.progress = batch.progress and f"round {self.number}: {batch.progress}"

    def _new(self, trials: Sequence[TrialConfig]) -> list[TrialConfig]:
        """Returns the trials that are requested for the first time, up to the limit, and notes them."""
        new = []
        for trial in trials:
            is_full = self.limit is not None and len(self._requested) >= self.limit
            if trial.trial_id not in self._requested and not is_full:
                self._requested.add(trial.trial_id)
                new.append(trial)
        return new

    @property
    def number(self) -> int:
        """Returns the number of the current round, from 1."""
        return len(self.ends)

    def _ends(self, current: Round) -> Ends:
        assert self.store is not None  # else the round would not be complete
        rows = self.store.trial_rows({trial.trial_id for trial in current.trials})
        if current.share < 1:
            points = _points(self.store, current.trials, current.share)
            for trial in current.trials:
                rows[trial.trial_id] = _as_paused(
                    rows[trial.trial_id], points.get(trial.trial_id), trial, current.share
                )
        return rows

    def _recording(self, trial: TrialConfig) -> TrialConfig:
        return recording(trial, *self.records.get(trial.trial_id, ((), (), ())))

    def _keep(self, content: bytes) -> None:
        if self.store is not None:
            write_whole(self.store.results / STUDIES / f"{self.sweep.name}.log", content)


def recording(trial: TrialConfig, probes: Sequence[str], steps: Sequence[int], metrics: Sequence[str]) -> TrialConfig:
    """Returns the trial with these probes, probe_steps and metrics added."""
    if not (probes or steps or metrics):
        return trial
    if {*probes} <= {*trial.probes} and {*steps} <= {*trial.probe_steps} and {*metrics} <= {*trial.metrics}:
        return trial
    return replace(
        trial,
        probes=tuple(dict.fromkeys([*trial.probes, *probes])),
        probe_steps=tuple(sorted({*trial.probe_steps, *steps})),
        metrics=tuple(dict.fromkeys([*trial.metrics, *metrics])),
    )


def unfinished(
    trials: Sequence[TrialConfig], share: float, store: Store | None, *, retry: bool = False
) -> list[TrialConfig]:
    """Returns the trials that have not yet spent this share of their budget."""
    missing = list(plan.work(trials, store, retry=retry).missing)
    if share == 1 or store is None or not missing:
        return missing
    points = _points(store, missing, share)
    return [t for t in missing if t.trial_id not in points or points[t.trial_id]["step"] < t.pause(share)]


def give_up(trials: Sequence[TrialConfig], store: Store) -> None:
    """Stores paused trials as pruned, with their last numbers; other trials are unchanged."""
    if not trials:
        return
    stored = store.trial_rows({trial.trial_id for trial in trials}).values()
    rows = [row for row in stored if trial_state.is_paused(row["status"])]
    if rows:
        store.write("trials", [{**row, "status": Status.PRUNED.value} for row in rows])


def _begin(sweep: Sweep, keep: Callable[[bytes], None], limit: int | None) -> RoundGenerator:
    if isinstance(sweep.search, BestSearch):
        from memsweep.run.rounds import search  # Optuna takes a second to import

        return search.rounds(sweep.search, sweep, keep)
    sweep = sweep.mapped(protocols.current)
    if sweep.search is None:
        return once(tuple(islice(sweep, limit)))  # the grid is generated only up to the limit
    rounds: RoundGenerator = sweep.search.rounds(sweep)  # type: ignore[attr-defined]
    return rounds


def _points(store: Store, trials: Sequence[TrialConfig], share: float) -> dict[str, dict[str, Any]]:
    """Returns the last measurement of each trial up to its pause; trials without a measurement are left out."""
    pauses = {trial.trial_id: trial.pause(share) for trial in trials}
    attempts = {trial_id: row["attempt_id"] for trial_id, row in store.trial_rows(set(pauses)).items()}
    points: dict[str, dict[str, Any]] = {}
    for row in store.rows_of("steps", set(attempts.values())).to_pylist():
        trial_id = row["trial_id"]
        is_before_pause = attempts.get(trial_id) == row["attempt_id"] and row["step"] <= pauses[trial_id]
        if is_before_pause and (trial_id not in points or row["step"] > points[trial_id]["step"]):
            points[trial_id] = row
    return points


def _as_paused(row: dict[str, Any], point: dict[str, Any] | None, trial: TrialConfig, share: float) -> dict[str, Any]:
    """Returns the row of a trial as it was at its pause, independent of later steps."""
    pause = trial.pause(share)
    later = row["step_count"] is None or row["step_count"] > pause
    if not later:
        return row
    if point is None or point["step"] < pause:  # the trial ended before its pause
        return row
    counts = {name: value for name, value in point.items() if name in _COUNTS}
    fitted = row["fitted_step"] if row["fitted_step"] and row["fitted_step"] <= pause else None
    return {**row, **counts, "status": Status.INTERRUPTED.value, "fitted_step": fitted, "step_count": pause}


_COUNTS = frozenset(SCHEMAS["steps"].names) & frozenset(SCHEMAS["trials"].names) - {"trial_id", "attempt_id"}
