"""Answers to all examples of a pool, whether trained on or held out: memorization scores come from many subsets.

The score of an example, after Feldman and Zhang (2020), is the share of networks that answer as its label was given,
among the subsets with the example, less that among the subsets without it. A trial stores its own answers; the analysis
compares trials.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from memsweep.data.tasks import TrialData
from memsweep.engine.train.evaluation import Block, numbers_of, outputs_of, rows_at_a_time
from memsweep.engine.train.program import Program
from memsweep.engine.train.state import State


class Answered(NamedTuple):
    """One member's answers to the examples of its pool, of its validation or of its test set."""

    part: str  # pool, validation or test
    source: np.ndarray  # [E] int64, row of the task's data; [0]: of held-out examples it is not stored
    is_trained: np.ndarray  # [E] bool, in the member's subset; False outside of the pool
    is_right: np.ndarray  # [E] bool, the given label is predicted
    corrupted: np.ndarray  # [E] bool
    labels: np.ndarray  # [E] int64, as given
    true_labels: np.ndarray  # [E] int64


def measure(program: Program, state: State) -> list[list[Answered]]:
    """Returns the answers of each member of the pack, by part; every member trains on a subset of a pool."""
    banks: dict[int, Tensor] = {}
    begins: dict[int, int] = {}
    for pool in (_pool(member.data) for member in state.members):
        if id(pool.inputs) not in banks:
            begins[id(pool.inputs)] = sum(map(len, banks.values()))
            banks[id(pool.inputs)] = torch.from_numpy(pool.inputs)
    bank = torch.cat([*banks.values()]).to(program.device, program.dtype)
    pools = [_pool(member.data) for member in state.members]
    offset, count = (
        torch.tensor(numbers, device=program.device)
        for numbers in ([begins[id(pool.inputs)] for pool in pools], [len(pool.labels) for pool in pools])
    )
    e = state.examples
    predicted = _predicted(program, state, bank, offset, count)
    held_out = _predicted(program, state, e.bank, e.held_out_offset, e.held_out_count)
    return [
        [_of_pool(member.data, predicted[m]), *_of_held_out(member.data, held_out[m])]
        for m, member in enumerate(state.members)
    ]


def _pool(data: TrialData) -> TrialData:
    assert data.pool is not None  # the probe requires data.subset_fraction below 1
    return data.pool


@torch.no_grad()
def _predicted(program: Program, state: State, bank: Tensor, offset: Tensor, count: Tensor) -> np.ndarray:
    """Returns the predicted labels [M, E] of rows offset to offset + count of the bank; 0 after a member's last."""
    members, size = len(state.members), int(count.max())
    predicted = np.zeros((members, size), dtype=np.int64)
    last = offset + (count - 1).clamp(min=0)  # rows after the last example repeat it
    numbers, at_a_time = numbers_of(state), rows_at_a_time(program.form)
    for begin in range(0, size, at_a_time):
        rows = begin + torch.arange(at_a_time, device=program.device).expand(members, -1)
        in_bank = (offset[:, None] + rows).minimum(last[:, None]).clamp(max=len(bank) - 1)
        block = Block(bank, in_bank, rows)
        part = outputs_of(program, numbers, block).argmax(-1).cpu().numpy()
        predicted[:, begin : begin + at_a_time] = part[:, : size - begin]
    return predicted


def _of_pool(data: TrialData, predicted: np.ndarray) -> Answered:
    pool = _pool(data)
    is_trained = np.zeros(len(pool.labels), dtype=bool)
    is_trained[data.places] = True
    is_right = predicted[: len(pool.labels)] == pool.labels
    return Answered("pool", pool.source_index, is_trained, is_right, pool.corrupted, pool.labels, pool.true_labels)


def _of_held_out(data: TrialData, predicted: np.ndarray) -> list[Answered]:
    """Returns the answers to the validation and to the test set, as far as they have examples."""
    labels, v = data.held_out_labels, data.validation_count
    parts = []
    for part, rows in (("validation", slice(0, v)), ("test", slice(v, len(labels)))):
        of_part = labels[rows]
        nothing = np.zeros(len(of_part), dtype=bool)
        if len(of_part):
            is_right = predicted[: len(labels)][rows] == of_part
            parts.append(Answered(part, np.empty(0, np.int64), nothing, is_right, nothing, of_part, of_part))
    return parts
