"""Uncompiled steps without their Python: the operations of a function are recorded once, and repeated by later calls.

Lifting and differentiating a small network takes as long as its operations, and leads to the same operations at each
call with tensors of the same sizes. Their first repetition must have the bits of the function, which runs on the same
numbers; else, and where the function can't be recorded, the function runs as it is.
"""

from __future__ import annotations

import math
import operator
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph
from torch.fx.node import map_aggregate

from memsweep.engine.train.lifting import without_dynamo
from memsweep.engine.train.program import Program
from memsweep.engine.train.state import equal_bits, map_tensors, tensors_of

PATIENCE_SECONDS = 0.05
"""Time that a function runs as it is before it is recorded, about what recording takes: members that leave one after
another change the sizes often."""
LONGEST_SECONDS = 0.05
"""Longest call that is recorded: of a longer call, Python takes too little to pay for copies of its tensors."""
MOST_RECORDINGS = 64
"""Recordings that are kept, those used last."""
ATEN = torch.ops.aten
SAME = {op.default for op in (ATEN.view, ATEN._unsafe_view, ATEN.expand, ATEN.detach, ATEN.alias)}
"""Operations whose result is their first argument, if it has the same sizes."""

Repeat = Callable[[Sequence[Tensor]], Any]
"""Does what the function does, with the tensors of its values; returns its result."""
_entries: dict[tuple[Any, ...], _Entry] = {}
_is_off = False


def call(function: Callable[..., Any], program: Program, *values: Any) -> Any:
    """Returns function(program, *values), by repeating its operations where they are recorded.

    values: dicts and tuples of tensors, which the function may change in place.
    """
    if _is_off or not are_possible(program):
        return _as_it_is(function, program, values)
    tensors = tensors_of(values)
    key = (function, program.key, tuple([(tensor.shape, tensor.stride(), tensor.dtype) for tensor in tensors]))
    entry = _entries[key] = _entries.pop(key) if key in _entries else _Entry()  # last in the order
    while len(_entries) > MOST_RECORDINGS:
        del _entries[next(iter(_entries))]
    return entry.repeat(tensors) if entry.repeat else entry.run(function, program, values, tensors)


@contextmanager
def off() -> Iterator[None]:
    """Runs functions as they are within the block, so that recording them does not disturb times."""
    global _is_off
    before, _is_off = _is_off, True
    try:
        yield
    finally:
        _is_off = before


def are_possible(program: Program) -> bool:
    """Returns whether calls of this program may be recorded: all of its code is built in, fused and on a CPU.

    Recurrent networks are left out: their thousands of operations are not differentiated by torch.
    """
    is_ours = not (program.is_own or program.loss or program.penalty or program.pair or program.members)
    is_fused = program.mode == "fused" and not program.compiled and program.model.family != "recurrent"
    return is_fused and is_ours and program.device.type == "cpu"


