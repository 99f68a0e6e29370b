"""Optimizers for all members at once, every coefficient a vector [M], equal to torch.optim's where it has them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from memsweep.engine.train import muon

Tensors = dict[str, Tensor]  # parameter name -> [M, *shape]

EPSILON = 1e-8  # of Adam, AdamW and RMSprop, as torch.optim's default
ASCENT_EPSILON = 1e-12  # of SAM, against division by a gradient of zero
CLIP_EPSILON = 1e-6  # as torch.nn.utils.clip_grad_norm_


class Coefficients(NamedTuple):
    """Each member's coefficients of an update; the rate follows the schedule, the others are constant."""

    rate: Tensor  # [M]
    momentum: Tensor  # [M]
    beta1: Tensor  # [M]
    beta2: Tensor  # [M]
    alpha: Tensor  # [M], of rmsprop
    radius: Tensor  # [M], of sam
    decay: Tensor  # [M]
    clip: Tensor  # [M], infinite where off


CORRECTED = ("adam", "adamw", "muon")
"""Optimizers whose moments are divided by `corrections`."""
ELEMENTWISE = ("sgd", "sam", "nesterov", "rmsprop", "adam", "adamw")
"""Optimizers whose `update_` moves each number by itself."""


def moments(name: str, parameters: Tensors) -> dict[str, Tensors]:
    """Returns the optimizer's moments before the first step, zeros: moment -> parameter -> [M, *shape]."""
    if ":" in name:  # a user's optimizer keeps them itself
        return {}
    matrices = {key for key, value in parameters.items() if muon.is_matrix(value)}
    everything = set(parameters)
    others = everything - matrices
    names: dict[str, set[str]] = {
        "rmsprop": {"square": everything, "momentum": everything},
        "adam": {"first": everything, "second": everything},
        "adamw": {"first": everything, "second": everything},
        "muon": {"momentum": matrices, "first": others, "second": others},
    }.get(name, {"momentum": everything})
    return {
        moment: {key: torch.zeros_like(value) for key, value in parameters.items() if key in keys}
        for moment, keys in names.items()
    }


def update_(
    name: str,
    parameters: Tensors,
    gradients: Tensors,
    moments: dict[str, Tensors],
    c: Coefficients,
    corrections: Tensor,
) -> None:
    """Applies one step of an optimizer in place; the gradients are used up.

    corrections: [M, 2] float64, from `corrections`; read by the optimizers in CORRECTED alone.
    """
    if name in ("sgd", "sam"):
        sgd_(parameters, gradients, moments, c)
    elif name == "nesterov":
        nesterov_(parameters, gradients, moments, c)
    elif name == "rmsprop":
        rmsprop_(parameters, gradients, moments, c)
    elif name == "adam":
        adam_(parameters, gradients, moments, c, corrections)
    elif name == "adamw":
        adamw_(parameters, gradients, moments, c, corrections)
    else:
        muon_(parameters, gradients, moments, c, corrections)


def gradient_norms(gradients: Tensors) -> Tensor:
    """Returns the L2 norm of each member's whole gradient, [M]."""
    squares = torch.zeros(())
    for n, gradient in enumerate(gradients.values()):  # one by one: a stack's reduction rounds by its size
        # no number comes from the host, which a GPU would wait for
        square = torch.linalg.vector_norm(gradient.flatten(1), dim=1).square()
        squares = squares + square if n else square
    return squares.sqrt()


def clip_(gradients: Tensors, norms: Tensor, clip: Tensor) -> None:
    """Scales down, in place, the gradients of members whose norm exceeds their clip."""
    factor = (clip / (norms + CLIP_EPSILON)).clamp(max=1.0)
    for gradient in gradients.values():
        gradient.mul_(_column(factor, gradient))


def ascend_(parameters: Tensors, gradients: Tensors, radius: Tensor) -> None:
    """Moves each member's parameters, in place, by its radius along its whole gradient: w += radius * g / |g|."""
    factor = radius / (gradient_norms(gradients) + ASCENT_EPSILON)
    for name, parameter in parameters.items():
        parameter.addcmul_(gradients[name], _column(factor, parameter))


def sgd_(parameters: Tensors, gradients: Tensors, moments: dict[str, Tensors], c: Coefficients) -> None:
    """Applies one step in place: g += decay * w; v = momentum * v + g; w -= rate * v."""
    w, g, v = _listed(parameters, gradients, moments["momentum"])
    torch._foreach_addcmul_(g, w, _columns(c.decay, w))
    torch._foreach_mul_(v, _columns(c.momentum, w))
    torch._foreach_add_(v, g)
    torch._foreach_addcmul_(w, v, _columns(-c.rate, w))


def nesterov_(parameters: Tensors, gradients: Tensors, moments: dict[str, Tensors], c: Coefficients) -> None:
    """Applies one step in place: g += decay * w; v = momentum * v + g; w -= rate * (g + momentum * v)."""
    for name, parameter in parameters.items():
        gradient = gradients[name].addcmul_(parameter, _column(c.decay, parameter))
        momentum = _column(c.momentum, parameter)
        velocity = moments["momentum"][name].mul_(momentum).add_(gradient)
        parameter.addcmul_(gradient.addcmul_(velocity, momentum), _column(-c.rate, parameter))


