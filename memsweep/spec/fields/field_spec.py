"""Fields of a configuration: default, meaning, allowed values, and the error message for any other value."""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Callable, Iterable, Iterator
from dataclasses import field, fields, is_dataclass
from typing import Any, NamedTuple, get_type_hints

from memsweep.spec.contents import has_content, is_valid
from memsweep.spec.options import IMPORT_PATH, LIMIT


def number(default: Any, meaning: str, low: float = 0, high: float = math.inf, *, below: bool = False) -> Any:
    """Returns a dataclass field for a number in [low, high], or in [low, high) with `below`."""
    end = ")" if below or high == math.inf else "]"
    allowed = f"must lie in [{low:g}, {high:g}{end}"

    def is_allowed(value: Any) -> bool:
        return low <= value <= high and abs(value) < LIMIT and not (below and value == high)

    return field(default=default, metadata={"meaning": meaning, "allowed": allowed, "is_allowed": is_allowed})


def choice(default: str, options: tuple[str, ...], meaning: str, *, or_path: str = "", or_file: bool = False) -> Any:
    """Returns a dataclass field for one of `options`.

    or_path: an example of an import path, which is allowed too.  or_file: or a user's data, `file:PATH`, `given:NAME`.
    """
    allowed = f"must be one of {', '.join(options)}" + ", file:PATH, given:NAME" * or_file
    allowed += f" or an import path such as {or_path}" if or_path else ""

    def is_allowed(value: str) -> bool:
        if or_file and has_content(value):
            return is_valid(value)
        return value in options or (bool(or_path) and IMPORT_PATH.fullmatch(value) is not None)

    return field(
        default=default,
        metadata={"meaning": meaning, "allowed": allowed, "is_allowed": is_allowed, "options": options},
    )


def checked(default: Any, meaning: str, allowed: str, is_allowed: Callable[[Any], bool]) -> Any:
    """Returns a dataclass field for values that `is_allowed` accepts; `allowed` states the same rule in words."""
    return field(default=default, metadata={"meaning": meaning, "allowed": allowed, "is_allowed": is_allowed})


class FieldSpec(NamedTuple):
    """One dotted field of a trial."""

    name: str
    kind: type  # int, float, str or tuple; object: see own.py
    default: Any
    meaning: str
    allowed: str
    is_allowed: Callable[[Any], bool]
    options: tuple[str, ...]
    item: type = str  # of a tuple's elements
    optional: bool = False

    @property
    def group(self) -> str:
        """Returns the part of the name before the last dot; "" for a field of the trial itself."""
        return self.name.rpartition(".")[0]

    @property
    def leaf(self) -> str:
        """Returns the part of the name after the last dot."""
        return self.name.rpartition(".")[2]

    @property
    def column(self) -> str:
        """Returns the name of the field's column in tables."""
        return self.name.replace(".", "_")

    def coerced(self, value: Any) -> Any:
        """Returns the value in its field's type, so that 0, 0.0 and -0.0 give the same trial.

        Raises TypeError for a value of another type.
        """
        if value is None and self.optional:
            return None
        if self.kind is tuple:
            if isinstance(value, str) or not isinstance(value, Iterable):
                raise TypeError
            items = value if self.item is str else _flattened(value)
            return tuple(_coerced_scalar(item, self.item) for item in items)
        return _coerced_scalar(value, self.kind)

    def problem(self, value: Any) -> str | None:
        """Returns the error message for this value, or None if it is allowed."""
        try:
            value = self.coerced(value)
        except (TypeError, ValueError, OverflowError):
            expected = {int: "a whole number", float: "a number", str: "a text", tuple: "a list"}.get(self.kind)
            return f"{self.name} = {value!r}: {self.meaning}; {f'must be {expected}' if expected else self.allowed}."
        if value is None or self.is_allowed(value):
            return None
        if isinstance(value, int | float) and abs(value) >= LIMIT:
            return f"{self.name} = {value!r}: {self.meaning}; must be smaller than 2**63."
        near = difflib.get_close_matches(str(value), self.options, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return f"{self.name} = {value!r}: {self.meaning}; {self.allowed}.{hint}"


def specs(owner: type, prefix: str = "") -> dict[str, FieldSpec]:
    """Returns dotted name -> FieldSpec for the fields of a dataclass and of its nested dataclasses."""
    by_name: dict[str, FieldSpec] = {}
    hints = get_type_hints(owner)
    for entry in fields(owner):
        if entry.name == "own":  # its fields are named by the user
            continue
        if is_dataclass(hints[entry.name]):
            by_name |= specs(hints[entry.name], f"{entry.name}.")
            continue
        text = str(hints[entry.name])
        kind = next(kind for kind in (tuple, int, float, str) if kind.__name__ in text)
        by_name[prefix + entry.name] = FieldSpec(
            prefix + entry.name,
            kind,
            entry.default,
            entry.metadata["meaning"],
            entry.metadata["allowed"],
            entry.metadata["is_allowed"],
            entry.metadata.get("options", ()),
            next((item for item in (float, int) if item.__name__ in text), str),
            "None" in text,
        )
    return by_name


def _flattened(rows: Iterable[Any]) -> Iterator[Any]:
    """Yields the numbers of a list, or of the rows of a matrix."""
    for row in rows:
        yield from row if isinstance(row, Iterable) and not isinstance(row, str) else (row,)


def _coerced_scalar(value: Any, kind: type) -> Any:
    if kind is str:
        if not isinstance(value, str):
            raise TypeError
        return value
    # int and float first, since isinstance with an abstract class is slow; numpy's numbers are Real, its bools are not
    if isinstance(value, bool) or not isinstance(value, int | float | numbers.Real):
        raise TypeError
    coerced = kind(value)
    if coerced != value:  # 1.5 is not a whole number, and NaN is not equal to itself
        raise TypeError
    return coerced + 0  # -0.0 becomes 0.0
