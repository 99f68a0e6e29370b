"""Stands in for `memsweep.engine.train.checkpoint`, of which the writer takes one name."""

from typing import Any, NamedTuple


class Record(NamedTuple):
    """What was found of a member that still trains."""

    curve: list[dict[str, Any]]
    probed: dict[str, list[dict[str, Any]]]
