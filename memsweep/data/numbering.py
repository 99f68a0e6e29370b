"""Examples of a user's file, function or objects as a pool: checks them, and numbers their labels as classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from memsweep.data.examples import COLOURS, TRAIN, Examples
from memsweep.data.noise import Array
from memsweep.data.texts import DataError

LARGEST, SMALLEST = 10.0, 0.01
"""Bounds of the root mean square of a column of inputs: networks expect numbers of about 1."""
NAMED = 10
"""Most labels listed in a message."""
BYTE = 255


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
    second: Array | None = None  # [R] int64, other labels, as labels; None: there are none
    targets: Array | None = None  # [R, O] float32, of a task with real numbers instead of labels, which are then 0
    weights: Array | None = None  # [R] float32, of losses in training; None: there are none


class Source(NamedTuple):
    """How messages and numbers depend on where examples come from."""

    verb: str  # what a user should do with better examples: store, return or give
    fixes: Mapping[str, str]  # form of labels -> what to do instead
    has_pixels: bool = True  # whether bytes are pixels from 0 to 255


def numbered(where: str, examples: Examples, source: Source, content: str, silent: Collection[str] = ()) -> Pool:
    """Returns the pool of these examples: classes are the labels that occur, in ascending order.

    where: begins each message.  content: fingerprint of the pool.  silent: leaves out remarks on `copies` or `labels`.
    Raises DataError with all problems.
    """
    images = _channels_first(examples.inputs)
    rows = len(images) if images.ndim else 0
    inputs = np.ascontiguousarray(images).reshape(rows, -1) if images.size else images
    labels = examples.labels
    is_text, targets = labels.dtype.kind == "U", _targets(labels)
    problems = [*input_problems(where, inputs)]
    if targets is not None:
        labels = np.zeros(len(labels), np.int64)
        if not np.isfinite(targets).all():
            problems.append(f"{where}: targets must be finite in float32; fill missing ones, or drop their rows.")
    if not is_text or labels.shape != (rows,):
        problems += label_problems(where, labels, rows, source.fixes)
    second = examples.second if targets is None else None
    if second is not None and (second.shape != labels.shape or second.dtype.kind not in ("U" if is_text else "iub")):
        problems.append(
            f"{where}: the second labels are {second.dtype} {second.shape}, and the labels {labels.dtype} "
            f"{labels.shape}; both must be whole numbers, or both texts, of shape [R]."
        )
    weights = examples.weights
    if weights is not None:
        problems += _weight_problems(where, weights, rows, examples.parts)
    if problems:
        raise DataError("\n".join(problems))
    both = labels if second is None else np.concatenate([labels, second])
    values, numbers = np.unique(both, return_inverse=True)
    numbers = numbers.astype(np.int64)
    class_labels = _class_labels(values, examples.names)
    has_pixels = source.has_pixels and inputs.dtype == np.uint8
    remarks = [] if has_pixels else [*input_remarks(inputs, source.verb)]
    if examples.parts is None and "copies" not in silent:
        remarks += copy_remarks(inputs, source.verb)
    if targets is None and "labels" not in silent:
        remarks += label_remarks(values, () if is_text or examples.names else class_labels, rows)
    elif targets is not None and (targets == np.rint(targets)).all():
        remarks.append(
            "labels are whole numbers that are stored as real numbers, so they are targets; where each is a class, "
            f"{source.verb} whole numbers."
        )
    shape = images.shape[1:] if images.ndim > 2 else ()
    shape = (1,) * (len(shape) == 2) + shape
    facts = Custom(class_labels, content, tuple(f"{where}: {text}" for text in remarks))
    stored = inputs if has_pixels else inputs.astype(np.float32)
    others = None if second is None else numbers[rows:]
    weights = None if weights is None else weights.astype(np.float32)
    return Pool(stored, numbers[:rows], facts, examples.parts, shape, others, targets, weights)


def _weight_problems(where: str, weights: Array, rows: int, parts: Array | None) -> Iterator[str]:
    if weights.shape != (rows,) or weights.dtype.kind not in "fiub":
        yield f"{where}: weights are {weights.dtype} {weights.shape}; must be numbers, one for each of the {rows} rows."
        return
    largest = np.finfo(np.float32).max
    if not ((weights >= 0) & (weights <= largest)).all():
        wrong = np.flatnonzero(~((weights >= 0) & (weights <= largest)))[0]
        yield f"{where}: the weight of row {wrong} is {weights[wrong]}; weights are finite numbers of 0 or more."
    elif not (weights if parts is None else weights[parts == TRAIN]).any():
        yield f"{where}: all weights are 0, so that nothing would be trained; some must be positive."


def _class_labels(values: Array, names: Sequence[str]) -> tuple[int | str, ...]:
    """Returns the label of each class; () where they are 0...K-1.  names: of whole numbers."""
    is_text = values.dtype.kind == "U"
    labels: tuple[int | str, ...] = tuple(values.tolist()) if is_text else tuple(map(int, values))
    if names and not is_text:
        labels = tuple(names[value] if 0 <= value < len(names) else value for value in values)
    return () if labels == tuple(range(len(values))) else labels


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


def input_problems(where: str, inputs: Array) -> Iterator[str]:
    """Yields a sentence if inputs are no matrix of finite numbers."""
    if inputs.ndim != 2 or 0 in inputs.shape or inputs.dtype.kind not in "fiub":
        yield f"{where}: inputs are {inputs.dtype} {inputs.shape}; must be numbers of shape [R, ...]."
    elif not (np.abs(inputs) <= np.finfo(np.float32).max).all():
        yield f"{where}: inputs must be finite in float32."


def label_problems(where: str, labels: Array, rows: int, fixes: Mapping[str, str]) -> Iterator[str]:
    """Yields a sentence if labels are not whole numbers, one for each row.  fixes: as _FIXES."""
    if labels.shape == (rows,) and labels.dtype.kind in "iub":
        return
    if labels.shape == (rows, 1):
        form = "column"
    elif labels.ndim == 2 and len(labels) == rows:
        form = "one_hot"
    else:
        form = "short" if labels.shape != (rows,) else "other"
    fix = fixes[form].format(rows=rows)
    yield (
        f"{where}: labels are {labels.dtype} {labels.shape}; must be whole numbers, texts or real numbers of shape "
        f"[R]; {fix}."
    )


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
