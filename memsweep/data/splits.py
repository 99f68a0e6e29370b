"""Splits: the rows of a task's pool, or examples that are drawn, for training, validation and test."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from memsweep.data import sequences, texts
from memsweep.data.cache import SharedCache
from memsweep.data.custom import DataWithOwn, own_of
from memsweep.data.examples import TEST, TRAIN, VALIDATION
from memsweep.data.noise import Array
from memsweep.data.pools import FILE_TASKS, Facts, facts_of, pool_of
from memsweep.data.subsets import pool_size
from memsweep.data.texts import DataError, data_folder
from memsweep.spec.config import TrialConfig
from memsweep.spec.contents import is_function
from memsweep.spec.fields.groups import Data
from memsweep.spec.options import SYNTHETIC_TASKS, TARGET_TASKS
from memsweep.spec.seeds import generator

Key = tuple[Data, int, str]
"""(fields that inputs depend on, seed of the stream `inputs`, the user's data folder)."""


@dataclass(frozen=True, eq=False)
class Split:
    """The examples of a trial before noise and random labels. Arrays are read-only, because trials share them."""

    inputs: Array  # [N, D] float32
    labels: Array  # [N] int64, the task's labels; zeros for a task without labels
    source_index: Array  # [N] int64
    held_out_inputs: Array  # [V + S, D] float32
    held_out_labels: Array  # [V + S] int64
    classes: int
    class_labels: tuple[int | str, ...]
    input_range: float
    inputs_digest: str
    held_out_digest: str
    second_labels: Array  # [N] int64, other labels of the training examples; [0]: there are none
    targets: Array  # as in TrialData
    held_out_targets: Array
    source: str
    weights: Array  # as in TrialData

    @property
    def nbytes(self) -> int:
        """Returns the bytes of the inputs and targets."""
        arrays = (self.inputs, self.held_out_inputs, self.targets, self.held_out_targets)
        return sum(array.nbytes for array in arrays)


_SPLITS: SharedCache[Split] = SharedCache()


def key_of(config: TrialConfig) -> Key:
    """Returns the key of a trial's split: trials with equal keys share one split."""
    data = replace(config.data, **_WITHOUT_NOISE, examples=pool_size(config.data))
    if not is_function(data.task):  # only a user's function may depend on these two fields
        data = replace(data, label_scheme="task", classes=0)
    if own_values := own_of(config):
        data = DataWithOwn(**vars(data), own=own_values)
    return data, config.stream_seed("inputs"), data_folder()


_WITHOUT_NOISE: dict[str, Any] = {
    name: getattr(Data(), name)
    for name in (
        *("noise_kind", "noise_fraction", "noise_matrix", "noise_covariance", "noise_examples"),
        *("repeats", "subset_fraction"),
    )
}


def load(key: Key) -> Split:
    """Returns the split of a key; the same object while a reference to it exists.  Raises DataError."""
    return _SPLITS.get(key, lambda: _split(*key))


def forget() -> None:
    """Clears the caches of splits and their problems."""
    problems.cache_clear()
    _SPLITS.clear()


@lru_cache(maxsize=4096)
def problems(data: Data, seed: int, root: str) -> tuple[str, ...]:
    """Returns one sentence per reason why this split can't be built; arguments as in `Key`."""
    sentences: list[str] = []
    try:
        sentences += _size_problems(data, facts_of(data, seed, root))
        if data.task not in (*SYNTHETIC_TASKS, *TARGET_TASKS):
            sentences += _subset_problems(data, facts_of(data, seed, root), pool_of(data, seed, root).parts)
    except DataError as error:
        sentences += str(error).splitlines()
    return tuple(sentences)


def _split(data: Data, seed: int, root: str) -> Split:
    facts = facts_of(data, seed, root)
    if problems := _size_problems(data, facts):
        raise DataError("\n".join(problems))
    targets, held_out_targets = np.empty((data.examples, 0)), np.empty((0, 0))
    second, weights = np.empty(0, np.int64), np.empty(0, np.float32)
    fingerprint = texts.text(root).fingerprint if data.task == "characters" else ""
    if data.task in (*SYNTHETIC_TASKS, *TARGET_TASKS):
        index = np.arange(data.examples)
        inputs, targets = _drawn(data, seed, "train", data.examples)
        parts = {"validation": data.validation_examples, "test": data.test_examples}
        held_out_inputs, held_out_targets = (
            np.concatenate(drawn) for drawn in zip(*(_drawn(data, seed, *part) for part in parts.items()), strict=True)
        )
        labels, held_out_labels = np.zeros(len(inputs), np.int64), np.zeros(len(held_out_inputs), np.int64)
    else:
        pool = pool_of(data, seed, root)
        index, held_out = _rows(data, seed, facts, pool.parts)
        inputs, held_out_inputs = (pool.inputs[rows].astype(np.float32) for rows in (index, held_out))
        inputs /= np.float32(facts.scale)
        held_out_inputs /= np.float32(facts.scale)
        labels, held_out_labels = pool.labels[index], pool.labels[held_out]
        if pool.second is not None:
            second = pool.second[index]
        if pool.targets is not None:
            targets, held_out_targets = pool.targets[index], pool.targets[held_out]
        if pool.weights is not None:
            weights = pool.weights[index]
        fingerprint = pool.custom.fingerprint
    for array in (inputs, labels, index, held_out_inputs, held_out_labels, targets, held_out_targets, second, weights):
        array.flags.writeable = False
    # images span [0, 1] even if a sample does not; other inputs span the range of the uncorrupted training set
    span = 1.0 if data.task in FILE_TASKS else float(np.ptp(inputs))
    digests = digest(inputs), digest(held_out_inputs)
    arrays = inputs, labels, index, held_out_inputs, held_out_labels, facts.classes, facts.custom.class_labels, span
    return Split(*arrays, *digests, second, targets, held_out_targets, fingerprint, weights)


def _rows(data: Data, seed: int, facts: Facts, parts: Array | None) -> tuple[Array, Array]:
    """Returns the rows of the pool for training [N] and held-out data [V + S].

    Held-out rows are taken first, so that training sets are nested in N and held-out rows do not depend on N.
    parts: of the pool; None: official test sets follow training sets.
    """
    rest = generator(seed, "inputs/split").permutation(facts.rows)
    if parts is not None:
        rest = np.flatnonzero(parts == TRAIN)[rest]
    rest = rest[~np.isin(rest, data.subset)]
    if facts.validation_rows:
        order = generator(seed, "inputs/validation").permutation(facts.validation_rows)[: data.validation_examples]
        validation = np.flatnonzero(parts == VALIDATION)[order]
    else:
        validation, rest = rest[: data.validation_examples], rest[data.validation_examples :]
    if facts.test_rows:
        order = generator(seed, "inputs/test").permutation(facts.test_rows)[: data.test_examples]
        test = facts.rows + order if parts is None else np.flatnonzero(parts == TEST)[order]
    else:
        test, rest = rest[: data.test_examples], rest[data.test_examples :]
    train = np.array(data.subset, np.int64) if data.subset else rest
    return train[: data.examples], np.concatenate([validation, test])


def _drawn(data: Data, seed: int, part: str, rows: int) -> tuple[Array, Array]:
    """Returns inputs [rows, D] float32 and targets: sequences, or normal deviates or fair bits without targets.

    part: train, validation or test.
    """
    if data.task in TARGET_TASKS:
        return sequences.draw(data, part, seed, rows)
    rng, size = generator(seed, f"inputs/{part}"), (rows, data.input_dim)
    if data.task == "gaussian":
        return rng.standard_normal(size, dtype=np.float32), np.empty((rows, 0))
    return rng.integers(0, 2, size, dtype=np.uint8).astype(np.float32), np.empty((rows, 0))


def _size_problems(data: Data, facts: Facts) -> list[str]:
    problems, task = [], f"task {data.task!r} has"
    if data.input_dim not in (0, facts.inputs):
        problems.append(f"data.input_dim = {data.input_dim}: {task} {facts.inputs} inputs; use 0 or {facts.inputs}.")
    wanted = {} if data.subset else {"data.examples": data.examples}
    for name, count, rows in (
        ("data.validation_examples", data.validation_examples, facts.validation_rows),
        ("data.test_examples", data.test_examples, facts.test_rows),
    ):
        if rows == 0:
            wanted[name] = count
        elif count > rows:
            problems.append(f"{name} = {count}: {task} {rows} of them; use fewer.")
    rows = facts.rows - len(data.subset)
    if sum(wanted.values()) > max(rows, 0):
        sizes = " + ".join(f"{name} = {count}" for name, count in wanted.items() if count)
        others = " besides data.subset" if data.subset else ""
        problems.append(f"{sizes}: {sum(wanted.values())} examples in all, {task} {rows}{others}; use fewer.")
    if data.subset and len(data.subset) < data.examples:
        problems.append(
            f"data.subset: lists {len(data.subset)} rows, and data.examples is {data.examples}; list more, or set "
            f"data.examples to {len(data.subset)}."
        )
    return problems


def _subset_problems(data: Data, facts: Facts, parts: Array | None) -> list[str]:
    """Returns a sentence if rows of data.subset are no training rows.  parts: of the pool."""
    train = np.arange(facts.rows) if parts is None else np.flatnonzero(parts == TRAIN)
    rows = np.array(data.subset, np.int64)
    wrong = rows[~np.isin(rows, train)]
    if not len(wrong):
        return []
    return [
        f"data.subset: row {wrong[0]} is no training row of task {data.task!r}, which has {facts.rows} from "
        f"{train.min()} to {train.max()}; list only these."
    ]


def digest(array: Array) -> str:
    """Returns 32 hexadecimal digits over an array's type, shape and values."""
    content = hashlib.blake2b(f"{array.dtype.str}{array.shape}".encode(), digest_size=16)
    content.update(np.ascontiguousarray(array).data)
    return content.hexdigest()
