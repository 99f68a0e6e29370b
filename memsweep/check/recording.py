"""Records more of stored trials: by training one of them again, or by probing kept networks without training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from memsweep.check.inspection import trial_of
from memsweep.check.verification import check_code, trusted, ways
from memsweep.data import given
from memsweep.engine.train import trainer
from memsweep.engine.train.state import State
from memsweep.results import networks, wanted
from memsweep.results.storage.store import Store, StoreError
from memsweep.run.packing import Pack, program_name
from memsweep.run.worker import probes
from memsweep.run.worker.execution import run_pack
from memsweep.spec.config import TrialConfig
from memsweep.spec.schema import Status

OF_NETWORKS = (
    "critical_samples",
    "exposure",
    "jacobians",
    "memorization",
    "permutations",
    "positions",
    "readouts",
    "representations",
)
"""Probes that need a trained network and its data, and nothing of its training."""
MEMBERS_AT_A_TIME = 64
"""Networks of one program that are probed together."""


@dataclass(frozen=True)
class Repeated:
    """A trial that was trained again, with more recorded."""

    trial_id: str
    is_exact: bool  # whether the weights at its end equal the stored ones to the bit
    status: str
    cause: str | None

    def __str__(self) -> str:
        if self.status != Status.FINISHED:
            return f"{self.trial_id}: {self.status}; {self.cause or 'its rows stay as they were'}"
        how = "equal to the bit" if self.is_exact else "not equal to the bit, as on another processor"
        return f"{self.trial_id}: trained again, its weights are {how}"


def repeat(
    store: Store, trial_id: str, names: Sequence[str], steps: Sequence[int] = (), *, own_code: bool = False
) -> Repeated:
    """Trains a stored trial again, as it ran, with more probes; returns how its weights compare.

    names: of probes, `weights` among them to keep the network.  steps: at which repeatable probes run, too.
    own_code: whether code that the tables name may run.
    Readers then see the new attempt, which recorded more.  Raises StoreError, ConfigError, LockedError.
    """
    torch.set_num_threads(1)  # as in a worker
    trial, row = _stored(store, [trial_id], own_code)[0]
    more = _with_probes(trial, names, steps)
    way = ways(store).get(row["attempt_id"])
    pack = Pack((more,), 1, *((way.mode, way.compiled) if way else ()))
    before = set(store.read("trials", ["attempt_id"])["attempt_id"].to_pylist())
    with store.lock("launch"):
        for _ in run_pack(pack, store, way.device if way else "cpu"):
            pass
    attempts = store.read("trials", ["trial_id", "attempt_id", "pack_id", "status", "cause", "weights_fingerprint"])
    rows = [new for new in attempts.to_pylist() if (new["trial_id"], new["pack_id"]) == (trial_id, pack.pack_id)]
    new = next(new for new in rows if new["attempt_id"] not in before)  # not the newest date: clocks may differ
    is_exact = new["weights_fingerprint"] == row["weights_fingerprint"]
    return Repeated(trial_id, is_exact, new["status"], new["cause"])


def probe(store: Store, sweep: str, names: Sequence[str], *, own_code: bool = False) -> tuple[int, int]:
    """Probes the kept networks of a sweep's finished trials at their end, without training.

    names: probes among OF_NETWORKS.
    Returns the number of trials that were probed, and of those without a kept network at their end, which are left out.
    Raises StoreError, ConfigError, LockedError.
    """
    if wrong := [name for name in names if name not in OF_NETWORKS]:
        raise StoreError(
            f"probe {wrong[0]!r}: must be one of {', '.join(OF_NETWORKS)}. Other probes need the training: "
            "memsweep run TRIAL --probe, or a launch of the sweep with this probe."
        )
    torch.set_num_threads(1)
    ids = wanted.of_sweep(sweep, store, ["trial_id"])["trial_id"].to_pylist()
    if not ids:
        raise StoreError(f"{sweep}: no sweep of this name in {store.results}; memsweep status lists them.")
    statuses = store.trial_rows(ids)
    finished = [i for i in ids if i in statuses and statuses[i]["status"] == Status.FINISHED]
    left = [pair for pair in _stored(store, finished, own_code) if not {*names} <= pair[0].recorded]
    kept = {row["trial_id"]: row for row in store.current("weights").to_pylist() if _is_last(row, statuses)}
    groups: dict[tuple[str, str], list[tuple[TrialConfig, dict[str, Any]]]] = {}
    modes = ways(store)
    with store.lock("launch"):
        for trial, row in left:
            if trial.trial_id in kept:
                way = modes.get(row["attempt_id"])
                groups.setdefault((program_name(trial), way.mode if way else "fused"), []).append((trial, row))
        for (_, mode), group in groups.items():
            for begin in range(0, len(group), MEMBERS_AT_A_TIME):
                _probe(store, group[begin : begin + MEMBERS_AT_A_TIME], mode, kept, names)
    count = sum(map(len, groups.values()))
    return count, len(left) - count


def _probe(
    store: Store,
    group: Sequence[tuple[TrialConfig, dict[str, Any]]],
    mode: str,
    kept: dict[str, dict[str, Any]],
    names: Sequence[str],
) -> None:
    """Stores the probes of trials of one program, then their rows of `trials`, which name these probes."""
    trials = [_with_probes(trial, [name for name in names if name not in trial.probes]) for trial, _ in group]
    program = trainer.compose(trials, mode=mode)
    state = _trained(program, trials, networks.of_rows(store, [kept[trial.trial_id] for trial in trials]))
    state = state._replace(step=np.array([row["step_count"] for _, row in group], dtype=np.int64))
    attempts = {trial.trial_id: row["attempt_id"] for trial, row in group}
    before = {trial.trial_id: set(trial.probes) for trial, _ in group}
    tables = probes.rows(program, state, list(range(len(trials))))
    for table in names:
        new = [row for row in tables.get(table, ()) if table not in before[row["trial_id"]]]
        if new:
            store.write(table, [{**row, "attempt_id": attempts[row["trial_id"]]} for row in new])
    rows = [{name: value for name, value in row.items() if value is not None} for _, row in group]
    store.write("trials", [{**row, "probes": ",".join(t.probes)} for row, t in zip(rows, trials, strict=True)])


def _trained(program: trainer.Program, trials: Sequence[TrialConfig], numbers: dict[str, networks.Array]) -> State:
    """Returns the state of trials whose networks have these weights and buffers: name -> [M, *shape]."""
    state = trainer.init(program, trials)
    values = {name: torch.from_numpy(array).to(program.device) for name, array in numbers.items()}
    return state._replace(
        parameters={name: values[name].clone() for name in state.parameters},
        averages={name: values[name].clone() for name in state.averages},
        buffers={name: values[name].clone() for name in state.buffers},
    )


def _stored(store: Store, trial_ids: Sequence[str], own_code: bool) -> list[tuple[TrialConfig, dict[str, Any]]]:
    """Returns finished trials, as they recorded, and their rows of `trials`."""
    given.read_from(store.results)
    rows, stored = wanted.by_trial(store), store.trial_rows(trial_ids)
    pairs = []
    for trial_id in trial_ids:
        row = stored.get(trial_id)
        if trial_id not in rows or row is None or row["status"] != Status.FINISHED:
            raise StoreError(f"{trial_id}: not a finished trial of {store.results}; the table trials lists them.")
        items = {name: tuple(filter(None, (row[name] or "").split(","))) for name in ("probes", "metrics")}
        steps = tuple(map(int, filter(None, (row["probe_steps"] or "").split(","))))
        trial = trusted(trial_of(rows[trial_id]).with_fields({**items, "probe_steps": steps}), own_code)
        check_code(trial, row)
        pairs.append((trial, row))
    return pairs


def _with_probes(trial: TrialConfig, names: Sequence[str], steps: Sequence[int] = ()) -> TrialConfig:
    """Returns the trial with more probes.  Raises ConfigError, StoreError where it recorded all of this."""
    probes_ = tuple(dict.fromkeys([*trial.probes, *names]))
    more = trial.with_fields({"probes": probes_, "probe_steps": tuple(sorted({*trial.probe_steps, *steps}))})
    if more.recorded == trial.recorded:
        raise StoreError(f"{trial.trial_id}: recorded {', '.join(sorted(more.recorded)) or 'this'} already.")
    return more


def _is_last(row: dict[str, Any], stored: dict[str, dict[str, Any]]) -> bool:
    """Returns whether a row of `weights` is of the end of its trial."""
    return row["trial_id"] in stored and stored[row["trial_id"]]["step_count"] == row["step"]
