"""Stands in for `memsweep.launch.execution`: a pack sleeps for SCALE_PACK_SECONDS, then writes rows like a training's.

Rows, parts and reports are the product's own (`Ledger`, `Store`); only training is missing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from datetime import UTC, datetime
from typing import Any

from memsweep.config import TrialConfig
from memsweep.launch.ledger import Ledger
from memsweep.launch.packing import Pack, Tally, describe
from memsweep.results.store import Store
from memsweep.schema import Status

NAP_SECONDS = 0.5
"""A pack looks up at least this often, as packs in training do."""


def run_pack(pack: Pack, store: Store, device: str, *, checkpoint_seconds: float) -> Generator[Tally, None, None]:
    """Sleeps, then ends every trial as finished."""
    begun, until = time.monotonic(), time.monotonic() + float(os.environ["SCALE_PACK_SECONDS"])
    ledger = Ledger(store, pack.pack_id)
    for trial in pack.trials:
        ledger.enter(trial)
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, NAP_SECONDS))
        yield Tally(left=pack.steps)
    for trial in pack.trials:
        for step in measured_steps(trial):
            ledger.measure(trial, step, counts(trial, step))
        ledger.settle(trial, Status.FINISHED, {"cause": None, "step_count": trial.budget})
    ledger.flush()
    row = {
        "attempt_id": ledger.attempt_id,
        "pack_id": pack.pack_id,
        "program": describe(pack.trials[0]),
        "members": len(pack.trials),
        "slots": pack.slots,
        "settled_count": ledger.written,
        "device": device,
        "device_name": f"process {os.getpid()}",
        "write_seconds": ledger.write_seconds,
        "wall_seconds": time.monotonic() - begun,
        "finished_at": datetime.now(UTC),
    }
    store.write("packs", [row])
    yield Tally(ledger.written, ledger.failed)


def measured_steps(trial: TrialConfig) -> list[int]:
    steps, step = [], 0
    while step < trial.budget:
        step = trial.next_measurement(step)
        steps.append(step)
    return steps


def counts(trial: TrialConfig, step: int) -> dict[str, Any]:
    """Of a network that learns at a pace of its own, so that parts hold numbers which differ."""
    pace = 1 - 0.9 ** (step + trial.seed % 7)
    found: dict[str, Any] = {}
    for part, count in (("train", trial.data.examples), ("validation", trial.data.validation_examples)):
        found |= {
            f"{part}_count": count,
            f"{part}_correct_count": round(count * pace),
            f"{part}_loss_sum_nats": count * (1 - pace),
        }
    return found
