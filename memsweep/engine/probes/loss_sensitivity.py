"""Loss sensitivity of Arpit et al. (2017, section 3.2): how much single training examples change the loss.

g(x, t) = |dL_t / dx|, with L_t the mean training loss after t steps and x a training input: the derivative through all
t steps of SGD. Training is repeated from its beginning, on the member's own batches, and then followed backward once
for all t: with w -= rate * (dl/dw + decay * w) at a step, an adjoint a (at first dL_t/dw) gives
dL_t/dx -= rate * d(a . dl/dw)/dx and a -= rate * (d(a . dl/dw)/dw + decay * a). The direct dependence of L_t on x is
left out: whether the paper includes it is unknown, and the question here is the effect of training on x.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from memsweep.engine.train import optim, trainer
from memsweep.engine.train.optim import Tensors
from memsweep.engine.train.program import Program
from memsweep.engine.train.state import State, rows_of

TIMES = 20
"""Values of t, evenly spaced up to the end of training."""
CLASS_TIMES = 4
"""The same for sensitivities by class, each of which takes one adjoint per class."""
NORMS = {"l1": 1.0, "l2": 2.0, "max": float("inf")}


class Sensitivity(NamedTuple):
    """Sensitivity to every member's training examples, up to each time."""

    steps: list[int]  # [T]
    mean: dict[str, Tensor]  # norm -> [M, T, N], mean over the times up to this one


class ByClass(NamedTuple):
    """Sensitivity of the loss of one class to the inputs of another: L1, mean over times."""

    mean: Tensor  # [M, K, K], by class of the loss, then of the inputs; NaN for classes without examples
    examples: Tensor  # [M, K], inputs of a class


Loss = Callable[[Tensors, Tensor, Tensor, Tensor], Tensor]
"""(weights, inputs [B, D], labels [B], shares [B]) -> a number."""


class Path(NamedTuple):
    """The weights and batches of a training of S steps."""

    weights: list[Tensors]  # S + 1 of them, [M, *shape]
    rows: Tensor  # [S, M, B] examples of the steps
    rates: Tensor  # [S, M]
    decay: Tensor  # [M]


def measure(program: Program, state: State) -> Sensitivity:
    """Returns the sensitivities of members with equal steps and examples, trained by SGD without momentum or noise."""
    path = retrained(program, state)
    steps, (inputs, labels) = _spaced(len(path.rows), TIMES), _examples(program, state)
    gradients = _gradients(program, path, inputs, labels, steps, torch.ones_like(inputs[:, None, :, 0]))
    counts = torch.arange(1, len(steps) + 1, device=program.device)[:, None, None]
    means = {name: (value[:, :, 0].cumsum(0) / counts).transpose(0, 1) for name, value in gradients.items()}
    return Sensitivity(steps, means)


def measure_classes(program: Program, state: State) -> ByClass:
    """Returns the sensitivities by class, for the same members as `measure`."""
    path, (inputs, labels) = retrained(program, state), _examples(program, state)
    of_class = torch.nn.functional.one_hot(labels, program.classes).to(program.dtype)  # [M, N, K]
    steps = _spaced(len(path.rows), CLASS_TIMES)
    norms = _gradients(program, path, inputs, labels, steps, of_class.mT)["l1"].mean(0)  # [M, K, N]
    examples = of_class.sum(1)
    return ByClass(norms @ of_class / examples[:, None], examples)


def gini(values: Tensor) -> Tensor:
    """Returns the Gini coefficient over the last axis of numbers >= 0: 0 if all are equal, near 1 if one dominates.

    >>> gini(torch.tensor([1.0, 1.0, 1.0])).item(), round(gini(torch.tensor([0.0, 0.0, 1.0])).item(), 3)
    (0.0, 0.667)
    """
    n, ordered = values.shape[-1], values.sort(dim=-1).values
    ranks = torch.arange(1, n + 1, device=values.device, dtype=values.dtype)
    return 2 * (ranks * ordered).sum(-1) / (n * ordered.sum(-1)) - (n + 1) / n


