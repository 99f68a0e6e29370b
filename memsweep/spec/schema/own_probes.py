"""The tables of a user's probes: their names and columns, as the user's module declares them.

A probe is a pair in a module: `entropy = (function, {"layer": "int64", "entropy_nats": "float64"})`. Its rows are in
the table own_entropy: no table of memsweep and no word of SQL begins like that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import pyarrow as pa

from memsweep.spec.config import ConfigError, imported
from memsweep.spec.options import OWN_PROBE, REPEATED_PROBES
from memsweep.spec.schema.columns import ATTEMPT, TRIAL, column

PREFIX = "own_"
KINDS = {"int64": pa.int64(), "float64": pa.float64(), "string": pa.string(), "bool": pa.bool_()}
PLACES = pa.schema(
    [
        TRIAL,
        ATTEMPT,
        column("step", pa.int64(), "steps trained when the probe ran"),
        column("part", pa.string(), "examples that the probe was given: train, as trained on, or validation"),
        column("row", pa.int64(), "place among the rows that the probe returned, from 0"),
    ]
)
"""Columns of each table of a user's probe, before the declared columns."""
PATH = b"probe"
"""Key of a declared column's metadata: the import path that declares it."""
_COLUMN = re.compile(r"[a-z][a-z0-9_]{0,59}")
_WORDS = (
    "all analyse analyze and any array as asc asymmetric between both by case cast check collate column constraint "
    "create default deferrable desc describe distinct do else end except false fetch for foreign from grant group "
    "having in initially intersect into is join lambda lateral leading left like limit not null offset on only or "
    "order pivot pivot_longer pivot_wider placing primary qualify references returning right select show some "
    "summarize symmetric table then to trailing true union unique unpivot using variadic when where window with"
)
RESERVED = frozenset(_WORDS.split())
"""Words that a column can't be called without quotation marks in every statement."""


class Probe(NamedTuple):
    """A user's probe."""

    function: Callable[..., Mapping[str, Any]]  # (model, inputs, labels[, own]) -> column -> values
    columns: Mapping[str, str]  # name -> type, or "type: meaning"


def paths(probes: Iterable[str]) -> tuple[str, ...]:
    """Returns the import paths among the names of probes."""
    return tuple(name for name in probes if OWN_PROBE.fullmatch(name))


def table_of(path: str) -> str:
    """Returns the name of the table of a probe: of my_lab:entropy it is own_entropy."""
    return PREFIX + path.partition(":")[2]


def repeated(probes: Iterable[str]) -> dict[str, str]:
    """Returns probe -> its table, of the probes that also run at probe_steps."""
    named = tuple(probes)
    ours = {name: name for name in named if name in REPEATED_PROBES}
    return {**ours, **{path: table_of(path) for path in paths(named)}}


def is_own_table(table: str) -> bool:
    """Returns whether a table, or a folder of this name, holds rows of a user's probe."""
    return table.startswith(PREFIX) and OWN_PROBE.fullmatch(f"_:{table.removeprefix(PREFIX)}") is not None


def probe_of(path: str) -> Probe:
    """Returns the probe at an import path.  Raises ConfigError where it declares no valid columns."""
    pair = imported(path)
    if not (isinstance(pair, tuple) and len(pair) == 2 and callable(pair[0]) and isinstance(pair[1], Mapping)):
        raise ConfigError(
            [
                f"probes = {path!r}: is {type(pair).__name__}; must be a pair (function, columns), where columns are a "
                'dict such as {"layer": "int64", "entropy_nats": "float64"}.'
            ]
        )
    probe = Probe(*pair)
    if sentences := [f"probes = {path!r}: {problem}" for problem in _column_problems(probe.columns)]:
        raise ConfigError(sentences)
    return probe


def schema_of(path: str) -> pa.Schema:
    """Returns the columns of a probe's table.  Raises ConfigError."""
    declared = [_field(path, name, text) for name, text in probe_of(path).columns.items()]
    return pa.schema([*PLACES, *declared])


def _field(path: str, name: str, text: str) -> pa.Field:
    kind, _, meaning = text.partition(":")
    field = column(name, KINDS[kind.strip()], meaning.strip() or f"as {path} declares it")
    return field.with_metadata({**field.metadata, PATH: path.encode()})


def _column_problems(columns: Mapping[str, str]) -> Iterable[str]:
    if not columns:
        yield "declares no column; name at least one."
    for name, text in columns.items():
        if not isinstance(name, str) or not _COLUMN.fullmatch(name):
            yield f"column {name!r}: must be at most 60 lower-case letters, digits and '_', and begin with a letter."
        elif name in RESERVED:
            yield f"column {name!r}: is a word of SQL; rename it."
        elif name in PLACES.names or name.startswith(PREFIX):
            yield f"column {name!r}: {', '.join(PLACES.names)} and {PREFIX}* are columns of memsweep; rename it."
        elif not isinstance(text, str) or text.partition(":")[0].strip() not in KINDS:
            yield f"column {name!r} = {text!r}: must be one of {', '.join(KINDS)}, or such a type, ':' and a meaning."
