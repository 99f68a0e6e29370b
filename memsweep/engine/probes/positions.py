"""Recall by position: at which steps of a sequence members are right, on validation data."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from memsweep.data.sequences import TOLERANCE
from memsweep.engine.train.evaluation import Block, numbers_of, outputs_of, rows_at_a_time
from memsweep.engine.train.program import Program
from memsweep.engine.train.state import State, rows_of


class Positions(NamedTuple):
    """Sums over the validation examples of each member, by read-out step; members have equally many examples."""

    correct: Tensor  # [M, L] int64, targets that are right
    total: Tensor  # [M, L] int64, targets that are not masked
    loss: Tensor  # [M, L] float64 nats


@torch.no_grad()
def measure(program: Program, state: State) -> Positions:
    """Returns the sums over every member's validation examples, for a task with targets."""
    e, form = state.examples, program.form
    examples = int(e.validation_count[0])
    correct, count = (torch.zeros(len(state.members), form.positions, dtype=torch.int64) for _ in range(2))
    loss = torch.zeros(len(state.members), form.positions, dtype=torch.float64)
    for begin in range(0, examples, at_a_time := rows_at_a_time(form)):
        rows = e.held_out_offset[:, None] + torch.arange(begin, min(begin + at_a_time, examples), device=program.device)
        wanted = rows_of(e.targets, rows)
        outputs = outputs_of(program, numbers_of(state), Block(e.bank, rows, wanted))
        if form.kind == "tokens":
            present = wanted >= 0
            right = (outputs.argmax(-1) == wanted) & present
            tokens = torch.arange(form.outputs, device=program.device)
            nats = -torch.where(tokens == wanted[..., None], functional.log_softmax(outputs, -1), 0.0).sum(-1)
        else:
            error = outputs - wanted.reshape(outputs.shape)
            present, right = torch.ones_like(error, dtype=torch.bool), error.abs() < TOLERANCE
            present, right = (value.sum(-1) for value in (present, right))
            nats = error.square().sum(-1) / 2
        correct += right.sum(1).cpu()
        count += present.sum(1).cpu()
        loss += nats.double().sum(1).cpu()
    return Positions(correct, count, loss)
