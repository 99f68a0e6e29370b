"""Whether a linear read-out of a stored symbol, fitted at one step, still works at later steps.

Choi (2018) argues that later layers read all hidden states, so a dimension should mean the same at every step.
The test is ours: a ridge classifier of each symbol to copy, fitted on hidden states at the step that shows it, applied
at later steps; and, to distinguish a moved code from a lost code, a classifier fitted at the later step.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from memsweep.engine.train.evaluation import layers_of, numbers_of, of_members, rows_at_a_time
from memsweep.engine.train.optim import Tensors
from memsweep.engine.train.program import Program
from memsweep.engine.train.state import State, rows_of

RIDGE = 1e-3
"""Penalty of the squared weights, times the number of examples; hidden states are at most 1."""


class Readout(NamedTuple):
    """One classifier applied at one step, for every member."""

    item: int  # which symbol
    fitted_step: int
    applied_step: int
    correct: Tensor  # [M] int64, of the examples it was not fitted on
    examples: int


def measure(program: Program, state: State) -> list[Readout]:
    """Returns the read-outs of each symbol at its own step, and 1, 2, 4, ... steps later up to the delimiter.

    The first half of a member's validation examples is fitted, the other half is classified.
    """
    form, count = program.form, int(state.examples.validation_count[0])
    states = _hidden_states(program, state, count)  # [M, V, T, H]
    rows = state.examples.held_out_offset[:, None] + torch.arange(count, device=program.device)
    symbols, half = rows_of(state.examples.targets, rows), count // 2
    last = form.steps - form.positions - 2  # before the delimiter
    readouts = []
    for item in range(form.positions):
        delays = [0, *(2**i for i in range(form.steps) if item + 2**i <= last)]
        training = symbols[:, :half, item]
        fitted = {item + delay: _fitted(states[:, :half, item + delay], training, form.outputs) for delay in delays}
        for step in fitted:
            for fitted_step in sorted({item, step}):
                scores = _with_one(states[:, half:, step]) @ fitted[fitted_step]
                correct = (scores.argmax(-1) == symbols[:, half:, item]).sum(-1).cpu()
                readouts.append(Readout(item, fitted_step, step, correct, count - half))
    return readouts


@torch.no_grad()
def _hidden_states(program: Program, state: State, count: int) -> Tensor:
    """Inputs of the network's read-out at every step: [M, V, T, H] float64."""

    def states(weights: Tensors, inputs: Tensor) -> Tensor:
        return layers_of(program, weights, inputs)[0][-1].permute(2, 0, 1)

    numbers, chunks = numbers_of(state), []
    for begin in range(0, count, at_a_time := rows_at_a_time(program.form)):
        index = torch.arange(begin, min(begin + at_a_time, count), device=program.device)
        inputs = rows_of(state.examples.bank, state.examples.held_out_offset[:, None] + index)
        chunks.append(of_members(program, states, numbers, inputs))
    return torch.cat(chunks, dim=1).double()


def _fitted(states: Tensor, symbols: Tensor, classes: int) -> Tensor:
    """Ridge regression of one-hot symbols.  states: [M, E, H].  symbols: [M, E].  Returns [M, H + 1, classes]."""
    x = _with_one(states)
    wanted = torch.nn.functional.one_hot(symbols, classes).to(x)
    penalty = RIDGE * x.shape[1] * torch.eye(x.shape[2], dtype=x.dtype, device=x.device)
    weights: Tensor = torch.linalg.solve(x.mT @ x + penalty, x.mT @ wanted)
    return weights


def _with_one(states: Tensor) -> Tensor:
    return torch.cat([states, torch.ones_like(states[..., :1])], dim=-1)
