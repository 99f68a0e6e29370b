"""Critical samples: inputs within a small box around an example that are predicted differently.

LASS (Langevin adversarial sample search) of Arpit et al. (2017, Algorithm 1), for all members at once. As in the
published code, a step starts at the sample's current place and lowers the probability of the predicted class.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from memsweep.engine.nn.losses import cross_entropy
from memsweep.engine.train import streams
from memsweep.engine.train.lifting import call, lifted_gradient, under_autocast
from memsweep.engine.train.optim import Tensors
from memsweep.engine.train.program import Program
from memsweep.engine.train.state import State

ALPHA, BETA, RADIUS = 0.25 / 255, 0.2 / 255, 0.3 / 255
"""Step, noise and half side of the box, as shares of the inputs' range; the paper's values on its scale, 0 to 255."""
TRAINING_ITERATIONS = 10
"""Of the search within a training step; the paper gives no number. Two steps reach the side of the box."""
ATTACK = 1 << 32
"""Place of the search's random numbers, beside the places of layers."""


class SearchResult(NamedTuple):
    """The result of a search."""

    inputs: Tensor  # [M, B, D], the first place with a different prediction; without one, the input
    is_critical: Tensor  # [M, B] bool


Climb = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(inputs [M, B, D], labels [M, B]) -> gradient of the labels' cross-entropy with respect to the inputs, and logits."""


def search(climb: Climb, inputs: Tensor, input_range: Tensor, keys: Tensor, iterations: int) -> SearchResult:
    """Returns critical samples near these inputs [M, B, D].

    The reference is the network's prediction, never the true label.  input_range: [M].  keys: [M] int64, or [1] for the
    same noise for all members.
    """
    span = input_range[:, None, None]
    shape, moved, samples = inputs.shape, inputs, inputs
    is_critical = torch.zeros(shape[:2], dtype=torch.bool, device=inputs.device)
    reference = torch.zeros(shape[:2], dtype=torch.int64, device=inputs.device)
    for i in range(iterations + 1):
        if i == 0:
            _, logits = climb(moved, reference)
            reference = logits.argmax(dim=-1)
        gradient, logits = climb(moved, reference)
        hit = (logits.argmax(dim=-1) != reference) & ~is_critical
        samples = torch.where(hit[..., None], moved, samples)
        is_critical = is_critical | hit
        if i < iterations:
            noise = streams.normal(streams.subkeys(keys, i), shape[1:].numel()).view(-1, *shape[1:]).to(inputs.dtype)
            moved = moved + span * (ALPHA * gradient.sign() + BETA * noise)
            moved = torch.minimum(torch.maximum(moved, inputs - RADIUS * span), inputs + RADIUS * span)
    return SearchResult(samples, is_critical)


def training_inputs(program: Program, state: State, inputs: Tensor, keys: Tensor) -> Tensor:
    """Returns critical samples of a minibatch, [M, B, D], for the network in evaluation mode.

    keys: [M], of the step.
    """
    keys = streams.subkeys(keys, ATTACK)
    numbers = {**state.parameters, **state.buffers}
    result = search(climber(program, numbers), inputs, state.examples.input_range, keys, TRAINING_ITERATIONS)
    return result.inputs


def climber(program: Program, numbers: Tensors) -> Climb:
    """Returns the function that computes the search's gradient for members with these parameters and buffers."""
    if program.mode == "serial":
        return lambda inputs, labels: _climb_alone(program, inputs, labels)

    def loss(x: Tensor, weights: Tensors, y: Tensor) -> tuple[Tensor, Tensor]:
        logits = call(program, program.evaluated, weights, x)
        return cross_entropy(logits, y, None), logits

    def climb(inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        result: tuple[Tensor, Tensor] = lifted_gradient(program, loss, inputs, numbers, labels)
        return result

    return climb


def _climb_alone(program: Program, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """For the single member whose numbers the program's modules hold."""
    with torch.enable_grad():
        x = inputs[0].detach().requires_grad_()
        logits = under_autocast(program, program.evaluated, x)
        (gradient,) = torch.autograd.grad(cross_entropy(logits, labels[0], None, is_lifted=False), x)
    return gradient[None], logits.detach()[None]
