"""The elementwise parts of recurrent cells, in place, forward and backward; `scan.py` computes the products.

Forward turns pre-activations into activations and computes state and output; backward turns the gradient of the new
state into that of the old state, and computes the gradients of pre-activations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
tanh_backward = torch.ops.aten.tanh_backward.grad_input
_relu_backward = torch.ops.aten.threshold_backward.grad_input


class Step(NamedTuple):
    """Values that a step keeps, [M, H, B] per block."""

    gates: Tensor  # [M, G' H, B]
    others: Tensor  # [M, (G - G') H, B]
    blocks: tuple[Tensor, ...]  # of both, in the order of the weights
    sigmoids: Tensor  # the first blocks, which are gates and contiguous
    state: Tensor
    new: Tensor  # state
    output: Tensor
    extra: Tensor


class Gradients(NamedTuple):
    """Gradients of a step, in memory shared by all steps; `extra` is scratch space where the update has no extra."""

    gates: Tensor
    others: Tensor
    blocks: tuple[Tensor, ...]
    sigmoids: Tensor
    state: Tensor
    extra: Tensor


class Update(NamedTuple):
    """The elementwise part of one kind of cell."""

    forward: Callable[[Step], None]
    backward: Callable[[Step, Tensor, Gradients], None]  # (kept values, gradient of the output, gradients)
    sigmoids: int  # number of the first blocks that are gates
    has_extra: bool = False


def _lstm(step: Step) -> None:
    """c = f c + i g, h = o tanh(c); extra is tanh(c)."""
    i, f, o, g = step.blocks
    step.sigmoids.sigmoid_()
    torch.mul(f, step.state, out=step.new).addcmul_(i, tanh_(g))
    torch.mul(o, _tanh(step.new, out=step.extra), out=step.output)


def _lstm_backward(step: Step, total: Tensor, of: Gradients) -> None:
    torch.mul(total, step.extra, out=of.blocks[2])
    torch.mul(total, step.blocks[2], out=of.extra)
    of.state.add_(tanh_backward(of.extra, step.extra, grad_input=of.extra))
    _of_gated_sum(step, of)


def _of_gated_sum(step: Step, of: Gradients) -> None:
    """Gradients of f state + i g, first, second and last block; then of all gates' pre-activations."""
    (i, f, *_, g), (of_i, of_f, *_, of_g) = step.blocks, of.blocks
    torch.mul(of.state, g, out=of_i)
    torch.mul(of.state, step.state, out=of_f)
    torch.mul(of.state, i, out=of_g)
    of.state.mul_(f)
    _sigmoid_backward(of.sigmoids, step.sigmoids, grad_input=of.sigmoids)
    tanh_backward(of_g, g, grad_input=of_g)


def _pru_d(step: Step) -> None:
    """h = f h + i g."""
    i, f, g = step.blocks
    step.sigmoids.sigmoid_()
    torch.mul(f, step.state, out=step.new).addcmul_(i, tanh_(g))
    step.output.copy_(step.new)


def _pru_d_backward(step: Step, total: Tensor, of: Gradients) -> None:
    of.state.add_(total)
    _of_gated_sum(step, of)


def _ugrnn(step: Step) -> None:
    """h = g h + (1 - g) c."""
    g, c = step.blocks[-2:]
    step.sigmoids.sigmoid_()
    torch.lerp(tanh_(c), step.state, g, out=step.new)
    step.output.copy_(step.new)


def _ugrnn_backward(step: Step, total: Tensor, of: Gradients) -> None:
    _of_mixture(step, total, of)
    _sigmoid_backward(of.sigmoids, step.sigmoids, grad_input=of.sigmoids)


def _of_mixture(step: Step, total: Tensor, of: Gradients) -> None:
    """Gradients of h = g h + (1 - g) tanh(c), the last two blocks; of the gate g itself, not its pre-activation."""
    (g, c), (of_g, of_c) = step.blocks[-2:], of.blocks[-2:]
    of.state.add_(total)
    torch.mul(of.state, torch.sub(step.state, c, out=of_c), out=of_g)
    torch.mul(of.state, g, out=of.extra)
    torch.sub(of.state, of.extra, out=of_c)
    of.state.copy_(of.extra)
    tanh_backward(of_c, c, grad_input=of_c)


def _gru(step: Step) -> None:
    """n = tanh(W x + b + r U h), h = z h + (1 - z) n; extra is U h."""
    _, z, n = step.blocks
    step.sigmoids.sigmoid_()
    n.addcmul_(step.blocks[0], step.extra)
    torch.lerp(tanh_(n), step.state, z, out=step.new)
    step.output.copy_(step.new)


def _gru_backward(step: Step, total: Tensor, of: Gradients) -> None:
    _of_mixture(step, total, of)
    torch.mul(of.blocks[2], step.extra, out=of.blocks[0])
    torch.mul(of.blocks[2], step.blocks[0], out=of.extra)
    _sigmoid_backward(of.sigmoids, step.sigmoids, grad_input=of.sigmoids)


def _tanh_of_sum(step: Step) -> None:
    step.output.copy_(tanh_(step.gates))


def _tanh_of_sum_backward(step: Step, total: Tensor, of: Gradients) -> None:
    tanh_backward(total, step.gates, grad_input=of.gates)


def _relu_of_sum(step: Step) -> None:
    step.output.copy_(step.gates.relu_())


def _relu_of_sum_backward(step: Step, total: Tensor, of: Gradients) -> None:
    _relu_backward(total, step.gates, 0, grad_input=of.gates)


def _tanh(x: Tensor, out: Tensor) -> Tensor:
    """tanh through the logistic function, which the library computes three times as fast on a CPU."""
    return torch.mul(x, 2, out=out).sigmoid_().mul_(2).sub_(1)


def tanh_(x: Tensor) -> Tensor:
    """Computes tanh in place; returns x."""
    return _tanh(x, out=x)


UPDATES: dict[str, Update] = {
    "lstm": Update(_lstm, _lstm_backward, 3, has_extra=True),
    "gru": Update(_gru, _gru_backward, 2, has_extra=True),
    "ugrnn": Update(_ugrnn, _ugrnn_backward, 1),
    "pru_d": Update(_pru_d, _pru_d_backward, 2),
    "tanh": Update(_tanh_of_sum, _tanh_of_sum_backward, 0),
    "relu": Update(_relu_of_sum, _relu_of_sum_backward, 0),
}
