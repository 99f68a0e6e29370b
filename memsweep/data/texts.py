"""The user's text as tokens: its characters, split once into training, validation and test regions."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from memsweep.data.noise import Array

FOLDER_VARIABLE = "MEMSWEEP_DATA"
"""Environment variable with the folder of the user's datasets and texts."""
REGIONS = {"train": (0.0, 0.9), "validation": (0.9, 0.95), "test": (0.95, 1.0)}
"""Begin and end of each region as shares of the text; windows of different regions never overlap."""


class DataError(ValueError):
    """The data of a trial can't be loaded; the message has one sentence per line."""


def data_folder() -> str:
    """Returns the folder in MEMSWEEP_DATA, with ~ expanded; "" if the variable is not set."""
    return os.path.expanduser(os.environ.get(FOLDER_VARIABLE, ""))


class Text(NamedTuple):
    """A text as numbers of its characters."""

    tokens: Array  # [characters] int64
    characters: str  # the distinct characters, sorted
    path: Path
    fingerprint: str  # 16 hexadecimal digits over the text

    def region(self, part: str) -> Array:
        """Returns the tokens of a region.  part: train, validation or test."""
        begin, end = (int(share * len(self.tokens)) for share in REGIONS[part])
        return np.asarray(self.tokens[begin:end])


@lru_cache(maxsize=2)
def text(root: str) -> Text:
    """Returns the only text file (UTF-8) of the folder `characters` in the user's data folder.

    root: the data folder.  Raises DataError.
    """
    folder = Path(root, "characters")
    files = sorted(folder.glob("*.txt")) if root else []
    if len(files) != 1:
        state = f"{folder} has {len(files)}" if root else f"{FOLDER_VARIABLE} is not set"
        raise DataError(
            f"data.task = 'characters' reads the only text file in ${FOLDER_VARIABLE}/characters; {state}. "
            "Put a text file there, or run `make data`, which puts the King James Bible into data/."
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
