"""SGD and AdamW for all members at once, every coefficient a vector [M], equal to torch.optim's."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

Tensors = dict[str, Tensor]  # parameter name -> [M, *shape]

EPSILON = 1e-8  # AdamW's, as torch.optim's default
CLIP_EPSILON = 1e-6  # as torch.nn.utils.clip_grad_norm_


class Coefficients(NamedTuple):
    """Each member's coefficients of an update; the rate follows the schedule, the others are constant."""

    rate: Tensor  # [M]
    momentum: Tensor  # [M]
    beta1: Tensor  # [M]
    beta2: Tensor  # [M]
    decay: Tensor  # [M]
    clip: Tensor  # [M], infinite where off


def moments(name: str, parameters: Tensors) -> dict[str, Tensors]:
    """Returns the optimizer's moments before the first step, zeros."""
    names = {"sgd": ("momentum",), "adamw": ("first", "second")}[name]
    return {moment: {key: torch.zeros_like(value) for key, value in parameters.items()} for moment in names}


def gradient_norms(gradients: Tensors) -> Tensor:
    """Returns the L2 norm of each member's whole gradient, [M]."""
    squares = torch.zeros(())
    for gradient in gradients.values():  # one by one: the rounding of a reduction over a stack depends on M
        squares = squares.to(gradient) + torch.linalg.vector_norm(gradient.flatten(1), dim=1).square()
    return squares.sqrt()


def clip_(gradients: Tensors, norms: Tensor, clip: Tensor) -> None:
    """Scales down, in place, the gradients of members whose norm exceeds their clip."""
    factor = (clip / (norms + CLIP_EPSILON)).clamp(max=1.0)
    for gradient in gradients.values():
        gradient.mul_(_column(factor, gradient))


def sgd_(parameters: Tensors, gradients: Tensors, moments: dict[str, Tensors], c: Coefficients) -> None:
    """Applies one step in place: g += decay * w; v = momentum * v + g; w -= rate * v."""
    for name, parameter in parameters.items():
        gradient = gradients[name].addcmul_(parameter, _column(c.decay, parameter))
        velocity = moments["momentum"][name].mul_(_column(c.momentum, parameter)).add_(gradient)
        parameter.addcmul_(velocity, _column(-c.rate, parameter))


def corrections(betas: tuple[float, ...], step: int) -> tuple[float, float]:
    """Returns AdamW's divisors of the moments after this step, from 1: 1 - beta**step, computed as by torch.optim.

    On the host and one by one: the rounding of a vector's power depends on a number's place in the vector.
    """
    beta1, beta2 = betas
    return 1 - beta1**step, 1 - beta2**step


def adamw_(
    parameters: Tensors, gradients: Tensors, moments: dict[str, Tensors], c: Coefficients, corrections: Tensor
) -> None:
    """Applies one step in place, with decoupled decay. corrections: [M, 2] float64, from `corrections`."""
    dtype = c.rate.dtype
    root2 = corrections[:, 1].sqrt().to(dtype)
    step_size = (c.rate.double() / corrections[:, 0]).to(dtype)
    for name, parameter in parameters.items():
        gradient, first, second = gradients[name], moments["first"][name], moments["second"][name]
        parameter.mul_(_column(1 - c.rate * c.decay, parameter))
        first.lerp_(gradient, _column(1 - c.beta1, parameter))
        second.mul_(_column(c.beta2, parameter)).addcmul_(gradient * _column(1 - c.beta2, parameter), gradient)
        denominator = (second.sqrt() / _column(root2, parameter)).add_(EPSILON)
        parameter.addcdiv_(first * _column(-step_size, parameter), denominator)


def _column(vector: Tensor, like: Tensor) -> Tensor:
    """[M] as [M, 1, ...], to broadcast with [M, *shape]."""
    return vector.view(-1, *[1] * (like.dim() - 1))
