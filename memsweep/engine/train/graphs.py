"""Many kernels of a GPU as one launch: a function over tensors is captured as a CUDA graph, and replayed.

Starting the kernels of a small network takes longer than running them; a graph starts those of sixteen steps, or of an
evaluation, at once. It reads and writes buffers of its own: the tensors of a call are copied in, and those that the
function changes are copied out. Its first replay must have the bits of the function, which runs on copies of the same
tensors; else, and where the function can't be captured, the function runs as it is. On a CPU it always does.
"""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from memsweep.engine.train.program import Program
from memsweep.engine.train.state import equal_bits, map_tensors, tensors_of

STEPS = 16
"""Steps of training in a launch."""
WARM_CALLS = 3
"""Calls at the same sizes before a function is captured: they compile it, and libraries take the memory they need."""
MOST_GRAPHS = 8
"""Graphs that are kept, those used last."""
MEMORY_SHARE = 0.25
"""Largest share of the free memory for the buffers of a graph, and as much again for what it computes."""
WAITING = 1.5
"""A call is bound by its device if the device is done after this many times the time of starting the kernels."""


class Backend(Protocol):
    """What captures work of a device."""

    def captured(self, work: Callable[[], None]) -> Callable[[], None]:
        """Returns a function that repeats the kernels of the work, which does not run meanwhile."""

    def synchronize(self) -> None:
        """Waits until the device is done."""

    def free_bytes(self) -> int:
        """Returns the free memory of the device."""


class Cuda:
    """CUDA graphs."""

    def captured(self, work: Callable[[], None]) -> Callable[[], None]:
        """Returns the replay of a graph of the work.  Raises RuntimeError for work that reads numbers on the host."""
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            with torch.cuda.graph(graph):
                work()
        finally:
            torch.cuda.set_stream(stream)  # a capture that fails may leave its own
        return graph.replay

    def synchronize(self) -> None:
        """Waits until the GPU is done."""
        torch.cuda.synchronize()

    def free_bytes(self) -> int:
        """Returns the free memory of the GPU."""
        return int(torch.cuda.mem_get_info()[0])


class Captured:
    """A function over tensors of certain sizes, as a graph."""

    def __init__(self, backend: Backend, work: Callable[..., Any], buffers: Any, expected: Any):
        """Captures work(*buffers), which does not run yet.  expected: its result, for types and sizes."""
        self.buffers = buffers
        self.result = map_tensors(torch.empty_like, expected)
        self.work = work  # kept: the graph reads the constants of its modules
        self._tensors = tensors_of(self.buffers)
        self._sources: list[tuple[weakref.ref[Tensor], int] | None] = [None] * len(self._tensors)

        def into_result() -> None:
            map_tensors(Tensor.copy_, self.result, work(*self.buffers))

        self.replay = backend.captured(into_result)

    def __call__(self, tensors: list[Tensor], changed: set[int], constant: set[int]) -> Any:
        """Returns the function's result for these tensors; changed, constant: ids, as in `call`."""
        rows = list(zip(self._tensors, tensors, strict=True))
        stale = [i for i, tensor in enumerate(tensors) if id(tensor) not in constant or not self._holds(i, tensor)]
        _copy([rows[i][0] for i in stale], [rows[i][1] for i in stale])
        self.replay()
        self._sources = [(weakref.ref(tensor), tensor._version) for tensor in tensors]
        copied = [row for row in rows if id(row[1]) in changed]
        _copy([tensor for _, tensor in copied], [buffer for buffer, _ in copied])
        return map_tensors(torch.clone, self.result)

    def _holds(self, place: int, tensor: Tensor) -> bool:
        """Returns whether the buffer at this place has the tensor's numbers."""
        source = self._sources[place]
        return source is not None and source[0]() is tensor and source[1] == tensor._version


class Entry:
    """A function at certain sizes: how often it was called, and its graph."""

    def __init__(self) -> None:
        self.calls = 0
        self.waiting = math.inf  # shortest time of a call, in times of starting its kernels
        self.graph: Captured | None = None


