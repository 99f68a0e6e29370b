"""The pool of a user's own task: called, checked, its labels numbered as classes, and what is unusual about it.

The task is a function `(config, rng) -> (inputs [R, D], labels [R])`. `config` is `data.*` without noise and the seed
of `inputs`; the rest is left at its defaults, so that it cannot move the data.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from memsweep.data.noise import Array
from memsweep.data.texts import DataError
from memsweep.spec.config import ConfigError, Data, TrialConfig, imported
from memsweep.spec.seeds import generator

LARGEST, SMALLEST = 10.0, 0.01
"""Bounds of the root mean square of a column of inputs: networks are made for numbers of about 1."""
NAMED = 10
"""Labels that a sentence lists at most."""
BYTE = 255


class Custom(NamedTuple):
    """What is known of a user's pool once it is made."""

    class_labels: tuple[int, ...] = ()  # [K] the task's own label of each class; (): 0...K-1
    fingerprint: str = ""  # 16 hexadecimal digits over all of the pool
    remarks: tuple[str, ...] = ()  # what is unusual about it, one sentence each


class Pool(NamedTuple):
    """All examples of a task."""

    inputs: Array  # [R, D], not yet scaled
    labels: Array  # [R] int64, 0...K-1
    custom: Custom = Custom()


@lru_cache(maxsize=8)
def pool_of_user(data: Data, seed: int) -> Pool:
    """Return the pool of a user's own task. Classes are the labels that occur, in ascending order.

    Raises DataError with all that is wrong with what the task returns.
    """
    where, (inputs, labels) = f"data.task = {data.task!r}", _call(data, seed)
    rows = len(inputs) if inputs.ndim else 0
    if problems := [*_input_problems(where, inputs), *_label_problems(where, labels, rows)]:
        raise DataError("\n".join(problems))
    values, numbers = np.unique(labels, return_inverse=True)
    class_labels = tuple(map(int, values))
    if class_labels == tuple(range(len(values))):
        class_labels = ()
    remarks = [*_input_remarks(inputs)]
    if data.validation_examples or data.test_examples:
        remarks += _copy_remarks(inputs)
    if data.label_scheme == "task":
        remarks += _label_remarks(values, class_labels, rows)
    pool = Pool(inputs.astype(np.float32), numbers.astype(np.int64))
    fingerprint = _fingerprint(pool, class_labels)
    return pool._replace(custom=Custom(class_labels, fingerprint, tuple(f"{where}: {text}" for text in remarks)))


def repeat_problem(data: Data, seed: int) -> str | None:
    """Return why a task cannot be used that gives other data when it is called a second time, or None."""
    first, second = pool_of_user(data, seed), pool_of_user.__wrapped__(data, seed)
    if first.custom.fingerprint == second.custom.fingerprint:
        return None
    pairs = {"inputs": (first.inputs, second.inputs), "labels": (first.labels, second.labels)}
    parts = " and ".join(name for name, pair in pairs.items() if not np.array_equal(*pair)) or "labels"
    return (
        f"data.task = {data.task!r}: two calls with the same config and rng return different {parts}; a trial's data "
        "must be the same at each call. Draw all random numbers from the argument rng, none from np.random, random or "
        "torch, and let nothing that changes, such as the time, move them."
    )


def origin(data: Data, seed: int) -> str:
    """Name the files that a user's data comes from: the task's module, and what it opens when it is called."""
    try:
        module = inspect.getsourcefile(imported(data.task))
    except (ConfigError, TypeError):
        module = None
    with _opened_files() as files, suppress(DataError):
        _call(data, seed)
    read = [str(path) for path in dict.fromkeys(files) if _is_data(path)]
    return ", which reads ".join(filter(None, [module, ", ".join(read[:NAMED])]))


def _call(data: Data, seed: int) -> tuple[Array, Array]:
    """Return what the task returns, as arrays, unchecked but for masks."""
    where = f"data.task = {data.task!r}"
    try:
        inputs, labels = imported(data.task)(TrialConfig(data=data, seed=seed), generator(seed, "inputs/pool"))
        if np.ma.is_masked(inputs) or np.ma.is_masked(labels):
            raise ValueError("masked values have no number; fill them, or leave these rows out")
        return np.asarray(inputs), np.asarray(labels)
    except Exception as error:  # whatever a user's module raises
        raise DataError(" ".join(f"{where}: {type(error).__name__}: {error}".split())) from error


