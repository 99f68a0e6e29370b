"""Compares stored numbers with those of the trial alone and of plain torch."""

from __future__ import annotations

import faulthandler
import traceback
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

from memsweep.check.inspection import trial_of
from memsweep.data import given
from memsweep.engine.train import plain, trainer
from memsweep.engine.train.comparison import alone, differences, weights_apart, weights_fingerprint
from memsweep.engine.train.own_metrics import with_metrics
from memsweep.engine.train.program import Program
from memsweep.results import trial_state, wanted
from memsweep.results.storage.store import Store, StoreError
from memsweep.run.packing import program_name
from memsweep.run.policy import execution_plan, protocols
from memsweep.run.recovery.hang_guard import PATIENCE_SECONDS, STDERR
from memsweep.spec.code import code_of
from memsweep.spec.config import TrialConfig
from memsweep.spec.schema import Status

EXACT = "exact"
ROUNDED, DIFFERENT = "rounding", "different"
"""Not bitwise equal: by rounding, as between machines and library versions; or more, as between two trainings."""
ROUNDING = 1e-3
"""Largest relative difference of a measurement that counts as rounding."""
OLDER = "older protocol"
"""A trial whose numbers this version changed on purpose; it is not run again."""
ERROR = "error"
"""A trial that can't be run again here."""
DATA, WEIGHTS = "data_fingerprint", "weights_fingerprint"


class Way(NamedTuple):
    """How a trial's program was executed."""

    mode: str = "fused"
    compiled: bool = False
    device: str = "cpu"

    def program(self, trial: TrialConfig) -> Program:
        """Returns the program of a trial alone."""
        return trainer.compose([trial], self.device, mode=self.mode, compiled=self.compiled)


class Verdict(NamedTuple):
    """The result of running a trial again."""

    trial_id: str
    outcome: str  # EXACT, ROUNDED, DIFFERENT, OLDER or ERROR
    mode: str  # of the stored run and of the new run
    compiled: bool  # of both runs
    weights: str = ""  # EXACT or "differ", against the stored fingerprint; "not stored" in tables of older versions
    measurements: str = ""  # EXACT or the largest relative difference from the stored measurements
    worst: str = ""  # the column that differs most: DATA if the data differs, WEIGHTS if only they differ
    plain_weights: str = ""  # EXACT or the largest difference from the weights of plain torch, uncompiled
    sentence: str = ""  # message on a difference or an error

    @property
    def holds(self) -> bool:
        """Returns whether the stored numbers are confirmed or of an older protocol."""
        return self.outcome in (EXACT, OLDER)


