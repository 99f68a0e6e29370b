"""Hidden layers, logits and input gradients on the same inputs, to compare networks.

Networks are comparable only on the same examples: fix `seeds.inputs` and `seeds.labels`.
Hidden layers that are images are averaged over places, as by Morcos, Raghu & Bengio (2018); the choice and number of
examples, and the gradient, are ours.
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
"""Most examples, the first of the training and of the validation set."""
PARTS = ("train", "validation")


class Representation(NamedTuple):
    """One quantity of each example, for every member."""

    part: str
    quantity: str  # hidden, logits, or gradient: of the predicted class's logit with respect to the inputs
    layer: int  # hidden layers from 1 on; logits after them, inputs are 0
    values: Tensor  # [M, E, H]


def measure(program: Program, state: State) -> list[Representation]:
    """Returns logits on training examples; hidden layers, logits and input gradients on validation examples, if any.

    Members have equally many examples.
    """
    e, results = state.examples, []
    for part in PARTS:
        offset, total = (e.offset, e.train_count) if part == "train" else (e.held_out_offset, e.validation_count)
        examples = min(EXAMPLES, int(total[0]))
        if not examples:
            continue
        inputs = rows_of(e.bank, offset[:, None] + torch.arange(examples, device=program.device))
        gradient, layers = _quantities(program, numbers_of(state), inputs)
        last = len(layers) - 1
        if part == "validation":
            results.append(Representation(part, "gradient", 0, gradient))
            results += [Representation(part, "hidden", i + 1, layer) for i, layer in enumerate(layers[:last])]
        results.append(Representation(part, "logits", last + 1, layers[last]))
    return results


def _quantities(program: Program, numbers: Tensors, inputs: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Input gradients [M, E, D], and hidden layers and logits [M, E, H] each; in the mode `serial` member by member."""

    def chosen(x: Tensor, weights: Tensors) -> tuple[Tensor, tuple[Tensor, ...]]:
        layers, logits = layers_of(program, weights, x)
        averaged = (h.flatten(2).mean(2) if h.dim() > 2 else h for h in layers)
        return logits.amax(dim=-1).sum(), (*averaged, logits)

    if program.mode != "serial":
        lifted: tuple[Tensor, tuple[Tensor, ...]] = lifted_gradient(program, chosen, inputs, numbers)
        return lifted
    alone = []
    for m in range(len(inputs)):
        member = slice(m, m + 1)
        alone.append(lifted_gradient(program, chosen, inputs[member], {n: v[member] for n, v in numbers.items()}))
    gradients, layers = zip(*alone, strict=True)
    return torch.cat(gradients), tuple(torch.cat(layer) for layer in zip(*layers, strict=True))
