"""Pools of users' tasks: calls the task, and takes its examples.

The task is a function `(config, rng) -> (inputs [R, ...], labels [R])`, or one that returns such pairs by split, as
`{"train": (inputs, labels), "test": (inputs, labels)}`. Real numbers as labels are targets. Training examples may have
weights: `(inputs, labels, weights [R])`. `config` has `data.*`
without noise and the seed of `inputs`; all other fields have their defaults, so that they cannot change the data. A
task with a parameter `own` is given the trial's own hyperparameters.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from memsweep.data.examples import NUMBER_OF, Examples, joined, listed
from memsweep.data.numbering import Pool, Source, numbered
from memsweep.data.texts import DataError
from memsweep.spec.config import ConfigError, TrialConfig, imported
from memsweep.spec.contents import is_function
from memsweep.spec.fields.groups import Data
from memsweep.spec.fields.own import NO_FIELDS, OwnFields, bound, takes_own
from memsweep.spec.seeds import generator

NAMED = 10
"""Most files listed in a message."""
FIXES = {
    "column": "return labels.ravel()",
    "one_hot": "of one-hot rows return labels.argmax(axis=1)",
    "short": "return a label for each of the {rows} rows of inputs",
    "other": "return labels.astype(str) of names",
}
"""What a task must return instead of labels of another form."""
SOURCE = Source("return", FIXES, has_pixels=False)


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


@lru_cache(maxsize=8)
def pool_of_user(data: Data, seed: int) -> Pool:
    """Returns the pool of a user's task. Classes are the labels that occur, in ascending order.

    Raises DataError with all problems of the task's data.
    """
    where, examples = f"data.task = {data.task!r}", _call(data, seed)
    silent = [] if data.validation_examples or data.test_examples else ["copies"]
    silent += [] if data.label_scheme == "task" else ["labels"]
    pool = numbered(where, examples, SOURCE, "", silent)
    return pool._replace(custom=pool.custom._replace(fingerprint=_fingerprint(pool)))


def repeat_problem(data: Data, seed: int) -> str | None:
    """Returns the error message for a task whose second call returns other data, or None if both calls agree."""
    first, second = pool_of_user(data, seed), pool_of_user.__wrapped__(data, seed)
    if first.custom.fingerprint == second.custom.fingerprint:
        return None
    pairs = {name: (getattr(first, name), getattr(second, name)) for name in ("inputs", "labels", "weights")}
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


def _call(data: Data, seed: int) -> Examples:
    """Returns the task's examples, whose values are not checked.  Raises DataError."""
    where = f"data.task = {data.task!r}"
    try:
        config = TrialConfig(data=data, seed=seed)
        task = bound(imported(data.task), data.own if isinstance(data, DataWithOwn) else NO_FIELDS)
        return _examples(task(config, generator(seed, "inputs/pool")))
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    except Exception as error:  # a user's module may raise anything
        raise DataError(" ".join(f"{where}: {type(error).__name__}: {error}".split())) from error


def _examples(result: Any) -> Examples:
    """Returns what a task returns, inputs and labels, or a dictionary of such pairs by split, as examples."""
    if isinstance(result, Mapping):
        if "train" not in result or not set(result) <= set(NUMBER_OF):
            raise DataError(
                f"returns the splits {listed(list(result))}; must return train, and may return validation and test."
            )
        return joined([(NUMBER_OF[name], _examples(pair)) for name, pair in result.items()])
    if not isinstance(result, tuple | list) or len(result) not in (2, 3):
        count = f"{len(result)} values" if isinstance(result, tuple | list) else type(result).__name__
        raise DataError(f"returns {count}; must return inputs and labels, and may return weights.")
    if any(map(np.ma.is_masked, result)):
        raise DataError("masked values are not numbers; fill them, or drop their rows.")
    inputs, labels, *weights = map(np.asarray, result)
    return Examples(inputs, labels, weights=weights[0] if weights else None)


def _fingerprint(pool: Pool) -> str:
    special = [part for part in (pool.parts, pool.targets, pool.weights) if part is not None]
    text = f"{pool.inputs.shape}{pool.custom.class_labels}" + (str(pool.shape) if pool.shape else "")
    content = hashlib.blake2b(text.encode(), digest_size=8)
    for array in (pool.inputs, pool.labels, *special):
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
