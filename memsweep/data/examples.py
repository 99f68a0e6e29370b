"""Examples as a user stores, returns or gives them: inputs of any shape, labels, and the official split."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from memsweep.data.noise import Array
from memsweep.data.texts import DataError

PARTS = (("train", "training"), ("validation", "valid", "val", "dev"), ("test", "testing", "t10k"))
"""Names of the parts of an official split: training, validation and test."""
TRAIN, VALIDATION, TEST = range(len(PARTS))
NUMBER_OF = {name: number for number, names in enumerate(PARTS) for name in names}
COLOURS = (1, 3)
"""Channels of an image."""
NAMED = 10
"""Most names listed in a message."""


class Columns(NamedTuple):
    """Names of the columns that are no inputs."""

    label: str
    split: str  # "": there is no such column
    second: str = ""  # other labels; "": there is no such column


class Examples(NamedTuple):
    """All examples of a task."""

    inputs: Array  # [R, ...] numbers; bytes count as pixels from 0 to 255
    labels: Array  # [R] whole numbers or texts, or real numbers [R] or [R, O]
    parts: Array | None = None  # [R], numbers of PARTS; None: no official split
    second: Array | None = None  # [R], other labels; None: there are none
    names: tuple[str, ...] = ()  # name of the class with each number; (): the labels name themselves
    weights: Array | None = None  # [R] of losses in training; None: there are none


_KINDS = {"U": "texts", "S": "texts", "f": "real numbers", **dict.fromkeys("iub", "whole numbers")}


def joined(pieces: Sequence[tuple[int, Examples]]) -> Examples:
    """Returns the examples of all parts in one.  pieces: (number of a part, its examples).  Raises DataError."""
    shapes = {piece.inputs.shape[1:] for _, piece in pieces}
    if len(shapes) > 1:
        raise DataError(f"inputs have the shapes {listed(sorted(map(str, shapes)))}; must have one shape in all parts.")
    kinds = {_KINDS.get(piece.labels.dtype.kind, "objects") for _, piece in pieces}
    if len(kinds) > 1:
        raise DataError(f"labels are {' in one part and '.join(sorted(kinds))} in another; they must have one type.")
    parts = np.concatenate([np.full(len(piece.labels), number, np.int8) for number, piece in pieces])
    inputs, labels = (np.concatenate([piece[place] for _, piece in pieces]) for place in range(2))
    seconds = [piece.second for _, piece in pieces if piece.second is not None]
    second, weights = np.concatenate(seconds) if seconds else None, _joined_weights(pieces)
    return Examples(inputs, labels, parts, second, pieces[0][1].names, weights)


def _joined_weights(pieces: Sequence[tuple[int, Examples]]) -> Array | None:
    """Returns the weights of the training part, and 1 for each other example."""
    weighted = [PARTS[number][0] for number, piece in pieces if piece.weights is not None]
    if weighted and weighted != ["train"]:
        raise DataError(f"returns weights of {listed(weighted)}; return weights of train alone, where they are used.")
    if not weighted:
        return None
    return np.concatenate(
        [np.ones(len(piece.labels)) if piece.weights is None else np.atleast_1d(piece.weights) for _, piece in pieces]
    )


def parts_of(values: Array, name: str) -> Array:
    """Returns the number of each example's part [R].  values: [R] texts.  name: of their column.  Raises DataError."""
    texts, places = np.unique(values.astype(str), return_inverse=True)
    if unknown := [text for text in texts.tolist() if text.lower() not in NUMBER_OF]:
        raise DataError(f"data.split = {name!r}: holds {listed(unknown)}; must hold train, validation and test.")
    return np.array([NUMBER_OF[text.lower()] for text in texts], np.int8)[places]


def part_in(name: str) -> tuple[int, str] | None:
    """Returns the part that a name begins or ends with, and the rest of the name; None: there is no part.

    >>> part_in("x_train"), part_in("val_images"), part_in("label")
    ((0, 'x'), (1, 'images'), None)
    """
    names = "|".join(NUMBER_OF)
    if match := re.fullmatch(rf"({names})_(.+)", name):
        return NUMBER_OF[match[1]], match[2]
    match = re.fullmatch(rf"(.+)_({names})", name)
    return (NUMBER_OF[match[2]], match[1]) if match else None


def listed(names: Sequence[Any]) -> str:
    """Returns the names as text, at most NAMED of them."""
    return ", ".join(map(str, names[:NAMED])) + ", ..." * (len(names) > NAMED)
