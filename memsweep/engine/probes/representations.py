"""What do networks make of the same inputs? Hidden layers, answers and input gradients, to compare networks by.

Networks are told apart by it only if they are asked about the same examples: `seeds.inputs` and `seeds.labels` fixed.
Hidden layers that are images are averaged over places, as Morcos, Raghu & Bengio (2018) do; which examples are asked,
how many, and the gradient are ours.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from memsweep.engine.train.evaluation import layers_of, numbers_of
from memsweep.engine.train.lifting import lifted_gradient
from memsweep.engine.train.optim import Tensors
from memsweep.engine.train.program import Program
from memsweep.engine.train.state import State, rows_of

EXAMPLES = 200
"""The first ones of the training and of the validation set, at most."""
PARTS = ("train", "validation")


class Representation(NamedTuple):
    """One thing told of each example, for every member."""

    part: str
    quantity: str  # hidden, logits, or gradient: of the predicted class's logit with respect to the inputs
    layer: int  # hidden layers from 1 on; logits lie behind them, inputs are 0
    values: Tensor  # [M, E, H]


def measure(program: Program, state: State) -> list[Representation]:
    """Logits on training examples; hidden layers, logits and input gradients on validation examples, if any.

    Of members with as many examples each.
    """
    e, found = state.examples, []
    for part in PARTS:
        offset, total = (e.offset, e.train_count) if part == "train" else (e.held_out_offset, e.validation_count)
        examples = min(EXAMPLES, int(total[0]))
        if not examples:
            continue
        inputs = rows_of(e.bank, offset[:, None] + torch.arange(examples, device=program.device))
        gradient, layers = _asked(program, numbers_of(state), inputs)
        last = len(layers) - 1
        if part == "validation":
            found.append(Representation(part, "gradient", 0, gradient))
            found += [Representation(part, "hidden", i + 1, layer) for i, layer in enumerate(layers[:last])]
        found.append(Representation(part, "logits", last + 1, layers[last]))
    return found


def _asked(program: Program, numbers: Tensors, inputs: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Input gradients [M, E, D], and hidden layers and logits [M, E, H] each; in the mode `serial` member by member."""

    def chosen(x: Tensor, own: Tensors) -> tuple[Tensor, tuple[Tensor, ...]]:
        layers, logits = layers_of(program, own, x)
        averaged = (h.flatten(2).mean(2) if h.dim() > 2 else h for h in layers)
        return logits.amax(dim=-1).sum(), (*averaged, logits)

    if program.mode != "serial":
        found: tuple[Tensor, tuple[Tensor, ...]] = lifted_gradient(program, chosen, inputs, numbers)
        return found
    alone = []
    for m in range(len(inputs)):
        own = slice(m, m + 1)
        alone.append(lifted_gradient(program, chosen, inputs[own], {n: v[own] for n, v in numbers.items()}))
    gradients, layers = zip(*alone, strict=True)
    return torch.cat(gradients), tuple(torch.cat(each) for each in zip(*layers, strict=True))