def _input_problems(where: str, inputs: Array) -> Iterator[str]:
    if inputs.ndim != 2 or 0 in inputs.shape or inputs.dtype.kind not in "fiub":
        yield f"{where}: inputs are {inputs.dtype} {inputs.shape}; must be numbers of shape [R, D]."
    elif not (np.abs(inputs) <= np.finfo(np.float32).max).all():
        yield f"{where}: inputs must be finite in float32."


def _label_problems(where: str, labels: Array, rows: int) -> Iterator[str]:
    if labels.shape == (rows,) and labels.dtype.kind in "iub":
        return
    if labels.shape == (rows, 1):
        fix = "return labels.ravel()"
    elif labels.ndim == 2 and len(labels) == rows:
        fix = "of one-hot rows return labels.argmax(axis=1)"
    elif labels.shape != (rows,):
        fix = f"return a label for each of the {rows} rows of inputs"
    elif labels.dtype.kind == "f":
        fix = "where each number is a class, return labels.astype(int)"
    else:
        fix = "np.unique(labels, return_inverse=True)[1] numbers names"
    yield f"{where}: labels are {labels.dtype} {labels.shape}; must be whole numbers of shape [R]; {fix}."


def _input_remarks(inputs: Array) -> Iterator[str]:
    """Inputs whose size is far from what networks are made for."""
    low, high = float(inputs.min()), float(inputs.max())
    numbers = inputs.astype(np.float32)
    squares = np.einsum("rd,rd->d", numbers, numbers, dtype=np.float64)  # without a copy in float64
    largest = float(np.sqrt(squares.max() / len(inputs)))
    if largest > LARGEST:
        is_byte = low >= 0 and high <= BYTE and bool((numbers == np.rint(numbers)).all())
        fix = f"inputs / {BYTE}" if is_byte else "(inputs - inputs.mean(axis=0)) / inputs.std(axis=0)"
    elif 0 < largest < SMALLEST:
        fix = "inputs / inputs.std()"
    else:
        return
    yield (
        f"inputs lie between {low:g} and {high:g} and are not scaled; "
        f"networks learn best from numbers of about 1: return {fix}."
    )


def _copy_remarks(inputs: Array) -> Iterator[str]:
    """Rows that occur more than once, which splits may share."""
    counts = Counter(row.tobytes() for row in np.ascontiguousarray(inputs))
    if copies := sum(count for count in counts.values() if count > 1):
        yield (
            f"{copies} of {len(inputs)} rows of inputs occur more than once, so that training and held-out data may "
            "share examples: return each row once."
        )


def _label_remarks(values: Array, class_labels: tuple[int, ...], rows: int) -> Iterator[str]:
    """Labels that are not 0...K-1, and numbers of classes that look like a mistake."""
    if len(values) == 1:
        yield f"all labels are {values[0]}: there is one class, which every prediction gets right."
    elif class_labels:
        named = ", ".join(map(str, class_labels[:NAMED])) + (", ..." if len(values) > NAMED else "")
        yield f"labels {named} are classes 0 to {len(values) - 1}; the column class_labels of trials lists them."
    if len(values) > max(NAMED, rows / 2):
        yield f"labels take {len(values)} values in {rows} rows, and each is a class."


def _fingerprint(pool: Pool, class_labels: tuple[int, ...]) -> str:
    content = hashlib.blake2b(f"{pool.inputs.shape}{class_labels}".encode(), digest_size=8)
    for array in (pool.inputs, pool.labels):
        content.update(np.ascontiguousarray(array).data)
    return content.hexdigest()


# Files that a task opens, to name them where its data has changed.

_recording: list[list[Any]] = []
"""Lists that take the paths which are opened now."""


@contextmanager
def _opened_files() -> Iterator[list[Any]]:
    """Record the path of each file that is opened within."""
    _install()
    paths: list[Any] = []
    _recording.append(paths)
    try:
        yield paths
    finally:
        _recording.remove(paths)


@lru_cache(maxsize=1)
def _install() -> None:
    """Add a hook that stays for the life of this process, as Python has it: so it is only added when it is needed."""

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and _recording:
            for paths in _recording:
                paths.append(arguments[0])

    sys.addaudithook(note)


def _is_data(path: Any) -> bool:
    """Whether this is an ordinary file, and neither code nor a library's."""
    if not isinstance(path, str | bytes | os.PathLike):
        return False  # an open descriptor
    file = Path(os.fsdecode(path)).resolve()
    libraries = [sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")]
    is_library = any(file.is_relative_to(folder) for folder in (*libraries, "/proc", "/sys", "/dev"))
    return file.is_file() and not is_library and file.suffix not in (".py", ".pyc", ".so")
