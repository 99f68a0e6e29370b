"""At which steps of a sequence are members right? Recall by position, on validation data."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from memsweep.data.sequences import TOLERANCE
from memsweep.engine.train.evaluation import Asked, numbers_of, outputs_of, rows_at_a_time
from memsweep.engine.train.program import Program
from memsweep.engine.train.state import State, rows_of


class Positions(NamedTuple):
    """Sums over the validation examples of each member, by step that is read out; all members have as many examples."""

    correct: Tensor  # [M, L] int64, targets that are right
    asked: Tensor  # [M, L] int64, targets asked for
    loss: Tensor  # [M, L] float64 nats


@torch.no_grad()
def measure(program: Program, state: State) -> Positions:
    """Every member's validation examples, which a task with targets has."""
    e, form = state.examples, program.form
    examples = int(e.validation_count[0])
    correct, count = (torch.zeros(len(state.members), form.positions, dtype=torch.int64) for _ in range(2))
    loss = torch.zeros(len(state.members), form.positions, dtype=torch.float64)
    for begin in range(0, examples, at_a_time := rows_at_a_time(form)):
        rows = e.held_out_offset[:, None] + torch.arange(begin, min(begin + at_a_time, examples), device=program.device)
        wanted = rows_of(e.targets, rows)
        outputs = outputs_of(program, numbers_of(state), Asked(e.bank, rows, wanted))
        if form.kind == "tokens":
            asked = wanted >= 0
            right = (outputs.argmax(-1) == wanted) & asked
            tokens = torch.arange(form.outputs, device=program.device)
            nats = -torch.where(tokens == wanted[..., None], functional.log_softmax(outputs, -1), 0.0).sum(-1)
        else:
            error = outputs - wanted.reshape(outputs.shape)
            asked, right = torch.ones_like(error, dtype=torch.bool), error.abs() < TOLERANCE
            asked, right = (value.sum(-1) for value in (asked, right))
            nats = error.square().sum(-1) / 2
        correct += right.sum(1).cpu()
        count += asked.sum(1).cpu()
        loss += nats.double().sum(1).cpu()
    return Positions(correct, count, loss)