def rmsprop_(parameters: Tensors, gradients: Tensors, moments: dict[str, Tensors], c: Coefficients) -> None:
    """Applies one step in place: g += decay * w; s = alpha * s + (1 - alpha) * g^2; v = momentum * v + g / (sqrt(s) +
    EPSILON); w -= rate * v."""
    for name, parameter in parameters.items():
        gradient = gradients[name].addcmul_(parameter, _column(c.decay, parameter))
        square = moments["square"][name].mul_(_column(c.alpha, parameter))
        square.addcmul_(gradient * _column(1 - c.alpha, parameter), gradient)
        velocity = moments["momentum"][name].mul_(_column(c.momentum, parameter))
        velocity.addcdiv_(gradient, square.sqrt().add_(EPSILON))
        parameter.addcmul_(velocity, _column(-c.rate, parameter))


def corrections(betas: tuple[float, ...], step: int) -> tuple[float, float]:
    """Returns Adam's divisors of the moments after this step, from 1: 1 - beta**step, computed as by torch.optim.

    On the host and one by one: the rounding of a vector's power depends on a number's place in the vector.
    """
    beta1, beta2 = betas
    return 1 - beta1**step, 1 - beta2**step


def adam_(
    parameters: Tensors, gradients: Tensors, moments: dict[str, Tensors], c: Coefficients, corrections: Tensor
) -> None:
    """Applies one step in place; the decay is added to the gradient. corrections: [M, 2] float64."""
    for name, parameter in parameters.items():
        gradients[name].addcmul_(parameter, _column(c.decay, parameter))
    _adam_moves_(parameters, gradients, moments, c, corrections)


def adamw_(
    parameters: Tensors, gradients: Tensors, moments: dict[str, Tensors], c: Coefficients, corrections: Tensor
) -> None:
    """Applies one step in place, with decoupled decay. corrections: [M, 2] float64."""
    for parameter in parameters.values():
        parameter.mul_(_column(1 - c.rate * c.decay, parameter))
    _adam_moves_(parameters, gradients, moments, c, corrections)


def muon_(
    parameters: Tensors, gradients: Tensors, moments: dict[str, Tensors], c: Coefficients, corrections: Tensor
) -> None:
    """Applies one step in place: Muon with Nesterov's momentum to matrices, AdamW to all other parameters.

    v += (1 - momentum) * (g - v); w -= rate * (decay * w + r * orthogonalized((1 - momentum) * g + momentum * v)).
    r = 0.2 sqrt(larger side) gives Muon's moves the size of AdamW's, so that both share a rate (`adjust_lr_fn =
    "match_rms_adamw"` of torch.optim.Muon). corrections: [M, 2] float64.
    """
    for name, velocity in moments["momentum"].items():
        parameter, gradient = parameters[name], gradients[name]
        velocity.lerp_(gradient, _column(1 - c.momentum, parameter))
        direction = muon.orthogonalized(gradient.lerp(velocity, _column(c.momentum, parameter)))
        parameter.mul_(_column(1 - c.rate * c.decay, parameter))
        parameter.addcmul_(direction, _column(-c.rate * muon.scale(parameter), parameter))
    adamw_({name: parameters[name] for name in moments["first"]}, gradients, moments, c, corrections)


def _adam_moves_(
    parameters: Tensors, gradients: Tensors, moments: dict[str, Tensors], c: Coefficients, corrections: Tensor
) -> None:
    """Updates the moments of Adam and moves the parameters, in place."""
    dtype = c.rate.dtype
    root2 = corrections[:, 1].sqrt().to(dtype)
    step_size = (c.rate.double() / corrections[:, 0]).to(dtype)
    for name, parameter in parameters.items():
        gradient, first, second = gradients[name], moments["first"][name], moments["second"][name]
        first.lerp_(gradient, _column(1 - c.beta1, parameter))
        second.mul_(_column(c.beta2, parameter)).addcmul_(gradient * _column(1 - c.beta2, parameter), gradient)
        denominator = (second.sqrt() / _column(root2, parameter)).add_(EPSILON)
        parameter.addcdiv_(first * _column(-step_size, parameter), denominator)


def _listed(parameters: Tensors, *others: Tensors) -> list[list[Tensor]]:
    """The tensors of each dict, in the order of the parameters."""
    return [[tensors[name] for name in parameters] for tensors in (parameters, *others)]


def _columns(vector: Tensor, tensors: list[Tensor]) -> list[Tensor]:
    """[M] as [M, 1, ...] for each tensor [M, *shape]: one view for all of a dimension."""
    views = {dims: vector.view(-1, *[1] * (dims - 1)) for dims in dict.fromkeys(t.dim() for t in tensors)}
    return [views[tensor.dim()] for tensor in tensors]


def _column(vector: Tensor, like: Tensor) -> Tensor:
    """[M] as [M, 1, ...], to broadcast with [M, *shape]."""
    return vector.view(-1, *[1] * (like.dim() - 1))
