"""Parts of a launch: several launches that each train a fixed share of the same trials, as the jobs of an array do."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import NamedTuple

from memsweep.spec.config import ConfigError

SLURM = "slurm"
"""The text that stands for the variables of a job array."""


class Part(NamedTuple):
    """Part `number` of `total`; the first is 1."""

    number: int
    total: int

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"

    @property
    def name(self) -> str:
        """Returns the name in files: 2-of-4."""
        return f"{self.number}-of-{self.total}"

    @classmethod
    def of(cls, text: str, environment: Mapping[str, str] = os.environ) -> Part:
        """Returns the part for a text: I/N, or `slurm` for SLURM's variables.  Raises ConfigError."""
        if text == SLURM:
            return cls._of_array(environment)
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise ConfigError([f"{text!r}: must be I/N, such as 2/4, with I from 1 to N; or {SLURM}, in a job array."])
        return cls(int(match[1]), int(match[2]))

    @classmethod
    def _of_array(cls, environment: Mapping[str, str]) -> Part:
        names = [f"SLURM_ARRAY_TASK_{name}" for name in ("ID", "COUNT", "MIN", "MAX", "STEP")]
        texts = [environment.get(name, "") for name in names]
        if not texts[0].isdecimal():
            raise ConfigError([f"{SLURM}: {names[0]} is not set: this is no job of an array. Use --part I/N."])
        number, count, first, last, step = (int(text) if text.isdecimal() else 1 for text in texts)
        if (first, last, step) != (1, count, 1):
            raise ConfigError(
                [
                    f"{SLURM}: the array is {first}-{last}:{step} with {count} jobs: parts are numbered from 1 without "
                    f"gaps. Use sbatch --array=1-N, or --part I/N."
                ]
            )
        return cls.of(f"{number}/{count}")

    def bounds(self, trials: int, program: int) -> tuple[int, int]:
        """Returns (first, end) of the trials of this part among the `trials` of one program.

        program: its number; the shares rotate with it, so that programs of few trials do not all fall to one part.
        """
        share = (self.number - 1 + program) % self.total
        return trials * share // self.total, trials * (share + 1) // self.total
