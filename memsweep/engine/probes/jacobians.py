"""Whether dimensions of a trained cell's state mix from one step to the next.

The Jacobian of the state at a step by the previous state (c, where a cell has it, else h), with gates held constant; h
is the held gate times tanh(c). It is diagonal where each dimension keeps its meaning (Choi 2018).
"""

from __future__ import annotations

import itertools
from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor

from memsweep.engine.nn.cells import Carried
from memsweep.engine.nn.sequence_models import Recurrent
from memsweep.engine.train.evaluation import numbers_of
from memsweep.engine.train.program import Program
from memsweep.engine.train.state import State, rows_of

SEQUENCES = 64
"""Most validation sequences, in their order."""


class Jacobians(NamedTuple):
    """Squared entries of one layer, summed over sequences and all steps but the first, for every member."""

    layer: int  # from 1 on
    square_sum: Tensor  # [M] float64, of all entries squared
    off_diagonal_square_sum: Tensor  # [M] float64, of those off the diagonal
    matrices: int


def measure(program: Program, state: State) -> list[Jacobians]:
    """Returns the sums of each layer, computed member by member in float64; the training's truncation is ignored.

    Raises TypeError for a network that is not recurrent.
    """
    model = deepcopy(program.evaluated).double()
    if not isinstance(model, Recurrent):
        raise TypeError(f"{type(model).__name__} carries no state from step to step")
    model.truncation = 0
    count = min(SEQUENCES, int(state.examples.validation_count[0]))
    rows = state.examples.held_out_offset[:, None] + torch.arange(count, device=program.device)
    inputs, numbers = rows_of(state.examples.bank, rows).double(), numbers_of(state)
    sums = []  # member -> layer -> both sums
    for m in range(len(state.members)):
        model.load_state_dict({name: value[m] for name, value in numbers.items()})
        sums.append([_squares(layer) for layer in model.carried(inputs[m], lambda x: torch.sigmoid(x).detach())])
    by_layer = torch.tensor(sums, dtype=torch.float64).permute(1, 2, 0)
    matrices = count * (program.form.steps - 1)
    return [Jacobians(number, both[0], both[1], matrices) for number, both in enumerate(by_layer, 1)]


def _squares(handed: list[Carried]) -> tuple[float, float]:
    """Squared entries of a layer's Jacobians at all steps but the first: of all, and of those off the diagonal."""
    total = off_diagonal = 0.0
    for before, after in itertools.pairwise(handed):
        batch, width = after.state.shape
        unit = torch.eye(width).to(after.state)[:, None].expand(-1, batch, -1)
        (jacobian,) = torch.autograd.grad(after.state, before.state, unit, retain_graph=True, is_grads_batched=True)
        squares = jacobian.square()  # [H, B, H]: d after[b, i] / d before[b, j]
        total += squares.sum().item()
        squares.diagonal(dim1=0, dim2=2).zero_()
        off_diagonal += squares.sum().item()
    return total, off_diagonal
