"""A text of the user's, as tokens: its characters, split once into training, validation and test regions."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from memsweep.data.noise import Array

FOLDER_VARIABLE = "MEMSWEEP_DATA"
"""The folder of the user's datasets and texts."""
REGIONS = {"train": (0.0, 0.9), "validation": (0.9, 0.95), "test": (0.95, 1.0)}
"""Shares of the text, so that no window of one region overlaps another."""


class DataError(ValueError):
    """Why the data of a trial cannot be had: one sentence a line."""


def data_folder() -> str:
    """The folder that MEMSWEEP_DATA names, ~ being the user's home; empty where it is not set."""
    return os.path.expanduser(os.environ.get(FOLDER_VARIABLE, ""))


class Text(NamedTuple):
    """A text as numbers of its characters."""

    tokens: Array  # [characters] int64
    characters: str  # one of each, in their order
    path: Path
    fingerprint: str  # 16 hexadecimal digits over the text

    def region(self, part: str) -> Array:
        begin, end = (int(share * len(self.tokens)) for share in REGIONS[part])
        return np.asarray(self.tokens[begin:end])


@lru_cache(maxsize=2)
def text(root: str) -> Text:
    """The one text file, UTF-8, in the folder `characters` of the user's folder. Raises DataError."""
    folder = Path(root, "characters")
    files = sorted(folder.glob("*.txt")) if root else []
    if len(files) != 1:
        found = f"{folder} has {len(files)}" if root else f"{FOLDER_VARIABLE} is not set"
        raise DataError(
            f"data.task = 'characters' reads the one text file in ${FOLDER_VARIABLE}/characters; {found}. "
            "Put a file of yours there, or run `make data`, which puts the King James Bible into data/."
        )
    try:
        content = files[0].read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"data.task = 'characters': {files[0]} can't be read as UTF-8 ({error}).") from error
    characters = sorted(set(content))
    numbers = {character: number for number, character in enumerate(characters)}
    tokens = np.array([numbers[character] for character in content], dtype=np.int64)
    fingerprint = hashlib.blake2b(content.encode(), digest_size=8).hexdigest()
    return Text(tokens, "".join(characters), files[0], fingerprint)
