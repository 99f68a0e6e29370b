"""Compiled programs on disk: a process loads them in milliseconds, without importing torch's compiler.

A program is a shared library made by torch's AOTInductor, named by the hash of its content, and a record, named by a
hash of all that determines the program. The record holds which tensors of a call are the library's inputs, which of
their sizes may change, and which outputs are the result. Both lie in torch's folder of compiled programs.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import torch
from torch import Tensor

from memsweep.engine.train.program import Program
from memsweep.engine.train.state import tensors_of
from memsweep.spec import compiled_code

FORMAT = 1
"""Number of the records' format; records of another number have other names."""
ROOMS = ("engine", "data", "spec")
"""Packages whose code a step may run."""


class Input(NamedTuple):
    """One input of a library."""

    leaf: int  # its place among the tensors of a call, in the order of `tensors_of`
    dtype: str
    sizes: tuple[int | str, ...]  # a number is fixed; sizes of the same name are equal


class Record(NamedTuple):
    """How a function is called through its library."""

    library: str  # hash of the library's content
    leaf_count: int  # tensors of a call
    inputs: tuple[Input, ...]
    limits: dict[str, tuple[int, int | None]]  # name of a size -> its least and largest value; None: no limit
    orders: tuple[tuple[str, str], ...]  # names of two sizes, of which the first is at most the second
    outputs: tuple[int, ...]  # of the library, in the order of the result's tensors


class Library:
    """A loaded program: `library(*values)` returns the function's result, and changes values in place as it does."""

    def __init__(self, function: Callable[..., Any], record: Record, path: Path):
        self.record = record
        result = get_type_hints(function)["return"]
        self._tuple = result if hasattr(result, "_fields") else None  # None: the result is one tensor
        self._leaves = [given.leaf for given in record.inputs]
        self._fitting: set[tuple[Any, ...]] = set()
        self._run = torch._C._aoti.AOTIModelContainerRunnerCpu(str(path), 1).run

    def inputs(self, *values: Any) -> list[Tensor] | None:
        """Returns the library's inputs in these values; None where a type or a size is not the program's."""
        leaves = tensors_of(values)
        if len(leaves) != self.record.leaf_count:
            return None
        inputs = [leaves[leaf] for leaf in self._leaves]
        kinds = tuple([(tensor.shape, tensor.dtype, is_plain(tensor)) for tensor in inputs])
        if kinds not in self._fitting:
            if not self._fits(inputs):
                return None
            self._fitting.add(kinds)
        return inputs

    def run(self, inputs: list[Tensor]) -> Any:
        """Returns the function's result.  inputs: as from `inputs`."""
        outputs = self._run(inputs)
        result = [outputs[place] for place in self.record.outputs]
        return result[0] if self._tuple is None else self._tuple(*result)

    def _fits(self, inputs: Sequence[Tensor]) -> bool:
        sizes: dict[str, int] = {}
        for tensor, (_, dtype, expected) in zip(inputs, self.record.inputs, strict=True):
            if not is_plain(tensor) or str(tensor.dtype) != dtype or tensor.dim() != len(expected):
                return False
            for size, wanted in zip(tensor.shape, expected, strict=True):
                if size != (sizes.setdefault(wanted, size) if isinstance(wanted, str) else wanted):
                    return False
        limits = ((sizes[name], *limit) for name, limit in self.record.limits.items())
        in_limits = all(least <= size and (most is None or size <= most) for size, least, most in limits)
        return in_limits and all(sizes[small] <= sizes[large] for small, large in self.record.orders)


def is_plain(tensor: Tensor) -> bool:
    """Returns whether a tensor lies on the CPU, row after row, and needs no gradient."""
    return tensor.is_cpu and tensor.is_contiguous() and not tensor.requires_grad


def folder() -> Path:
    """Returns the folder of records and libraries; it may not exist yet."""
    return compiled_code.folder() / "programs"


def name_of(function: Callable[..., Any], program: Program, values: Sequence[Any]) -> str | None:
    """Returns the name of a program's record: a hash of all that determines its machine code.

    None where the program is not kept on disk: it runs a user's code or another device, or memsweep's code has been
    edited since this process began.
    """
    is_ours = not (program.is_own or program.loss or program.penalty or program.pair or program.has_objects)
    if not is_ours or program.device.type != "cpu" or (code := _code()) is None:
        return None
    fields = [sorted(value) if isinstance(value, frozenset) else value for value in program.key]
    facts = [FORMAT, code, _processor(), *_torch(), function.__name__, fields]
    content = "\n".join([*map(repr, facts), *_described(values, "")])
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def load(function: Callable[..., Any], name: str) -> Library | None:
    """Returns the function's program of this name; None where it is not on disk, or damaged."""
    try:
        library, count, inputs, limits, orders, outputs = json.loads((folder() / f"{name}.json").read_text("utf-8"))
        path = folder() / f"{library}.so"
        if digest(path) != library:  # a shortened file would end the process
            return None
        parts = tuple(Input(leaf, dtype, tuple(sizes)) for leaf, dtype, sizes in inputs)
        limits = {size: tuple(limit) for size, limit in limits.items()}
        record = Record(library, count, parts, limits, tuple(map(tuple, orders)), tuple(outputs))
        return Library(function, record, path)
    except (OSError, ValueError, TypeError, AttributeError, RuntimeError):
        return None


def save(name: str, record: Record, library: Path) -> None:
    """Moves a library into the folder and writes its record; a process that reads meanwhile sees both or neither.

    Where the folder can't be written, nothing is kept.
    """
    with suppress(OSError):
        folder().mkdir(parents=True, exist_ok=True)
        os.replace(library, folder() / f"{record.library}.so")
        with tempfile.NamedTemporaryFile("w", dir=folder(), suffix=".tmp", encoding="utf-8", delete=False) as file:
            json.dump(record, file)
        os.replace(file.name, folder() / f"{name}.json")


def digest(path: Path) -> str:
    """Returns the hash of a file's content, 32 hexadecimal digits.  Raises OSError."""
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


def _described(value: Any, path: str) -> Iterator[str]:
    """Yields the place, the type and the rank of each tensor.

    Sizes are 0, 1 or more here: torch fixes a size of 0 or 1. Other fixed sizes follow from the program; the record has
    them.
    """
    if isinstance(value, Tensor):
        yield f"{path} {value.dtype} {[min(size, 2) for size in value.shape]} {is_plain(value)}"
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from _described(part, f"{path}/{name}")
    elif isinstance(value, tuple | list):
        for name, part in zip(getattr(value, "_fields", range(len(value))), value, strict=True):
            yield from _described(part, f"{path}/{name}")


@cache
def _code() -> str | None:
    return compiled_code.source(ROOMS)


@cache
def _processor() -> tuple[str, ...]:
    """Returns what the compiler's choice of instructions depends on."""
    lines = compiled_code.processor(("model name", "flags"))
    return (platform.machine(), torch.backends.cpu.get_cpu_capability(), *lines)


def _torch() -> Iterator[object]:
    """Yields torch's version, and what changes how it compiles."""
    yield from (torch.__version__, torch.version.git_version, torch.get_num_threads(), torch.get_default_dtype())
    yield from (torch.are_deterministic_algorithms_enabled(), torch.is_grad_enabled())
    names = (name for name in sorted(os.environ) if name.startswith(("TORCHINDUCTOR_", "CXX")))
    yield [(name, os.environ[name]) for name in names if name != "TORCHINDUCTOR_CACHE_DIR"]
