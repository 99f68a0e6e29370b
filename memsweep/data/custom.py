"""Pools of users' tasks: calls the task, checks its data, numbers its labels as classes, and reports oddities.

The task is a function `(config, rng) -> (inputs [R, D], labels [R])`. `config` has `data.*` without noise and the seed
of `inputs`; all other fields have their defaults, so that they cannot change the data. A task with a parameter `own` is
given the trial's own hyperparameters.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from memsweep.data.noise import Array
from memsweep.data.texts import DataError
from memsweep.spec.config import ConfigError, TrialConfig, imported
from memsweep.spec.contents import is_function
from memsweep.spec.fields.groups import Data
from memsweep.spec.fields.own import NO_FIELDS, OwnFields, bound, takes_own
from memsweep.spec.seeds import generator

LARGEST, SMALLEST = 10.0, 0.01
"""Bounds of the root mean square of a column of inputs: networks expect numbers of about 1."""
NAMED = 10
"""Most labels or files listed in a message."""
BYTE = 255


@dataclass(frozen=True)
class DataWithOwn(Data):
    """The data fields of a user's task that takes `own`, and the own hyperparameters it is given."""

    own: OwnFields = NO_FIELDS


def own_of(config: TrialConfig) -> OwnFields:
    """Returns the own hyperparameters that a trial's task is given: none unless its signature has `own`."""
    if config.own and is_function(config.data.task):
        with suppress(ConfigError):  # reported where the task is called
            if takes_own(imported(config.data.task)):
                return config.own
    return NO_FIELDS


class Custom(NamedTuple):
    """Properties of a user's pool."""

    class_labels: tuple[int | str, ...] = ()  # [K] the task's label of each class; (): 0...K-1
    fingerprint: str = ""  # 16 hexadecimal digits over the whole pool, or over the content of its file
    remarks: tuple[str, ...] = ()  # oddities of the pool, one sentence each


class Pool(NamedTuple):
    """All examples of a task."""

    inputs: Array  # [R, D], not yet scaled
    labels: Array  # [R] int64, 0...K-1
    custom: Custom = Custom()
    parts: Array | None = None  # [R], part of each example as numbered by `examples.PARTS`; None: no official split
    shape: tuple[int, ...] = ()  # of an example, channels first; (): it is a row of D numbers
    targets: Array | None = None  # [R, O] float32, of a task with real numbers instead of labels, which are then 0


@lru_cache(maxsize=8)
def pool_of_user(data: Data, seed: int) -> Pool:
    """Returns the pool of a user's task. Classes are the labels that occur, in ascending order.

    Raises DataError with all problems of the task's data.
    """
    where, (inputs, labels) = f"data.task = {data.task!r}", _call(data, seed)
    rows = len(inputs) if inputs.ndim else 0
    if problems := [*input_problems(where, inputs), *label_problems(where, labels, rows, _FIXES)]:
        raise DataError("\n".join(problems))
    values, numbers = np.unique(labels, return_inverse=True)
    class_labels: tuple[int | str, ...] = tuple(map(int, values))
    if class_labels == tuple(range(len(values))):
        class_labels = ()
    remarks = [*input_remarks(inputs, "return")]
    if data.validation_examples or data.test_examples:
        remarks += copy_remarks(inputs, "return")
    if data.label_scheme == "task":
        remarks += label_remarks(values, class_labels, rows)
    pool = Pool(inputs.astype(np.float32), numbers.astype(np.int64))
    fingerprint = _fingerprint(pool, class_labels)
    return pool._replace(custom=Custom(class_labels, fingerprint, tuple(f"{where}: {text}" for text in remarks)))


def repeat_problem(data: Data, seed: int) -> str | None:
    """Returns the error message for a task whose second call returns other data, or None if both calls agree."""
    first, second = pool_of_user(data, seed), pool_of_user.__wrapped__(data, seed)
    if first.custom.fingerprint == second.custom.fingerprint:
        return None
    pairs = {"inputs": (first.inputs, second.inputs), "labels": (first.labels, second.labels)}
    parts = " and ".join(name for name, pair in pairs.items() if not np.array_equal(*pair)) or "labels"
    return (
        f"data.task = {data.task!r}: two calls with the same config and rng return different {parts}; a trial's data "
        "must be the same at each call. Draw all random numbers from the argument rng, not from np.random, random or "
        "torch, and use nothing that changes, such as the time."
    )


def origin(data: Data, seed: int) -> str:
    """Returns the names of the files that a user's data comes from: the task's module, and files that it opens."""
    try:
        module = inspect.getsourcefile(imported(data.task))
    except (ConfigError, TypeError):
        module = None
    with _opened_files() as files, suppress(DataError):
        _call(data, seed)
    read = [str(path) for path in dict.fromkeys(files) if _is_data(path)]
    return ", which reads ".join(filter(None, [module, ", ".join(read[:NAMED])]))


