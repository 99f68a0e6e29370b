"""One member's function, lifted over all members, with its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from memsweep.engine.train.optim import Tensors
from memsweep.engine.train.program import Program
from memsweep.engine.train.state import map_tensors


def call(program: Program, module: nn.Module, numbers: Tensors, inputs: Tensor, **changes: Any) -> Tensor:
    """What one member's module answers with these numbers; buffers that it replaces are replaced in `numbers`.

    Where a sub-module has several names, torch's functional_call would leave numbers of one call behind in the module.
    """
    if not program.places:
        answer: Tensor = functional_call(module, numbers, (inputs,), changes)
        return answer
    given = {place: numbers[name] for place, name in program.places}
    answer = functional_call(module, given, (inputs,), changes, tie_weights=False)
    numbers.update({name: given[name] for name in numbers})
    return answer


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
