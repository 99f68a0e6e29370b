"""The results so far of a member in training. Imports no torch: a driver reads records without it."""

from __future__ import annotations

from typing import Any, NamedTuple

Point = dict[str, Any]
"""A measurement: column of the table `steps` -> number."""


class Record(NamedTuple):
    """The results so far of a member in training."""

    curve: list[Point]  # its measurements
    probed: dict[str, list[Point]]  # table of a probe, or `metrics` -> rows
