"""Networks of stored trials, rebuilt with their kept weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from torch import Tensor, nn

from memsweep.check.inspection import trial_of
from memsweep.check.verification import check_code, trusted
from memsweep.data import given, tasks
from memsweep.engine.nn import models
from memsweep.engine.train import evaluation, trainer
from memsweep.results import networks, wanted
from memsweep.results.storage.store import Store, StoreError
from memsweep.run.packing import program_name
from memsweep.spec.config import TrialConfig

Array = np.ndarray[Any, Any]


def model(store: Store, trial_id: str, step: int | None = None, *, own_code: bool = False) -> nn.Module:
    """Returns the network of a trial with its kept weights, in evaluation mode, on the CPU.

    The module has two further attributes: `trial`, its TrialConfig, and `data`, the TrialData that it was trained and
    measured on: inputs, labels, held_out_inputs, held_out_labels (validation first, then test).
    step: of training; default: the last at which weights were kept.
    own_code: whether code that the tables name by import path may run.
    Raises StoreError where no weights are kept, or where the code is no longer what the trial ran.
    """
    trial = _trials(store, [trial_id], own_code)[0]
    row = networks.rows(store, [trial_id], step)[0]
    module = models.build(trial, *tasks.shape(trial)).eval()
    numbers = {name: torch.from_numpy(values)[0] for name, values in networks.of_rows(store, [row]).items()}
    problems = module.load_state_dict(numbers, strict=False)
    if problems.unexpected_keys:
        raise StoreError(f"{trial_id}: the kept weights {problems.unexpected_keys} are not in {trial.model.family}.")
    module.trial, module.data = trial, tasks.load(trial)  # type: ignore[assignment]
    return module


def outputs(
    store: Store, trial_ids: Sequence[str], inputs: Array, step: int | None = None, *, own_code: bool = False
) -> Array:
    """Returns the outputs of many networks for the same inputs, [trials, N, ...]; networks of one program together.

    inputs: [N, D].  step, own_code: as in `model`.
    Raises StoreError as `model`, and where the inputs or the outputs of the trials have several shapes.
    """
    trials = _trials(store, trial_ids, own_code)
    rows = networks.rows(store, trial_ids, step)
    modes = _modes(store)
    groups: dict[tuple[str, str], list[int]] = {}
    for place, trial in enumerate(trials):
        groups.setdefault((program_name(trial), modes.get(rows[place]["attempt_id"], "fused")), []).append(place)
    answers: dict[int, Array] = {}
    for (_, mode), places in groups.items():
        members = [trials[place] for place in places]
        (width, _), examples = tasks.shape(members[0]), np.asarray(inputs)
        if examples.ndim != 2 or examples.shape[1] != width:
            raise StoreError(f"inputs have the shape {list(examples.shape)}; {members[0].trial_id} reads [N, {width}].")
        numbers = networks.of_rows(store, [rows[place] for place in places])
        group = _outputs(members, mode, {name: torch.from_numpy(values) for name, values in numbers.items()}, examples)
        answers |= dict(zip(places, group, strict=True))
    if len({answer.shape for answer in answers.values()}) > 1:
        raise StoreError("the outputs of these trials have several shapes; evaluate trials of one shape at a time.")
    return np.stack([answers[place] for place in range(len(trials))])


@torch.no_grad()
def _outputs(trials: Sequence[TrialConfig], mode: str, numbers: dict[str, Tensor], inputs: Array) -> Array:
    """Outputs of trials of one program, [trials, N, ...], in blocks as at a measurement."""
    program = trainer.compose(trials, mode=mode)
    bank = torch.tensor(inputs).to(program.dtype)
    size, pieces = evaluation.rows_at_a_time(program.form), []
    for begin in range(0, len(bank), size):
        rows = torch.arange(begin, begin + size).clamp(max=len(bank) - 1).expand(len(trials), -1)
        answer = evaluation.outputs_of(program, numbers, evaluation.Block(bank, rows, rows))
        pieces.append(answer[:, : len(bank) - begin])
    return torch.cat(pieces, 1).numpy()


def _modes(store: Store) -> dict[str, str]:
    """Attempt -> the mode that its pack ran in: a network that can't be lifted answers in turn, as it trained."""
    packs = store.current("packs", ["attempt_id", "mode"])
    return {row["attempt_id"]: row["mode"] for row in packs.to_pylist() if row["mode"]}


def _trials(store: Store, trial_ids: Sequence[str], own_code: bool) -> list[TrialConfig]:
    given.read_from(store.results)
    rows = wanted.by_trial(store)
    if unknown := [trial_id for trial_id in trial_ids if trial_id not in rows]:
        raise StoreError(f"{unknown[0]}: no sweep in {store.results} wants a trial with this id.")
    trials = [trusted(trial_of(rows[trial_id]), own_code) for trial_id in trial_ids]
    if any(trial.imports for trial in trials):
        table = store.trials(["trial_id", "code_fingerprint", "code_commit"])
        stored = {row["trial_id"]: row for row in table.filter(pc.is_valid(table["code_fingerprint"])).to_pylist()}
        for trial in trials:
            check_code(trial, stored.get(trial.trial_id, {"code_fingerprint": None}))
    return trials
