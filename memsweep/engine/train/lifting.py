"""Lifts one member's function over all members, and computes its gradient."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from memsweep.engine.train.draws import Replay
from memsweep.engine.train.optim import Tensors
from memsweep.engine.train.program import Program
from memsweep.engine.train.state import map_tensors


def call(
    program: Program,
    module: nn.Module,
    numbers: Tensors,
    inputs: Tensor,
    drawn: Iterable[Tensor] = (),
    **changes: Any,
) -> Tensor:
    """Returns the output of one member's module with these numbers; buffers that it replaces are replaced in `numbers`.

    drawn: random numbers that the module draws itself, one draw after another.
    Where a sub-module has several names, torch's functional_call would leave numbers of a call in the module.
    """
    given = {place: numbers[name] for place, name in program.places} or numbers
    with Replay(iter(drawn)) if program.draws.is_replaced else nullcontext():
        answer = under_autocast(
            program, functional_call, module, given, (inputs,), changes, tie_weights=given is numbers
        )
    if given is not numbers:
        numbers.update({name: given[name] for name in numbers})
    return answer


def under_autocast(program: Program, network: Callable[..., Tensor], *args: Any, **changes: Any) -> Tensor:
    """Returns a network's output: under torch.autocast, in single precision, if the program has a type for it."""
    if program.autocast is None:
        return network(*args, **changes)
    # without the cache of casts, which would outlive a call of vmap
    with torch.autocast(program.device.type, program.autocast, cache_enabled=False):
        return network(*args, **changes).to(program.dtype)


class _Lazy:
    """Stands in for a module that is not imported: has these attributes, and imports the module for others."""

    def __init__(self, module: str, **attributes: Any):
        self._module = module
        self._attributes = attributes

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # as of copy and pickle
            raise AttributeError(name)
        if name in self._attributes and self._module not in sys.modules:
            return self._attributes[name]
        return getattr(importlib.import_module(self._module), name)


@contextmanager
def without_dynamo() -> Iterator[None]:
    """Keeps torch.func.grad from importing Dynamo, which takes a second, to disable Dynamo's compiled autograd.

    Where Dynamo is not imported, no compiled autograd is enabled.
    """
    if "torch._dynamo" in sys.modules:
        yield
        return
    autograd = _Lazy("torch._dynamo.compiled_autograd", _disable=nullcontext)
    vars(torch)["_dynamo"] = stand_in = _Lazy("torch._dynamo", compiled_autograd=autograd)
    try:
        yield
    finally:
        if vars(torch).get("_dynamo") is stand_in:
            del vars(torch)["_dynamo"]


def lifted_gradient(program: Program, loss: Callable[..., tuple[Tensor, Any]], wanted: Any, *others: Any) -> Any:
    """Returns the gradient of every member's loss with respect to `wanted`, and the loss's second result.

    loss: of one member, (wanted, *others) -> (scalar, anything).  wanted: a tensor or a dict of tensors, members first.
    """
    if program.model.family != "recurrent":
        gradient, (_, rest) = vmap(grad_and_value(loss, has_aux=True))(wanted, *others)
        return gradient, rest
    # autograd around vmap gives the same numbers; torch.func would take 4 ms a step to wrap `scan`'s function twice
    leaves: list[Tensor] = []

    def leaf(tensor: Tensor) -> Tensor:
        leaves.append(tensor.detach().requires_grad_())
        return leaves[-1]

    with torch.enable_grad():
        values, rest = vmap(loss)(map_tensors(leaf, wanted), *others)
        gradients = iter(torch.autograd.grad(values.sum(), leaves, materialize_grads=True))
    return map_tensors(lambda tensor: next(gradients), wanted), map_tensors(Tensor.detach, rest)
