"""Compiled programs: a function over a whole pack as machine code, compiled once per program, cached on disk.

The number of members, of examples and of stored rows may change between calls; all other sizes belong to the program.
"""

from __future__ import annotations

import math
import time
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count, zip_longest
from typing import Any

import torch
from torch import Tensor

from memsweep.engine.train import program_files, recordings
from memsweep.engine.train.program import Program
from memsweep.engine.train.state import map_tensors, tensors_of

COMPARED_DEVICES = ("cuda",)
"""Types of devices where the first call of a compiled function is compared with the function as it is."""
TOLERANCES = {torch.float64: 1e-5, torch.float32: 1e-2}
"""Largest difference in that call, relative to a tensor's largest change: kernels round otherwise, and an activation at
its kink may fall to either side. Of integers and truth values, this share may differ."""
_compiled: dict[tuple[Any, ...], _Compiled] = {}
_failed: set[tuple[object, ...]] = set()
_numbers = count()

seconds_spent = 0.0
"""Seconds of first calls in this process, which compile or load."""


def call(function: Callable[..., Any], program: Program, members: int, first: Any, *others: Any) -> Any:
    """Returns function(program, first, *others), compiled if the program is.

    The first call takes milliseconds where the disk has the program, else seconds.
    first, others: dicts or named tuples of tensors, members first; the function may change `first` in place.
    """
    if not program.compiled:
        return recordings.call(function, program, first, *others)
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
    key = (function, *program.key)
    if key not in _compiled:
        _compiled[key] = _Compiled(function, program, values)
    return _compiled[key](*values)


class _Compiled:
    """A function of a program: a library of the disk where one fits the call, else what torch traces."""

    def __init__(self, function: Callable[..., Any], program: Program, values: Sequence[Any]):
        self.function = function
        self.program = program
        self.traced: Callable[..., Any] | None = None
        with _charged():
            self.name = program_files.name_of(function, program, values)
            self.library = program_files.load(function, self.name) if self.name else None

    def __call__(self, *values: Any) -> Any:
        if self.library is not None and (inputs := self.library.inputs(*values)) is not None:
            return self.library.run(inputs)
        if self.traced is not None:
            return self.traced(*values)
        with _charged():
            return self._trace(values)

    def _trace(self, values: Sequence[Any]) -> Any:
        from memsweep.engine.train import tracing  # takes 1.7 s, and is not needed where the disk has the program

        name = None if self.library else self.name  # a library that does not fit these sizes stays
        before, copies, expected = self._expected(values)
        try:
            run, result = tracing.first_call(self.function, self._bound(), values, name)
        except Exception as error:
            if not type(error).__module__.startswith(("torch._dynamo.", "torch._inductor.", "triton.")):
                raise
            return self._uncompiled(f"torch could not compile it: {error}", values, copies, expected)
        is_compared = before is not None
        if is_compared and (apart := _apart((copies[0], expected), (values[0], result), before, self.program.dtype)):
            return self._uncompiled(f"its compiled numbers differ by {apart:.1e}", values, copies, expected)
        if isinstance(run, program_files.Library):
            self.library = run
        else:
            self.traced = run
        return result

    def _expected(self, values: Sequence[Any]) -> tuple[Any, list[Any], Any]:
        """Returns copies of the first value before the call and of all after it, uncompiled, and the result.

        None, empty, None where the call is not compared.
        """
        if self.program.device.type not in COMPARED_DEVICES:
            return None, [], None
        before, *copies = (map_tensors(torch.clone, value) for value in (values[0], *values))
        return before, copies, self.function(self.program, *copies)

    def _uncompiled(self, reason: str, values: Sequence[Any], copies: Sequence[Any], expected: Any) -> Any:
        """Makes the program run uncompiled from now on; returns the result of this call.

        copies, expected: as from `_expected`.
        """
        _failed.add(self.program.key)
        self.traced = partial(self.function, self.program)
        warnings.warn(f"runs uncompiled, because {reason}", stacklevel=3)
        if not copies:
            return self.traced(*values)
        map_tensors(lambda value, numbers: value.copy_(numbers), values[0], copies[0])
        return expected

    def _bound(self) -> Callable[..., Any]:
        """The function of this program with its own code object, to which torch attaches the compiled code."""
        function, program = self.function, self.program

        def bound(*values: Any) -> Any:
            return function(program, *values)

        code = bound.__code__.replace(co_name=f"{function.__name__}_{next(_numbers)}")
        return types.FunctionType(code, bound.__globals__, code.co_name, None, bound.__closure__)


def _apart(expected: Any, compiled: Any, before: Any, dtype: torch.dtype) -> float:
    """Returns the largest difference of tensors of these dicts and tuples that exceeds TOLERANCES; 0: none does.

    before: the same tensors before the call, whose changes are compared; fewer or none: those of results are compared.
    """
    largest, limit = 0.0, 16 * torch.finfo(dtype).eps  # the rounding of weights may be more than their change
    for one, two, old in zip_longest(tensors_of(expected), tensors_of(compiled), tensors_of(before)):
        if not one.numel():
            continue
        if one.is_floating_point():
            size, change = (_size(value) for value in (one, one if old is None else one - old))
            is_same = (one == two) | (one.isnan() & two.isnan())
            difference = ((two - one).abs() - limit * size).clamp(min=0) / max(change, 1e-30)
            largest = max(largest, torch.where(is_same, 0.0, difference).nan_to_num(math.inf).max().item())
        else:
            largest = max(largest, (one != two).double().mean().item())
    return largest if largest > TOLERANCES[dtype] else 0.0


def _size(values: Tensor) -> float:
    """Returns the largest finite number without its sign."""
    return values.nan_to_num(0.0, 0.0, 0.0).abs().max().item()


@contextmanager
def _charged() -> Iterator[None]:
    global seconds_spent
    begun = time.perf_counter()
    try:
        yield
    finally:
        seconds_spent += time.perf_counter() - begun


def is_compiled(program: Program) -> bool:
    """Returns whether the program is to be compiled, and torch has not failed to compile it."""
    return program.compiled and program.key not in _failed


def is_loadable(program: Program) -> bool:
    """Returns whether the next process loads each function of this program that has been called here from the disk."""
    called = [compiled for key, compiled in _compiled.items() if key[1:] == program.key]
    return bool(called) and all(compiled.library is not None for compiled in called)