def _call(data: Data, seed: int) -> tuple[Array, Array]:
    """Returns the task's inputs and labels as arrays, checked only for masked values.  Raises DataError."""
    where = f"data.task = {data.task!r}"
    try:
        config = TrialConfig(data=data, seed=seed)
        task = bound(imported(data.task), data.own if isinstance(data, DataWithOwn) else NO_FIELDS)
        inputs, labels = task(config, generator(seed, "inputs/pool"))
        if np.ma.is_masked(inputs) or np.ma.is_masked(labels):
            raise ValueError("masked values are not numbers; fill them, or drop their rows")
        return np.asarray(inputs), np.asarray(labels)
    except Exception as error:  # a user's module may raise anything
        raise DataError(" ".join(f"{where}: {type(error).__name__}: {error}".split())) from error


def input_problems(where: str, inputs: Array) -> Iterator[str]:
    """Yields a sentence if inputs are no matrix of finite numbers."""
    if inputs.ndim != 2 or 0 in inputs.shape or inputs.dtype.kind not in "fiub":
        yield f"{where}: inputs are {inputs.dtype} {inputs.shape}; must be numbers of shape [R, D]."
    elif not (np.abs(inputs) <= np.finfo(np.float32).max).all():
        yield f"{where}: inputs must be finite in float32."


_FIXES = {
    "column": "return labels.ravel()",
    "one_hot": "of one-hot rows return labels.argmax(axis=1)",
    "short": "return a label for each of the {rows} rows of inputs",
    "float": "where each number is a class, return labels.astype(int)",
    "other": "np.unique(labels, return_inverse=True)[1] numbers names",
}
"""What a task must return instead of labels of another form."""


def label_problems(where: str, labels: Array, rows: int, fixes: Mapping[str, str]) -> Iterator[str]:
    """Yields a sentence if labels are not whole numbers, one for each row.  fixes: as _FIXES."""
    if labels.shape == (rows,) and labels.dtype.kind in "iub":
        return
    if labels.shape == (rows, 1):
        form = "column"
    elif labels.ndim == 2 and len(labels) == rows:
        form = "one_hot"
    elif labels.shape != (rows,):
        form = "short"
    else:
        form = "float" if labels.dtype.kind == "f" else "other"
    fix = fixes[form].format(rows=rows)
    yield f"{where}: labels are {labels.dtype} {labels.shape}; must be whole numbers of shape [R]; {fix}."


def input_remarks(inputs: Array, verb: str) -> Iterator[str]:
    """Yields a remark if inputs are much larger or smaller than networks expect.  verb: what the user should do."""
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
        f"networks learn best from numbers of about 1: {verb} {fix}."
    )


def copy_remarks(inputs: Array, verb: str) -> Iterator[str]:
    """Yields a remark if rows occur more than once, because training and held-out data may share them."""
    counts = Counter(row.tobytes() for row in np.ascontiguousarray(inputs))
    if copies := sum(count for count in counts.values() if count > 1):
        yield (
            f"{copies} of {len(inputs)} rows of inputs occur more than once, so that training and held-out data may "
            f"share examples: {verb} each row once."
        )


def label_remarks(values: Array, class_labels: tuple[int | str, ...], rows: int) -> Iterator[str]:
    """Yields remarks on labels other than 0...K-1 and on suspicious numbers of classes."""
    if len(values) == 1:
        yield f"all labels are {values[0]}: there is one class, which every prediction gets right."
    elif class_labels:
        named = ", ".join(map(str, class_labels[:NAMED])) + (", ..." if len(values) > NAMED else "")
        yield f"labels {named} are classes 0 to {len(values) - 1}; the column class_labels of trials lists them."
    if len(values) > max(NAMED, rows / 2):
        yield f"labels take {len(values)} values in {rows} rows, and each is a class."


def _fingerprint(pool: Pool, class_labels: tuple[int | str, ...]) -> str:
    content = hashlib.blake2b(f"{pool.inputs.shape}{class_labels}".encode(), digest_size=8)
    for array in (pool.inputs, pool.labels):
        content.update(np.ascontiguousarray(array).data)
    return content.hexdigest()


# Files that a task opens, for the message about changed data.

_recording: list[list[Any]] = []
"""Lists to which the audit hook appends each opened path."""


@contextmanager
def _opened_files() -> Iterator[list[Any]]:
    """Yields a list that receives the path of each file opened inside the context."""
    _install()
    paths: list[Any] = []
    _recording.append(paths)
    try:
        yield paths
    finally:
        _recording.remove(paths)


@lru_cache(maxsize=1)
def _install() -> None:
    """Adds the audit hook, on first use only: Python can't remove it for the life of the process."""

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and _recording:
            for paths in _recording:
                paths.append(arguments[0])

    sys.addaudithook(note)


def _is_data(path: Any) -> bool:
    """Returns whether this is an ordinary file outside libraries, and not code."""
    if not isinstance(path, str | bytes | os.PathLike):
        return False  # an open descriptor
    file = Path(os.fsdecode(path)).resolve()
    libraries = [sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")]
    is_library = any(file.is_relative_to(folder) for folder in (*libraries, "/proc", "/sys", "/dev"))
    return file.is_file() and not is_library and file.suffix not in (".py", ".pyc", ".so")
