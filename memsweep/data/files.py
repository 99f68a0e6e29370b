"""Pools of the user's files and folders, `file:PATH`: numbers their labels as classes, and checks their content."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from memsweep.data import custom, readers
from memsweep.data.custom import Custom, Pool
from memsweep.data.examples import Columns, Examples
from memsweep.data.noise import Array
from memsweep.data.texts import DataError
from memsweep.spec.contents import content_of, path_of
from memsweep.spec.fields.groups import Data

COLOURS = (1, 3)
"""Channels of an image."""


def pool_of_file(data: Data) -> Pool:
    """Returns the pool of a file or folder; the same object while its content and the columns are the same.

    Raises DataError.
    """
    return _pool(data.task, Columns(data.label, data.split), data.content or content_of(data.task))


def forget() -> None:
    """Clears the cache."""
    _pool.cache_clear()


@lru_cache(maxsize=4)
def _pool(task: str, columns: Columns, content: str) -> Pool:
    where = f"data.task = {task!r}"
    try:
        examples = readers.read(path_of(task), columns)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    now = content_of(task, again=True)  # after reading, so that a change while it is read is seen
    if now != content:
        raise DataError(
            f"{where}: the hash of its content is {now or 'gone'}, and the trial's is {content}: it has changed since "
            "the launch began, or differs between machines. Restore it, or launch again: with other content, a trial "
            "is another trial."
        )
    return _numbered(where, examples, content)


def _numbered(where: str, examples: Examples, content: str) -> Pool:
    """Returns the pool of these examples.  Raises DataError with all problems."""
    images = _channels_first(examples.inputs)
    inputs, labels = np.ascontiguousarray(images).reshape(len(images), -1), examples.labels
    is_text, targets = labels.dtype.kind == "U", _targets(labels)
    problems = [*custom.input_problems(where, inputs)]
    if targets is not None:
        labels = np.zeros(len(labels), np.int64)
        if not np.isfinite(targets).all():
            problems.append(f"{where}: targets must be finite in float32; fill missing ones, or drop their rows.")
    problems += [] if is_text and labels.ndim == 1 else custom.label_problems(where, labels, len(inputs), _FIXES)
    if problems:
        raise DataError("\n".join(problems))
    values, numbers = np.unique(labels, return_inverse=True)
    class_labels: tuple[int | str, ...] = tuple(values.tolist())
    if examples.names and not is_text:
        class_labels = tuple(examples.names[value] if 0 <= value < len(examples.names) else value for value in values)
    if class_labels == tuple(range(len(values))):
        class_labels = ()
    is_bytes = inputs.dtype == np.uint8
    remarks = [] if is_bytes else [*custom.input_remarks(inputs, "store")]
    if examples.parts is None:
        remarks += custom.copy_remarks(inputs, "store")
    if targets is None:
        remarks += custom.label_remarks(values, () if is_text or examples.names else class_labels, len(inputs))
    elif (targets == np.rint(targets)).all():
        remarks.append(
            "labels are whole numbers that are stored as real numbers, so they are targets; where each is a class, "
            "store whole numbers."
        )
    shape = images.shape[1:] if images.ndim > 2 else ()
    facts = Custom(class_labels, content, tuple(f"{where}: {text}" for text in remarks))
    stored = inputs if is_bytes else inputs.astype(np.float32)
    shape = (1,) * (len(shape) == 2) + shape
    return Pool(stored, numbers.astype(np.int64), facts, examples.parts, shape, targets)


_FIXES = {
    "column": "store one column of labels",
    "one_hot": "of one-hot rows store the number of the class",
    "short": "store a label for each example",
    "float": "store one column of numbers",
    "other": "store whole numbers or texts",
}


def _targets(labels: Array) -> Array | None:
    """Returns real numbers as targets [R, O] float32; None: they are labels."""
    if labels.dtype.kind != "f" or labels.ndim not in (1, 2):
        return None
    if labels.ndim == 2 and np.isin(labels, (0, 1)).all():  # classes, one-hot, which are refused
        return None
    with np.errstate(over="ignore"):  # the result is checked
        return labels.reshape(len(labels), -1).astype(np.float32)


def _channels_first(inputs: Array) -> Array:
    """Returns images [R, C, H, W] of images [R, H, W, C]; other inputs are unchanged."""
    if inputs.ndim == 4 and inputs.shape[3] in COLOURS and inputs.shape[1] not in COLOURS:
        return inputs.transpose(0, 3, 1, 2)
    return inputs
