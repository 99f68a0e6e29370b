"""Parses axes from the command line: --set FIELD=VALUES."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from memsweep.spec.axes import MOST_VALUES, SPACINGS
from memsweep.spec.config import FIELDS, unknown_field
from memsweep.spec.fields.field_spec import FieldSpec
from memsweep.spec.sweep import SweepError


def parse_overrides(assignments: Iterable[str]) -> dict[str, tuple[Any, ...]]:
    """Returns field -> values, from `model.width=16,32`, `data.noise_fraction=linspace(0,0.9,4)` or `seeds=0:5`.

    Raises SweepError with all problems.
    >>> parse_overrides(["model.width=16,32", "seeds=0:3"])
    {'model.width': (16, 32), 'seeds': (0, 1, 2)}
    """
    axes: dict[str, tuple[Any, ...]] = {}
    given: dict[str, str] = {}
    problems = []
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        name = name.strip()
        spec = FIELDS.get("seed" if name == "seeds" else name)
        if not equals or not text.strip():
            problems.append(f"--set {assignment}: must be FIELD=VALUE or FIELD=V1,V2.")
        elif spec is None:
            problems.append(f"--set {unknown_field(name)}")
        elif spec.name in given:
            problems.append(_twice(given[spec.name], assignment, spec))
        else:
            given[spec.name] = assignment
            try:
                axes[name] = _parsed_values(text, spec)
            except ValueError as error:
                problems.append(f"--set {assignment}: {error}")
    if problems:
        raise SweepError(problems)
    return axes


def _twice(first: str, second: str, spec: FieldSpec) -> str:
    """Returns the error message for a field that is set by two options."""
    texts = [assignment.partition("=")[2].strip() for assignment in (first, second)]
    is_plain = spec.kind is not tuple and not re.search("[(:]", "".join(texts))
    name = first.partition("=")[0].strip()
    remedy = f"give all values at once: --set {name}={','.join(texts)}" if is_plain else "keep one of them"
    return f"--set {first} and --set {second}: a field is set once; {remedy}."


def _parsed_values(text: str, spec: FieldSpec) -> tuple[Any, ...]:
    call = re.fullmatch(r"(\w+)\((.*)\)", text.strip())
    if call:
        if call[1] not in SPACINGS:
            raise ValueError(f"{call[1]} is no spacing; use one of {', '.join(SPACINGS)}.")
        try:
            return SPACINGS[call[1]](*ast.literal_eval(f"({call[2]},)"))
        except (TypeError, ValueError, SyntaxError, ArithmeticError, RecursionError, MemoryError) as error:
            raise ValueError(f"{text} can't be computed ({error}).") from error
    span = re.fullmatch(r"(\d+):(\d+)", text.strip())
    if span and spec.kind in (int, object):
        if int(span[2]) - int(span[1]) > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES:,} values.")
        return tuple(range(int(span[1]), int(span[2])))
    if spec.kind is tuple:  # a single value, since commas separate its items
        return (tuple(_parsed(item, spec.item) for item in text.split(",") if item.strip()),)
    return tuple(_parsed(item, spec.kind) for item in text.split(","))


def _parsed(text: str, kind: type) -> Any:
    text = text.strip()
    if kind is object:
        return _parsed_own(text)
    if kind is str:
        return text
    try:
        return int(text) if kind is int else float(text)
    except ValueError:
        raise ValueError(f"{text!r} is no {'whole ' * (kind is int)}number.") from None


def _parsed_own(text: str) -> Any:
    """Returns the value of an own field: true, false, none, a number, or else the text; quotes make any text a text."""
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    if re.fullmatch(r"""(['"]).*\1""", text, re.DOTALL):
        return text[1:-1]
    for number in (int, float):
        with suppress(ValueError):
            return number(text)
    return text
