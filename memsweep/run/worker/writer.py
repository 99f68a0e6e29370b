"""The results of a pack that are not yet written: rows of settled members, and curves of members in training."""

from __future__ import annotations

import math
import time
import uuid
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from memsweep.engine.train.record import Record
from memsweep.results import trial_state
from memsweep.results.storage import clock
from memsweep.results.storage.store import Store
from memsweep.run.worker import provenance
from memsweep.run.worker.live import LiveCurves
from memsweep.spec.config import FIELDS, TrialConfig
from memsweep.spec.schema import Status, cell, own_probes

FLUSH_SECONDS = 5.0
"""Longest delay before settled members are written, so that a kill loses little and parts stay few."""

Row = dict[str, Any]


class PackWriter:
    """The unwritten results of a pack: rows of `trials`, `steps`, `metrics`, probes; written for settled members.

    after: seconds since 1970; the rows are dated later, since readers order attempts by their dates.
    """

    def __init__(self, store: Store, pack_id: str, after: float = 0.0):
        self.store = store
        self.pack_id = pack_id
        self.after = after
        self.attempt_id = f"{pack_id}-{uuid.uuid4().hex[:8]}"
        self.written = self.failed = 0
        self.compiled = False
        self.write_seconds = 0.0
        self._records: dict[str, Record] = {}  # of members still training
        self._rows: dict[str, list[Row]] = defaultdict(list)
        self._schemas: dict[str, Any] = {}  # tables of users' probes -> columns
        self._begun: dict[str, float] = {}
        self._live = LiveCurves(store, self.attempt_id, after)
        self._flushed_at = time.monotonic()

    def enter(self, trial: TrialConfig, record: Record | None = None) -> None:
        """Registers a trial that takes a slot.  record: its results so far, where it resumes from a checkpoint."""
        self._begun[trial.trial_id] = time.monotonic()
        if self._live.is_restart(trial.trial_id):
            self._live.restart()
        self._records[trial.trial_id] = record or Record([], {})
        for path in own_probes.paths(trial.probes):
            self._schemas[own_probes.table_of(path)] = own_probes.schema_of(path)

    def record(self, trial: TrialConfig) -> Record:
        """Returns the results so far of a member in training."""
        return self._records[trial.trial_id]

    def curve(self, trial: TrialConfig) -> list[Row]:
        """Returns the measurements of a member in training."""
        return self._records[trial.trial_id].curve

    def measure(self, trial: TrialConfig, step: int, counts: Row) -> None:
        """Adds a measurement to a member's curve, unless its losses are not finite."""
        if math.isfinite(counts["train_loss_sum_nats"] + counts["validation_loss_sum_nats"]):
            epoch = step * trial.optimizer.batch_size / trial.data.examples
            self.curve(trial).append({"step": step, "epoch": epoch, **counts})

    def settle(self, trial: TrialConfig, status: Status, facts: Row) -> None:
        """Adds the rows of a member that has ended; the next flush writes them."""
        curve, probed = self._records.pop(trial.trial_id, Record([], {}))
        last = {name: value for name, value in curve[-1].items() if name not in ("step", "epoch")} if curve else {}
        key = {"trial_id": trial.trial_id, "attempt_id": self.attempt_id}
        self._rows["steps"] += [{**key, **point} for point in curve]
        for table, rows in probed.items():
            if own_probes.is_own_table(table) and table not in self._schemas:
                continue  # of a probe that was wanted when the checkpoint was written
            self._rows[table] += [{**key, **row} for row in rows]
        self._rows["trials"].append(
            {
                **_identity(trial),
                **last,
                "attempt_id": self.attempt_id,
                "pack_id": self.pack_id,
                "status": status.value,
                "wall_seconds": time.monotonic() - self._begun.pop(trial.trial_id, time.monotonic()),
                "finished_at": clock.later(self.after),
                **provenance.versions(),
                **provenance.code_columns(trial.imports),
                **facts,
            }
        )

    def keep(self, table: str, rows: Sequence[Row]) -> None:
        """Adds rows of a probe's table, or of `metrics`, of members in training."""
        for row in rows:
            self._records[row["trial_id"]].probed.setdefault(table, []).append(row)

    def add(self, table: str, rows: Sequence[Row]) -> None:
        """Adds a probe's rows of members that end."""
        self._rows[table] += [{**row, "attempt_id": self.attempt_id} for row in rows]

    def show(self, *, now: bool = False) -> None:
        """Writes the curves of members in training to `live`, if that is due.  now: in any case."""
        self._live.write(self._records, now=now)

    def close(self) -> None:
        """Writes settled members, and deletes the rows of `live`."""
        self.flush()
        self._live.close()
        self.write_seconds += self._live.write_seconds

    def flush(self, *, due_only: bool = False) -> None:
        """Writes settled members: curves and probes first, `trials` rows last, as the commit.  due_only: if due."""
        if not self._rows["trials"] or (due_only and time.monotonic() - self._flushed_at < FLUSH_SECONDS):
            return
        begun = time.perf_counter()
        for table in sorted(self._rows, key=lambda name: name == "trials"):
            if rows := self._rows[table]:
                self.store.write(table, rows, self._schemas.get(table))
        self.written += sum(not trial_state.is_paused(row["status"]) for row in self._rows["trials"])
        self.failed += sum(row["cause"] is not None for row in self._rows["trials"])
        self._rows.clear()
        self._flushed_at = time.monotonic()
        self.write_seconds += time.perf_counter() - begun


def _identity(trial: TrialConfig) -> Row:
    return {
        "trial_id": trial.trial_id,
        "setting_id": trial.setting_id,
        **{FIELDS[name].column: cell(value) for name, value in trial.flat().items()},
    }
