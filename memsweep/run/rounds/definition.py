"""Rows of `wanted` that a launch writes for a sweep: a grid at once, a search round by round."""

from __future__ import annotations

import bisect
import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from memsweep.results import wanted
from memsweep.results.storage.store import Store
from memsweep.results.wanted import Records
from memsweep.run.rounds.launch_code import LaunchCode
from memsweep.spec.config import TrialConfig
from memsweep.spec.schema import cell
from memsweep.spec.sweep import Sweep

WANTED_ROWS = 5000
"""Rows of a part of `wanted`: a row takes 4 kB of memory while it is written."""

_NAMES = [
    *("trial_id", "search_fields", "probes", "metrics", "configuration", "code_fingerprints"),
    *("launch_id", "launched_at"),
]


class Definition:
    """The trials that one launch makes one sweep want, stored before any of them is trained.

    If the newest launch wants the same trials, its rows stay valid, and only further rounds of a search are written.
    add: whether the trials of the newest launch stay wanted in any case.
    code: of the launch; default: every code counts.
    """

    def __init__(self, sweep: Sweep, store: Store, *, add: bool = False, code: LaunchCode | None = None):
        self.sweep = sweep
        self.store = store
        self.add = add
        self.code = code
        self._launch_id = ""
        self._launched_at = datetime.min.replace(tzinfo=UTC)
        self._records: dict[str, frozenset[str]] = {}  # of a search: trial_id -> what it records, by position
        self._count = 0  # rows of the launch

    def note(self, trials: Sequence[TrialConfig], ends: Sequence[int] = (), *, is_over: bool = True) -> None:
        """Stores the trials that are wanted now.

        trials: all requested so far.  ends: of a search, the number of trials after each round.
        is_over: whether a search has no further rounds.
        """
        if not self._launch_id:
            self._take_up(trials)
        if not self._launch_id or not self._goes_on(trials, is_over):
            self._begin(trials, ends)
        elif self.sweep.search:
            self._extend(trials, ends)

    def _take_up(self, trials: Sequence[TrialConfig]) -> None:
        """Continues the newest launch if it wants the same trials."""
        needs_all = self.add or self.sweep.search
        rows = wanted.of_sweep(self.sweep.name, self.store, _NAMES if needs_all else _NAMES[-2:])
        if not rows or rows["launch_id"][0].as_py() is None:
            return
        launch_id, self._launched_at = rows["launch_id"][0].as_py(), rows["launched_at"][0].as_py()
        if self.add:
            fields = self.sweep.search and self.sweep.search.parameters
            stored = {
                row["trial_id"]: wanted.records(row) for row in rows.to_pylist() if row["search_fields"] == fields
            }
            is_same = all(_is_in(stored, trial) for trial in trials) and all(
                row["code_fingerprints"] == self._accepted(row["trial_id"]) for row in rows.to_pylist()
            )
        else:
            is_same = launch_id.partition("-")[0] == self._digest(trials)
        if is_same:
            self._launch_id, self._count = launch_id, len(rows)
            if self.sweep.search:
                self._records = {row["trial_id"]: wanted.records(row) for row in rows.to_pylist()}

    def _goes_on(self, trials: Sequence[TrialConfig], is_over: bool) -> bool:
        """Returns whether a search's trials agree with the stored trials of its launch, as far as both go."""
        if self.add or not self.sweep.search:
            return True
        is_alike = all(trial.trial_id == stored_id for trial, stored_id in zip(trials, self._records, strict=False))
        return is_alike and (len(trials) >= len(self._records) or not is_over)

    def _begin(self, trials: Sequence[TrialConfig], ends: Sequence[int]) -> None:
        kept = wanted.none()
        if self.add:
            kept = wanted.of_sweep(self.sweep.name, self.store, without={trial.trial_id for trial in trials})
        self._launch_id = f"{self._digest(trials, kept['trial_id'].to_pylist())}-{uuid.uuid4().hex[:8]}"
        # later than the newest launch, even if this machine's clock is behind
        self._launched_at = max(datetime.now(UTC), self._launched_at + timedelta(microseconds=1))
        self._records, self._count = {}, len(kept) + len(trials)
        codes = [self._accepted(trial_id) for trial_id in kept["trial_id"].to_pylist()]
        kept = kept.set_column(kept.schema.get_field_index("code_fingerprints"), "code_fingerprints", [codes])
        wanted.take_over(kept, self._launch, self.store, WANTED_ROWS)
        self._write(enumerate(trials), ends, len(kept))
        if self.sweep.search:
            self._records |= {row["trial_id"]: wanted.records(row) for row in kept.to_pylist()}

    def _extend(self, trials: Sequence[TrialConfig], ends: Sequence[int]) -> None:
        """Adds the trials that the launch lacks."""
        lacking = [(i, trial) for i, trial in enumerate(trials) if not _is_in(self._records, trial)]
        first, self._count = self._count, self._count + sum(trial.trial_id not in self._records for _, trial in lacking)
        self._write(lacking, ends, first)

    def _write(self, numbered: Iterable[tuple[int, TrialConfig]], ends: Sequence[int], first: int) -> None:
        """Writes one row per trial.

        numbered: trials with their index among all requested.  first: position of the first.
        """
        search = self.sweep.search
        left = iter(numbered)
        while part := list(islice(left, WANTED_ROWS)):
            rows = [
                {
                    "sweep": self.sweep.name,
                    "trial_id": trial.trial_id,
                    "setting_id": trial.setting_id,
                    "position": position,
                    "seed": trial.seed,
                    "search": search and search.name,
                    "search_fields": search and search.parameters,
                    "round": bisect.bisect_right(ends, number) + 1 if search else None,
                    "probes": cell(trial.probes),
                    "metrics": cell(trial.metrics),
                    "configuration": json.dumps(trial.flat(), separators=(",", ":")),
                    "code_fingerprints": self._accepted(trial.trial_id),
                    **self._launch,
                }
                for position, (number, trial) in enumerate(part, first)
            ]
            self.store.write("wanted", rows)
            first += len(part)
            if search:
                self._records |= {trial.trial_id: trial.recorded for _, trial in part}

    @property
    def _launch(self) -> dict[str, Any]:
        """Returns the columns that name this launch."""
        return {"launch_id": self._launch_id, "launched_at": self._launched_at, "launch_rows": self._count}

    def _digest(self, trials: Sequence[TrialConfig], kept: Sequence[str] = ()) -> str:
        """Returns the hash of the wanted trials; for a search, of its fields and grid, which determine its trials."""
        search = self.sweep.search
        digest = hashlib.blake2b(
            json.dumps([search and [search.name, search.parameters], kept]).encode(), digest_size=8
        )
        for trial in self.sweep if search else trials:
            items = (trial.probes, trial.probe_steps, *([trial.metrics] if trial.metrics else []))  # as without metrics
            digest.update(f"{trial.trial_id} {trial.seed} {' '.join(map(str, items))}\n".encode())
            if code := self._now(trial) if search else self._accepted(trial.trial_id):
                digest.update(code.encode())
        return digest.hexdigest()

    def _accepted(self, trial_id: str) -> str | None:
        return self.code.text(self.sweep.name, trial_id) if self.code else None

    def _now(self, trial: TrialConfig) -> str | None:
        return self.code.of(trial.imports).fingerprint if self.code else None


def records_before(sweep: str, store: Store) -> dict[str, Records]:
    """Returns trial_id -> the probes, probe_steps and metrics that a sweep wants of it."""
    rows = wanted.of_sweep(sweep, store, ["trial_id", "probes", "metrics", "configuration"]).to_pylist()
    return {row["trial_id"]: wanted.items(row) for row in rows if row["probes"] or row["metrics"]}


def _is_in(stored: Mapping[str, frozenset[str]], trial: TrialConfig) -> bool:
    return trial.trial_id in stored and trial.recorded <= stored[trial.trial_id]


def write_wanted(sweep: Sweep, trials: Sequence[TrialConfig], store: Store) -> None:
    """Stores that a sweep wants these trials, as a launch does."""
    Definition(sweep, store).note(trials)