BACKENDS: dict[str, Backend] = {"cuda": Cuda()}
"""Type of a device -> what captures its work."""
replayed_steps = 0
"""Steps of packs that graphs ran in this process."""
_entries: dict[tuple[Any, ...], Entry] = {}
_problems: dict[tuple[object, ...], str] = {}  # key of a program -> why it has no graphs
_bound: set[tuple[Any, ...]] = set()  # (function, key of a program) whose calls are bound by their device
_is_off = False


def are_possible(program: Program) -> bool:
    """Returns whether steps of this program may be captured: all of its code is built in, and its device can do it."""
    is_ours = not (program.is_own or program.loss or program.penalty or program.pair or program.members)
    is_open = program.key not in _problems and not _is_off
    return program.device.type in BACKENDS and program.mode == "fused" and is_ours and is_open


def problem(program: Program) -> str:
    """Returns why graphs of this program are not used; empty: they may be used, or are not possible at all."""
    return _problems.get(program.key, "")


def turn_off() -> bool:
    """Releases all graphs and uses none from now on, where memory ran out; returns whether there were any."""
    global _is_off
    if not any(entry.graph for entry in _entries.values()):
        return False
    _entries.clear()
    _is_off = True
    return True


def call(
    function: Callable[..., Any],
    program: Program,
    *values: Any,
    changed: Any = (),
    constant: Any = (),
    steps: int = 0,
) -> Any:
    """Returns function(program, *values), from a graph where there is one.

    values: dicts and tuples of tensors on the program's device.  changed: those that the function changes in place.
    constant: those that nothing changes in place.  steps: that the call counts in `replayed_steps`.
    """
    global replayed_steps
    if not are_possible(program) or (function, program.key) in _bound:
        return function(program, *values)
    tensors = tensors_of(values)
    key = (function, program.key, tuple([(tensor.shape, tensor.stride(), tensor.dtype) for tensor in tensors]))
    entry = _entries[key] = _entries.pop(key) if key in _entries else Entry()  # last in the order
    while len(_entries) > MOST_GRAPHS:
        del _entries[next(iter(_entries))]
    if entry.graph is not None:
        replayed_steps += steps
        return entry.graph(tensors, _ids(changed), _ids(constant))
    entry.calls += 1
    if entry.calls <= WARM_CALLS:
        return _timed(entry, function, program, values)
    return _first_replay(entry, function, program, values, changed, steps)


def _timed(entry: Entry, function: Callable[..., Any], program: Program, values: Any) -> Any:
    """Returns function(program, *values); notes whether its device takes longer than starting its kernels."""
    backend = BACKENDS[program.device.type]
    backend.synchronize()
    begun = time.perf_counter()
    result = function(program, *values)
    starting = time.perf_counter() - begun
    backend.synchronize()
    if entry.calls > 1:  # the first may compile
        entry.waiting = min(entry.waiting, (time.perf_counter() - begun) / starting)
    if entry.calls == WARM_CALLS and entry.waiting > WAITING:
        _bound.add((function, program.key))
    return result


def _first_replay(
    entry: Entry, function: Callable[..., Any], program: Program, values: Any, changed: Any, steps: int
) -> Any:
    """Returns function(program, *values), and captures it for later calls if its graph gives the same bits."""
    global replayed_steps
    backend = BACKENDS[program.device.type]
    if 2 * sum(tensor.nbytes for tensor in tensors_of(values)) > MEMORY_SHARE * backend.free_bytes():
        _problems[program.key] = "too little free memory"
        return function(program, *values)
    before = map_tensors(torch.clone, values)
    expected = function(program, *values)
    try:
        graph = Captured(backend, lambda *buffers: function(program, *buffers), before, expected)
        graph.replay()
        is_same = equal_bits((graph.buffers, graph.result), (values, expected))
    except Exception as error:  # of the capture, or no memory for it
        _problems[program.key] = f"{type(error).__name__}: {error}".partition("\n")[0]
    else:
        if is_same:
            entry.graph = graph
        else:
            _problems[program.key] = "the first replay had other bits"
    return expected


def _ids(value: Any) -> set[int]:
    return {id(tensor) for tensor in tensors_of(value)}


def _copy(targets: list[Tensor], sources: list[Tensor]) -> None:
    """Copies tensors, those of a type by one kernel."""
    if targets:
        torch._foreach_copy_(targets, sources)
