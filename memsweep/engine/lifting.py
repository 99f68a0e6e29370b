"""One member's function, lifted over all members, with its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap

from memsweep.engine.program import Program
from memsweep.engine.state import map_tensors


def lifted_gradient(program: Program, loss: Callable[..., tuple[Tensor, Any]], wanted: Any, *others: Any) -> Any:
    """Gradient of every member's loss with respect to `wanted`, and what else the loss returns.

    loss: of one member, (wanted, *others) -> (scalar, anything).  wanted: a tensor or a dict of them, members first.
    """
    if program.model.family != "recurrent":
        gradient, (_, rest) = vmap(grad_and_value(loss, has_aux=True))(wanted, *others)
        return gradient, rest
    # the same numbers by autograd around vmap: torch.func's own way takes 4 ms a step to wrap `scan`'s function twice
    leaves: list[Tensor] = []

    def leaf(tensor: Tensor) -> Tensor:
        leaves.append(tensor.detach().requires_grad_())
        return leaves[-1]

    with torch.enable_grad():
        values, rest = vmap(loss)(map_tensors(leaf, wanted), *others)
        found = iter(torch.autograd.grad(values.sum(), leaves, materialize_grads=True))
    return map_tensors(lambda tensor: next(found), wanted), map_tensors(Tensor.detach, rest)