def verify(
    store: Store, trial_ids: Sequence[str] = (), sample: int = 3, *, own_code: bool = False
) -> Iterator[Verdict]:
    """Trains stored trials again, alone, on their kind of device; yields a verdict for each.

    trial_ids: default: a sample, spread over the wanted trials.  own_code: whether code named by import path may run.
    A trial whose run ends with an error has the outcome ERROR, and the other trials still run.
    Raises StoreError for a trial that is not stored as finished, and where no trial can run, because each needs a GPU
    that is missing, or names code without `own_code`.
    """
    torch.set_num_threads(1)  # as in a worker
    given.read_from(store.results)
    rows = wanted.by_trial(store)
    stored = {row["trial_id"]: row for row in store.trials().to_pylist() if row["status"] == Status.FINISHED}
    finished = [trial_id for trial_id in rows if trial_id in stored]
    if unknown := [trial_id for trial_id in trial_ids if trial_id not in finished]:
        raise StoreError(f"{', '.join(unknown)}: not among the {len(finished)} finished trials of {store.results}.")
    unwanted = wanted.unwanted(store)
    now = [trial_id for trial_id in finished if trial_id not in unwanted]
    count = min(sample, len(now))
    chosen = list(trial_ids) or [now[i * len(now) // count] for i in range(count)]
    ways_of = ways(store)
    curves: dict[str, dict[int, dict[str, Any]]] = {trial_id: {} for trial_id in chosen}
    attempts = {stored[trial_id]["attempt_id"] for trial_id in chosen}
    for row in store.rows_of("steps", attempts).to_pylist():
        if row["trial_id"] in curves:
            curves[row["trial_id"]][row["step"]] = row
    metrics: dict[str, list[dict[str, Any]]] = {}
    for row in store.rows_of("metrics", attempts).to_pylist() if store.parts("metrics") else ():
        metrics.setdefault(row["trial_id"], []).append(row)
    refused: list[StoreError] = []
    for trial_id in chosen:
        row = stored[trial_id]
        way = ways_of.get(row["attempt_id"], Way())
        try:
            if way.device == "cuda" and not torch.cuda.is_available():
                raise StoreError(
                    f"{trial_id}: trained on a GPU, but torch can use no GPU here. Verify it on a machine with a GPU."
                )
            curve = with_metrics(curves[trial_id], metrics.get(trial_id, ()))
            stored_metrics = tuple(filter(None, (row["metrics"] or "").split(",")))
            trial = trusted(trial_of(rows[trial_id]).with_fields({"metrics": stored_metrics}), own_code)
            check_code(trial, row)
            yield _verdict(trial, row, curve, way)
        except Exception as error:
            refused += [error] if isinstance(error, StoreError) else []
            if len(refused) == len(chosen):
                raise
            text = str(error) if isinstance(error, StoreError) else "".join(traceback.format_exception(error))
            yield Verdict(trial_id, ERROR, way.mode, way.compiled, sentence=text.strip())


def ways(store: Store) -> dict[str, Way]:
    """Returns attempt -> how its pack was executed."""
    packs = store.current("packs", ["attempt_id", "mode", "compiled", "device"]).to_pylist()
    return {row["attempt_id"]: Way(row["mode"] or "fused", bool(row["compiled"]), row["device"]) for row in packs}


def failed_among(store: Store, trial_ids: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns these trials in two lists: those that ended with an error, and the others."""
    columns = store.trials(["trial_id", "status"]).to_pydict()
    statuses = dict(zip(columns["trial_id"], columns["status"], strict=True))
    failed = [trial_id for trial_id in trial_ids if trial_state.is_failed(statuses.get(trial_id, ""))]
    return failed, [trial_id for trial_id in trial_ids if trial_id not in failed]


def error_of(store: Store, trial_id: str, *, own_code: bool = False) -> str | None:
    """Trains a failed trial alone, as its worker did; returns its error with traceback, or None.

    A crash or hang happens again here: the traceback is printed on stderr, for a hang after PATIENCE_SECONDS.
    Raises StoreError where the table `wanted` has no row of the trial.
    """
    torch.set_num_threads(1)
    given.read_from(store.results)
    rows = wanted.by_trial(store)
    if trial_id not in rows:
        raise StoreError(f"{trial_id}: the table wanted of {store.results} has no row with its fields.")
    trial = trusted(trial_of(rows[trial_id]), own_code)
    choice = execution_plan.stored(store).get(program_name(trial), execution_plan.ExecutionPlan())
    faulthandler.enable(STDERR)
    faulthandler.dump_traceback_later(PATIENCE_SECONDS, exit=True, file=STDERR)
    try:
        alone(trial, Way(choice.mode, choice.compiled).program(trial))
    except Exception as error:
        return "".join(traceback.format_exception(error))
    finally:
        faulthandler.cancel_dump_traceback_later()
    return None


def _verdict(trial: TrialConfig, row: dict[str, Any], curve: dict[int, dict[str, Any]], way: Way) -> Verdict:
    if protocols.is_older(trial):
        return Verdict(trial.trial_id, OLDER, way.mode, way.compiled)
    again = alone(trial, way.program(trial))
    deviations = differences(again, curve, row)
    apart, worst = max(((apart, name) for name, apart in deviations.items()), default=(0.0, ""))
    data, fingerprint = again.state.members[0].data.fingerprint, row[WEIGHTS]
    same_data, same = row[DATA] in (None, data), fingerprint in (None, weights_fingerprint(again.state, 0))
    outcome = DIFFERENT if apart > ROUNDING or not same_data else ROUNDED if deviations or not same else EXACT
    worst = worst if same_data else DATA
    reference = alone(trial, way._replace(compiled=False).program(trial)) if way.compiled else again
    model, _ = plain.train(trial, int(again.state.step[0]), way.device)
    distance = weights_apart(reference, {**dict(model.named_parameters()), **dict(model.named_buffers())})
    return Verdict(
        trial.trial_id,
        outcome,
        way.mode,
        way.compiled,
        "not stored" if fingerprint is None else EXACT if same else "differ",
        _text(apart) if deviations else EXACT,
        worst or WEIGHTS * (not same),
        _text(distance) if distance else EXACT,
        "" if same_data else f"{DATA} is {data}, but {row[DATA]} is stored: the trial was trained on other data",
    )


def check_code(trial: TrialConfig, row: dict[str, Any]) -> None:
    """Raises StoreError where the user's code is not the code that the trial ran."""
    if row["code_fingerprint"] not in (None, code_of(trial.imports).fingerprint):
        raise StoreError(
            f"{trial.trial_id}: ran other code than {', '.join(trial.imports)} is now. Use the code that it ran, "
            f"of commit {row['code_commit'] or 'unknown'}; the table launches has that launch."
        )


def _text(difference: float) -> str:
    return f"{difference:.1e}"


def trusted(trial: TrialConfig, own_code: bool) -> TrialConfig:
    """Returns the trial; raises StoreError if it names code without `own_code`: tables can name any importable code."""
    if trial.imports and not own_code:
        raise StoreError(
            f"{trial.trial_id}: the tables name code that this would run, {', '.join(trial.imports)}. If you trust the "
            "author of the tables, use --own-code (own_code=True)."
        )
    return trial
