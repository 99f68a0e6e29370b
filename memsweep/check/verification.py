"""Are the stored numbers those that a trial alone would give, and those of plain torch?"""

from __future__ import annotations

import faulthandler
import traceback
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

from memsweep.check.inspection import trial_of
from memsweep.engine.train import plain, trainer
from memsweep.engine.train.comparison import alone, differences, weights_apart, weights_fingerprint
from memsweep.engine.train.program import Program
from memsweep.results import wanted
from memsweep.results.storage.store import Store, StoreError
from memsweep.run.packing import program_name
from memsweep.run.policy import execution_plan, protocols
from memsweep.run.recovery.hang_guard import PATIENCE_SECONDS, STDERR
from memsweep.spec.config import TrialConfig
from memsweep.spec.schema import RETRIED, Status

EXACT = "exact"
ROUNDED, DIFFERENT = "rounding", "different"
"""Not equal to the bit: as machines and versions of libraries differ; or as two trainings do."""
ROUNDING = 1e-3
"""The largest relative difference of a measurement that rounding alone is taken to make."""
OLDER = "older protocol"
"""Of a trial whose numbers this version gives otherwise on purpose; it is not run again."""
ERROR = "error"
"""Of a trial that can't be run again here."""
DATA, WEIGHTS = "data_fingerprint", "weights_fingerprint"


class Way(NamedTuple):
    """How a trial's program was executed."""

    mode: str = "fused"
    compiled: bool = False
    device: str = "cpu"

    def program(self, trial: TrialConfig) -> Program:
        return trainer.compose([trial], self.device, mode=self.mode, compiled=self.compiled)


class Verdict(NamedTuple):
    """What running a trial again showed."""

    trial_id: str
    outcome: str  # EXACT, ROUNDED, DIFFERENT, OLDER or ERROR
    mode: str  # as it was when it was stored, and as it ran again
    compiled: bool  # likewise
    weights: str = ""  # EXACT or "differ", against the stored fingerprint; "not stored" in tables of older versions
    measurements: str = ""  # EXACT or the largest relative difference from what is stored
    worst: str = ""  # the column that differs most: DATA where the data does, WEIGHTS where they alone do
    plain_weights: str = ""  # EXACT or the largest difference from the weights that plain torch reaches, uncompiled
    sentence: str = ""  # what differs or went wrong, for people

    @property
    def holds(self) -> bool:
        return self.outcome in (EXACT, OLDER)


def verify(
    store: Store, trial_ids: Sequence[str] = (), sample: int = 3, *, own_code: bool = False
) -> Iterator[Verdict]:
    """Trains stored trials again, alone, on a device of their own kind: these, or a sample spread over the wanted ones.

    own_code: what they name by import path is imported and run.
    A trial whose run ends in an error has the outcome ERROR, and the others are run all the same.
    Raises StoreError for a trial that is not stored as finished, and where all of them were trained on a GPU and there
    is none, or name code without `own_code`.
    """
    torch.set_num_threads(1)  # as a worker has
    rows = wanted.by_trial(store)
    stored = {row["trial_id"]: row for row in store.trials().to_pylist() if row["status"] == Status.FINISHED}
    known = [trial_id for trial_id in rows if trial_id in stored]
    if unknown := [trial_id for trial_id in trial_ids if trial_id not in known]:
        raise StoreError(f"{', '.join(unknown)}: not among the {len(known)} finished trials of {store.results}.")
    unwanted = wanted.unwanted(store)
    now = [trial_id for trial_id in known if trial_id not in unwanted]
    count = min(sample, len(now))
    chosen = list(trial_ids) or [now[i * len(now) // count] for i in range(count)]
    packs = store.current("packs", ["attempt_id", "mode", "compiled", "device"]).to_pylist()
    ways = {row["attempt_id"]: Way(row["mode"] or "fused", bool(row["compiled"]), row["device"]) for row in packs}
    curves: dict[str, dict[int, dict[str, Any]]] = {trial_id: {} for trial_id in chosen}
    attempts = {stored[trial_id]["attempt_id"] for trial_id in chosen}
    for row in store.rows_of("steps", attempts).to_pylist():
        if row["trial_id"] in curves:
            curves[row["trial_id"]][row["step"]] = row
    refused: list[StoreError] = []
    for trial_id in chosen:
        row = stored[trial_id]
        way = ways.get(row["attempt_id"], Way())
        try:
            if way.device == "cuda" and not torch.cuda.is_available():
                raise StoreError(
                    f"{trial_id}: trained on a GPU, and torch can use none here. Verify it on a machine that has one."
                )
            yield _verdict(_trusted(trial_of(rows[trial_id]), own_code), row, curves[trial_id], way)
        except Exception as error:
            refused += [error] if isinstance(error, StoreError) else []
            if len(refused) == len(chosen):
                raise
            text = str(error) if isinstance(error, StoreError) else "".join(traceback.format_exception(error))
            yield Verdict(trial_id, ERROR, way.mode, way.compiled, sentence=text.strip())


def failed_among(store: Store, trial_ids: Sequence[str]) -> tuple[list[str], list[str]]:
    """These trials, those apart that an error ended."""
    columns = store.trials(["trial_id", "status"]).to_pydict()
    statuses = dict(zip(columns["trial_id"], columns["status"], strict=True))
    failed = [trial_id for trial_id in trial_ids if statuses.get(trial_id) in RETRIED]
    return failed, [trial_id for trial_id in trial_ids if trial_id not in failed]


def error_of(store: Store, trial_id: str, *, own_code: bool = False) -> str | None:
    """Trains a failed trial alone, as its worker did; the error that ends it, with its traceback, or None.

    What crashes or hangs does so here too: a crash says where on stderr, and so does what hangs, after a while.
    """
    torch.set_num_threads(1)
    rows = wanted.by_trial(store)
    if trial_id not in rows:
        raise StoreError(f"{trial_id}: the table wanted of {store.results} has no row of it, which holds its fields.")
    trial = _trusted(trial_of(rows[trial_id]), own_code)
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
    found = differences(again, curve, row)
    apart, worst = max(((apart, name) for name, apart in found.items()), default=(0.0, ""))
    data, fingerprint = again.state.members[0].data.fingerprint, row[WEIGHTS]
    same_data, same = row[DATA] in (None, data), fingerprint in (None, weights_fingerprint(again.state, 0))
    outcome = DIFFERENT if apart > ROUNDING or not same_data else ROUNDED if found or not same else EXACT
    worst = worst if same_data else DATA
    reference = alone(trial, way._replace(compiled=False).program(trial)) if way.compiled else again
    model, _ = plain.train(trial, int(again.state.step[0]), way.device)
    far = weights_apart(reference, {**dict(model.named_parameters()), **dict(model.named_buffers())})
    return Verdict(
        trial.trial_id,
        outcome,
        way.mode,
        way.compiled,
        "not stored" if fingerprint is None else EXACT if same else "differ",
        _told(apart) if found else EXACT,
        worst or WEIGHTS * (not same),
        _told(far) if far else EXACT,
        "" if same_data else f"{DATA} is {data}, stored is {row[DATA]}: the data is not what it was trained on",
    )


def _told(difference: float) -> str:
    return f"{difference:.1e}"


def _trusted(trial: TrialConfig, own_code: bool) -> TrialConfig:
    """Whoever wrote the tables could name any code that can be imported here."""
    if trial.imports and not own_code:
        raise StoreError(
            f"{trial.trial_id}: the tables name code that would be run, {', '.join(trial.imports)}: if you trust who "
            "wrote them, memsweep verify --own-code."
        )
    return trial
