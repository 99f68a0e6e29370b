"""Compiled programs: a function over a whole pack as machine code, compiled once per program, cached on disk.

The number of members, of examples and of stored rows may change between calls; all other sizes belong to the program.
"""

from __future__ import annotations

import time
import types
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from memsweep.engine.train.program import Program
from memsweep.engine.train.state import map_tensors

_compiled: dict[tuple[Any, ...], Callable[..., Any]] = {}
_failed: set[tuple[object, ...]] = set()

seconds_spent = 0.0
"""Seconds of first calls in this process, which compile."""


def call(function: Callable[..., Any], program: Program, members: int, first: Any, *others: Any) -> Any:
    """Returns function(program, first, *others), compiled if the program is; the first call then takes seconds.

    first, others: dicts or named tuples of tensors, members first; the function may change `first` in place.
    """
    if not program.compiled:
        return function(program, first, *others)
    if members > 1:
        return _call_compiled(function, program, first, *others)
    # duplicate a lone member, because torch specializes on size 1
    twins = [map_tensors(_doubled, value) for value in (first, *others)]
    result = _call_compiled(function, program, *twins)
    map_tensors(lambda one, two: one.copy_(two[:1]) if len(one) == 1 else one, first, twins[0])
    return map_tensors(lambda two: two[:1], result)


def _doubled(tensor: Tensor) -> Tensor:
    return torch.cat([tensor, tensor]) if len(tensor) == 1 else tensor


def _call_compiled(function: Callable[..., Any], program: Program, *values: Any) -> Any:
    global seconds_spent
    key = (function, *program.key)
    if key in _compiled:
        return _compiled[key](*values)
    begun = time.perf_counter()
    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = 10_000
    for value in values:
        map_tensors(_mark_sizes_that_change, value)
    try:
        options: dict[str, Any] = {"guard_filter_fn": _kept_guards}
        _compiled[key] = torch.compile(_bound(function, program), fullgraph=True, options=options)
        return _compiled[key](*values)
    except Exception as error:
        if not type(error).__module__.startswith(("torch._dynamo.", "torch._inductor.")):
            raise
        _failed.add(program.key)
        _compiled[key] = partial(function, program)
        warnings.warn(f"runs uncompiled, because torch could not compile it: {error}", stacklevel=2)
        return _compiled[key](*values)
    finally:
        seconds_spent += time.perf_counter() - begun


def _kept_guards(entries: Sequence[Any]) -> list[bool]:
    """The guards that torch checks before each call: the tensors' types and sizes; the program's key covers all else.

    A thousand other guards, of modules and closures, take 0.3 ms a call, which is 5 us a member step. They would also
    distinguish programs made of the same function; `_bound` does that instead.
    """
    return [entry.guard_type in ("TENSOR_MATCH", "SHAPE_ENV") for entry in entries]


def _bound(function: Callable[..., Any], program: Program) -> Callable[..., Any]:
    """The function of this program with its own code object, to which torch attaches the compiled code."""

    def bound(*values: Any) -> Any:
        return function(program, *values)

    code = bound.__code__.replace(co_name=f"{function.__name__}_{len(_compiled)}")
    return types.FunctionType(code, bound.__globals__, code.co_name, None, bound.__closure__)


def is_compiled(program: Program) -> bool:
    """Returns whether the program is to be compiled, and torch has not failed to compile it."""
    return program.compiled and program.key not in _failed


def _mark_sizes_that_change(tensor: Tensor) -> None:
    """Members or rows come first; labels [M, N] have as many columns as the largest member has examples."""
    torch._dynamo.maybe_mark_dynamic(tensor, 0)
    if tensor.dim() == 2 and tensor.dtype in (torch.int64, torch.bool):
        torch._dynamo.maybe_mark_dynamic(tensor, 1)
