"""What a field is: its default, its meaning, the values it allows, and what is told of any other."""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Callable, Iterable
from dataclasses import field, fields, is_dataclass
from typing import Any, NamedTuple, get_type_hints

from memsweep.spec.options import IMPORT_PATH, LIMIT


def number(default: Any, meaning: str, low: float = 0, high: float = math.inf, *, below: bool = False) -> Any:
    """A number in [low, high], or in [low, high) with `below`."""
    end = ")" if below or high == math.inf else "]"
    allowed = f"must lie in [{low:g}, {high:g}{end}"

    def is_allowed(value: Any) -> bool:
        return low <= value <= high and abs(value) < LIMIT and not (below and value == high)

    return field(default=default, metadata={"meaning": meaning, "allowed": allowed, "is_allowed": is_allowed})


def choice(default: str, options: tuple[str, ...], meaning: str, *, or_path: bool = False) -> Any:
    """One of `options`, or with `or_path` also an import path `module:Name`."""
    allowed = f"must be one of {', '.join(options)}" + (" or an import path such as my_lab.nets:MyNet" * or_path)

    def is_allowed(value: str) -> bool:
        return value in options or (or_path and IMPORT_PATH.fullmatch(value) is not None)

    return field(
        default=default,
        metadata={"meaning": meaning, "allowed": allowed, "is_allowed": is_allowed, "options": options},
    )


def checked(default: Any, meaning: str, allowed: str, is_allowed: Callable[[Any], bool]) -> Any:
    """Whatever `is_allowed` says yes to; `allowed` says the same in words."""
    return field(default=default, metadata={"meaning": meaning, "allowed": allowed, "is_allowed": is_allowed})


class FieldSpec(NamedTuple):
    """One dotted field of a trial."""

    name: str
    kind: type  # int, float, str or tuple
    default: Any
    meaning: str
    allowed: str
    is_allowed: Callable[[Any], bool]
    options: tuple[str, ...]
    item: type = str  # of a tuple's elements
    optional: bool = False

    @property
    def group(self) -> str:
        return self.name.rpartition(".")[0]

    @property
    def leaf(self) -> str:
        return self.name.rpartition(".")[2]

    @property
    def column(self) -> str:
        return self.name.replace(".", "_")

    def coerced(self, value: Any) -> Any:
        """The value in its field's type, so that 0, 0.0 and -0.0 are one trial. Raises TypeError for another type."""
        if value is None and self.optional:
            return None
        if self.kind is tuple:
            if isinstance(value, str) or not isinstance(value, Iterable):
                raise TypeError
            return tuple(_coerced_scalar(item, self.item) for item in value)
        return _coerced_scalar(value, self.kind)

    def problem(self, value: Any) -> str | None:
        """Why this value can't stand here, or None."""
        try:
            value = self.coerced(value)
        except (TypeError, ValueError, OverflowError):
            expected = {int: "a whole number", float: "a number", str: "a text", tuple: "a list"}[self.kind]
            return f"{self.name} = {value!r}: {self.meaning}; must be {expected}."
        if value is None or self.is_allowed(value):
            return None
        if isinstance(value, int | float) and abs(value) >= LIMIT:
            return f"{self.name} = {value!r}: {self.meaning}; must be smaller than 2**63."
        near = difflib.get_close_matches(str(value), self.options, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return f"{self.name} = {value!r}: {self.meaning}; {self.allowed}.{hint}"


def specs(owner: type, prefix: str = "") -> dict[str, FieldSpec]:
    """Dotted name -> field of a dataclass of such fields, and of those that it is made of."""
    found: dict[str, FieldSpec] = {}
    hints = get_type_hints(owner)
    for entry in fields(owner):
        if is_dataclass(hints[entry.name]):
            found |= specs(hints[entry.name], f"{entry.name}.")
            continue
        text = str(hints[entry.name])
        kind = next(kind for kind in (tuple, int, float, str) if kind.__name__ in text)
        found[prefix + entry.name] = FieldSpec(
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
    return found


def _coerced_scalar(value: Any, kind: type) -> Any:
    if kind is str:
        if not isinstance(value, str):
            raise TypeError
        return value
    # int and float first, since asking an abstract class is slow; numpy's numbers are Real, its bools are not
    if isinstance(value, bool) or not isinstance(value, int | float | numbers.Real):
        raise TypeError
    coerced = kind(value)
    if coerced != value:  # 1.5 is no whole number; NaN is no number
        raise TypeError
    return coerced + 0  # -0.0 becomes 0.0
