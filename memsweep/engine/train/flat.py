"""One member's parameters, gradients and moments side by side in memory: an update is one operation for all of them.

Only for optimizers that move each number by itself; their bits are those of an update a parameter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from memsweep.engine.train.optim import Tensors
from memsweep.engine.train.state import State

ALIGNED_BYTES = 64
"""Parameters begin at multiples of it, as in memory of their own."""


class Flat(NamedTuple):
    """Numbers of a member, [1, P], with zeros between parameters."""

    parameters: Tensor
    gradients: Tensor
    moments: Tensors
    parts: Tensors  # parameter -> its part of `gradients`, [1, *shape]
    rows: Tensors  # the same, [*shape]

    def filled(self, gradients: Mapping[str, Tensor]) -> Tensors:
        """Copies gradients [*shape] to this memory; returns its parts."""
        torch._foreach_copy_([self.rows[name] for name in gradients], list(gradients.values()))
        return self.parts


def flattened(one: State) -> tuple[State, Flat]:
    """Returns the state of one member with parameters and moments in new memory, and that memory."""
    parameters, views = _side_by_side(one.parameters)
    moments = {name: _side_by_side(tensors) for name, tensors in one.moments.items()}
    gradients = torch.zeros_like(parameters)
    parts = _parts(gradients, views)
    wholes = {name: whole for name, (whole, _) in moments.items()}
    flat = Flat(parameters, gradients, wholes, parts, {name: part[0] for name, part in parts.items()})
    return one._replace(parameters=views, moments={name: tensors for name, (_, tensors) in moments.items()}), flat


def copy_back(changed: State, one: State) -> None:
    """Copies parameters and moments of a flattened state to the state that it was made of."""
    for new, old in zip(
        (changed.parameters, *changed.moments.values()), (one.parameters, *one.moments.values()), strict=True
    ):
        torch._foreach_copy_(list(old.values()), [new[name] for name in old])


def _side_by_side(tensors: Tensors) -> tuple[Tensor, Tensors]:
    """Returns copies of these tensors [1, *shape] in one tensor [1, P], and as its parts."""
    first = next(iter(tensors.values()))
    step = ALIGNED_BYTES // first.element_size()
    whole = first.new_zeros(1, sum(-(-tensor.numel() // step) * step for tensor in tensors.values()))
    views = _parts(whole, tensors)
    torch._foreach_copy_(list(views.values()), list(tensors.values()))
    return whole, views


def _parts(whole: Tensor, like: Tensors) -> Tensors:
    """Returns the parts of [1, P] that have these shapes."""
    step, begin, views = ALIGNED_BYTES // whole.element_size(), 0, Tensors()
    for name, tensor in like.items():
        views[name] = whole[:, begin : begin + tensor.numel()].view(tensor.shape)
        begin += -(-tensor.numel() // step) * step
    return views