class _Entry:
    """A function at certain sizes: how long it has run as it is, and its recording."""

    def __init__(self) -> None:
        self.repeat: Repeat | None = None
        self.problem = ""  # why the function runs as it is though recording it would pay
        self._seconds = 0.0  # of all calls
        self._shortest = math.inf  # call
        self._changed: list[int] = []  # tensors that the last call changed, by position

    def run(self, function: Callable[..., Any], program: Program, values: Any, tensors: Sequence[Tensor]) -> Any:
        """Returns function(program, *values); records the function if that is due.  tensors: those of the values."""
        is_short = self._shortest <= LONGEST_SECONDS
        is_due = self._seconds >= PATIENCE_SECONDS and is_short and not self.problem
        copies = [self._copied(tensors) for _ in range(2)] if is_due else []
        versions, begun = [tensor._version for tensor in tensors], time.perf_counter()
        result = _as_it_is(function, program, values)
        seconds = time.perf_counter() - begun
        copied, self._changed = self._changed, [i for i, t in enumerate(tensors) if t._version != versions[i]]
        self._seconds, self._shortest = self._seconds + seconds, min(self._shortest, seconds)
        if is_due and copied == self._changed:
            try:
                repeat = _recorded(function, program, values, copies[0])
                self._record(repeat, copies[1], (result, self._of_changed(tensors)))
            except Exception as error:
                self.problem = f"{type(error).__name__}: {error}"
        return result

    def _record(self, repeat: Repeat, tensors: Sequence[Tensor], expected: Any) -> None:
        """Keeps a recording if it returns what is expected, and changes these tensors so.  Raises errors of torch."""
        if equal_bits((repeat(tensors), self._of_changed(tensors)), expected):
            self.repeat = repeat
        else:
            self.problem = "its repetition has other bits"

    def _of_changed(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(tensors[i] for i in self._changed)

    def _copied(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return [tensor.clone() if i in self._changed else tensor for i, tensor in enumerate(tensors)]


class _Recorder(torch.utils._python_dispatch.TorchDispatchMode):  # where torch documents it
    """Records the operations that torch runs, below lifting and differentiation."""

    def __init__(self, inputs: Sequence[Tensor]):
        super().__init__()  # type: ignore[no-untyped-call]
        self._graph = Graph()
        self._constants: dict[str, Tensor] = {}
        self._nodes = {id(tensor): self._graph.placeholder(f"input_{i}") for i, tensor in enumerate(inputs)}
        self._alive = list(inputs)  # all tensors, since the id of a deleted tensor may name another

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Returns False: torch would import Dynamo, which takes a second, to keep it from compiling this class."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs an operation and records it.  Raises TypeError if it returns numbers, which may steer the function."""
        result = func(*args, **(kwargs or {}))
        if func in SAME and result.shape == args[0].shape and result.stride() == args[0].stride():
            self._bind(result, self._node_of(args[0]))
            return result
        node = self._graph.call_function(func, *map_aggregate((args, kwargs or {}), self._node_of))
        if isinstance(result, tuple | list):
            for number, part in enumerate(result):
                if part is not None:
                    self._bind(part, self._graph.call_function(operator.getitem, (node, number)))
        elif result is not None:
            self._bind(result, node)
        return result

    def finished(self, results: Sequence[Tensor]) -> Callable[..., Sequence[Tensor]]:
        """Returns a function of the inputs that runs the operations, and returns these results.

        Raises KeyError if no operation made a result.
        """
        self._graph.output([self._nodes[id(tensor)] for tensor in results])
        code = self._graph.python_code("self")  # a GraphModule keeps its code for good
        names = dict(code.globals)
        exec(code.src, names)
        return partial(names["forward"], SimpleNamespace(**self._constants))

    def _bind(self, tensor: Any, node: Any) -> None:
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{node} returns a {type(tensor).__name__}; only tensors can be recorded")
        self._nodes[id(tensor)] = node
        self._alive.append(tensor)

    def _node_of(self, value: Any) -> Any:
        """Returns the node of a tensor, a constant if no operation made it; other values as they are."""
        if not isinstance(value, Tensor):
            return value
        if id(value) not in self._nodes:
            name = f"constant_{len(self._constants)}"
            self._constants[name] = value
            self._bind(value, self._graph.get_attr(name))
        return self._nodes[id(value)]


def _as_it_is(function: Callable[..., Any], program: Program, values: Any) -> Any:
    with without_dynamo():
        return function(program, *values)


def _recorded(function: Callable[..., Any], program: Program, values: Any, tensors: Sequence[Tensor]) -> Repeat:
    """Returns the repetition of a function, which runs once on these tensors, in the places of those of the values.

    Raises TypeError, KeyError, or an error of torch where it can't be recorded.
    """
    given = iter(tensors)
    placed = map_tensors(lambda _: next(given), values)
    with _Recorder(tensors) as recorder:
        result = _as_it_is(function, program, placed)
    forward = recorder.finished(tensors_of(result))
    form = map_tensors(lambda tensor: tensor.new_empty(0), result)

    def repeat(tensors: Sequence[Tensor]) -> Any:
        results = iter(forward(*tensors))
        return map_tensors(lambda _: next(results), form)

    return repeat
