"""Compiled programs: a function over a whole pack as machine code, compiled once per program, cached on disk.

The number of members, of examples and of stored rows may change between calls; all other sizes belong to the program.
"""

from __future__ import annotations

import time
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import Any

import torch
from torch import Tensor

from memsweep.engine.train import program_files
from memsweep.engine.train.program import Program
from memsweep.engine.train.state import map_tensors

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
        try:
            run, result = tracing.first_call(self.function, self._bound(), values, name)
        except Exception as error:
            if not type(error).__module__.startswith(("torch._dynamo.", "torch._inductor.")):
                raise
            _failed.add(self.program.key)
            self.traced = partial(self.function, self.program)
            warnings.warn(f"runs uncompiled, because torch could not compile it: {error}", stacklevel=2)
            return self.traced(*values)
        if isinstance(run, program_files.Library):
            self.library = run
        else:
            self.traced = run
        return result

    def _bound(self) -> Callable[..., Any]:
        """The function of this program with its own code object, to which torch attaches the compiled code."""
        function, program = self.function, self.program

        def bound(*values: Any) -> Any:
            return function(program, *values)

        code = bound.__code__.replace(co_name=f"{function.__name__}_{next(_numbers)}")
        return types.FunctionType(code, bound.__globals__, code.co_name, None, bound.__closure__)


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