def retrained(program: Program, state: State) -> Path:
    """Repeats the members' training from their first weights; returns its path."""
    size, trials = int(state.step[0]), [member.trial for member in state.members]
    fresh = trainer.init(program, trials)
    rows, rates = trainer.batches(program, fresh, size), trainer.learning_rates(program, fresh, size)
    weights, e = [fresh.parameters], state.examples
    for s in range(size):
        inputs, labels = rows_of(e.bank, e.offset[:, None] + rows[s]), e.given.gather(1, rows[s])
        gradients = vmap(grad(_loss_of(program)))(weights[-1], inputs, labels, torch.ones_like(inputs[..., 0]))
        moved = {name: value.clone() for name, value in weights[-1].items()}
        moments = optim.moments("sgd", moved)
        optim.sgd_(moved, gradients, moments, fresh.coefficients._replace(rate=rates[s]))
        weights.append(moved)
    return Path(weights, rows, rates, fresh.coefficients.decay)


def _gradients(
    program: Program, path: Path, inputs: Tensor, labels: Tensor, steps: list[int], shares: Tensor
) -> dict[str, Tensor]:
    """Norms of dL_t/dx: norm -> [T, M, C, N].  inputs: [M, N, D].  labels: [M, N].

    shares: [M, C, N], weight of each example's loss in each of C losses.
    """
    loss, times, (members, parts, _) = _loss_of(program), len(steps), shares.shape
    ends = vmap(vmap(grad(loss), in_dims=(None, None, None, 0)))
    wanted = {step: i for i, step in enumerate(steps)}

    def pulled(weights: Tensors, x: Tensor, y: Tensor, adjoint: Tensors) -> tuple[Tensors, Tensor]:
        """d(adjoint . dl/dw) / d(w, x) of one member, loss and time."""

        def along(w: Tensors, x: Tensor) -> Tensor:
            gradient = grad(loss)(w, x, y, torch.ones_like(x[:, 0]))
            return torch.stack([(adjoint[name] * gradient[name]).sum() for name in gradient]).sum()

        gradients: tuple[Tensors, Tensor] = grad(along, argnums=(0, 1))(weights, x)
        return gradients

    back = vmap(vmap(pulled, in_dims=(None, None, None, 0)))
    last = path.weights[-1]
    adjoints = {n: w.new_zeros(members, times, parts, *w.shape[1:]) for n, w in last.items()}
    moved = inputs.new_zeros(times, parts, *inputs.shape).permute(2, 0, 1, 3, 4).contiguous()  # [M, T, C, N, D]
    first = times  # first of the times reached so far, going backward
    for s in range(len(path.rows), 0, -1):
        if (i := wanted.get(s)) is not None:
            first = i
            for name, value in ends(path.weights[s], inputs, labels, shares).items():
                adjoints[name][:, i] = value
        if first == times:
            continue
        rows, rate = path.rows[s - 1], path.rates[s - 1]
        x = inputs.gather(1, rows[..., None].expand(-1, -1, inputs.shape[-1]))
        active = {name: value[:, first:].flatten(1, 2) for name, value in adjoints.items()}
        of_weights, of_inputs = back(path.weights[s - 1], x, labels.gather(1, rows), active)
        for name, value in of_weights.items():
            adjoint_part = adjoints[name][:, first:]
            column = (-1, *[1] * (adjoint_part.dim() - 1))
            adjoint_part -= rate.view(column) * (
                value.view(adjoint_part.shape) + path.decay.view(column) * adjoint_part
            )
        step = of_inputs.view(members, times - first, parts, *of_inputs.shape[2:]) * -rate.view(-1, 1, 1, 1, 1)
        index = rows[:, None, None, :, None].expand_as(step)
        moved[:, first:] = moved[:, first:].scatter_add(3, index, step)
    return {name: torch.linalg.vector_norm(moved, norm, dim=-1).transpose(0, 1) for name, norm in NORMS.items()}


def _examples(program: Program, state: State) -> tuple[Tensor, Tensor]:
    """Training inputs [M, N, D] and given labels [M, N]."""
    e, count = state.examples, len(state.members[0].data.labels)
    return rows_of(e.bank, e.offset[:, None] + torch.arange(count, device=program.device)), e.given[:, :count]


def _spaced(size: int, count: int) -> list[int]:
    """`count` of the steps 1 ... size, evenly spaced, including the last; all steps if there are fewer."""
    return sorted({max(1, round(size * (i + 1) / count)) for i in range(count)})


def _loss_of(program: Program) -> Loss:
    """Mean cross-entropy of one member, each example weighted by its share."""

    def loss(weights: Tensors, x: Tensor, y: Tensor, shares: Tensor) -> Tensor:
        log_p = torch.log_softmax(functional_call(program.evaluated, weights, (x,)), -1)
        classes = torch.arange(log_p.shape[-1], device=x.device)
        return -(torch.where(classes == y[:, None], log_p, 0.0).sum(-1) * shares).mean()

    return loss
