"""Stands in for `memsweep.run.worker.execution`: a pack sleeps SCALE_PACK_SECONDS, then writes rows like a training's.

Rows, parts and reports are the product's own (`PackWriter`, `Store`); only training is missing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from datetime import UTC, datetime
from typing import Any

from memsweep.results.storage.store import Store
from memsweep.run.packing import Pack, Tally, describe
from memsweep.run.worker.writer import PackWriter
from memsweep.spec.config import TrialConfig
from memsweep.spec.schema import Status

NAP_SECONDS = 0.5
"""A pack looks up at least this often, as packs in training do."""


def run_pack(pack: Pack, store: Store, device: str, *, checkpoint_seconds: float) -> Generator[Tally, None, None]:
    """Sleeps, then ends every trial as finished."""
    begun, until = time.monotonic(), time.monotonic() + float(os.environ["SCALE_PACK_SECONDS"])
    writer = PackWriter(store, pack.pack_id)
    for trial in pack.trials:
        writer.enter(trial)
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, NAP_SECONDS))
        yield Tally(left=pack.steps)
    for trial in pack.trials:
        for step in measured_steps(trial):
            writer.measure(trial, step, counts(trial, step))
        writer.settle(trial, Status.FINISHED, {"cause": None, "step_count": trial.budget})
    writer.flush()
    row = {
        "attempt_id": writer.attempt_id,
        "pack_id": pack.pack_id,
        "program": describe(pack.trials[0]),
        "members": len(pack.trials),
        "slots": pack.slots,
        "settled_count": writer.written,
        "device": device,
        "device_name": f"process {os.getpid()}",
        "write_seconds": writer.write_seconds,
        "wall_seconds": time.monotonic() - begun,
        "finished_at": datetime.now(UTC),
    }
    store.write("packs", [row])
    yield Tally(writer.written, writer.failed)


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
