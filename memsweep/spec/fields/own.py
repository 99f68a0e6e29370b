"""Own hyperparameters: fields `own.<name>`, which a user names and whose values a user's code reads as `own`."""

from __future__ import annotations

import inspect
import keyword
import math
import numbers
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from memsweep.spec.fields.field_spec import FieldSpec
from memsweep.spec.options import LIMIT

GROUP = "own"
LONGEST_TEXT = 500
"""Most characters of a text, since it is a parameter in MLflow and part of names."""
LONGEST_NAME = 100
_NAME = re.compile(r"own\.([A-Za-z][A-Za-z0-9_]*)")


class OwnFields:
    """The own hyperparameters of a trial: `own.temperature` or `own["temperature"]` is the value of that field.

    >>> own = OwnFields({"temperature": 0.5})
    >>> own.temperature, "heads" in own
    (0.5, False)
    """

    def __init__(self, values: Mapping[str, Any] = MappingProxyType({})):
        self.__dict__.update(sorted(values.items()))

    def __getattr__(self, name: str) -> Any:
        there = ", ".join(f"own.{other}" for other in self) or "none"
        raise AttributeError(
            f"own.{name}: the code reads a field that it is not given; it is given {there}. Set own.{name} in the "
            "sweep."
        )

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"own.{name}: the fields of a trial can't be changed; use a variable.")

    def __getitem__(self, name: str) -> Any:
        return self.__dict__[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.__dict__)

    def __len__(self) -> int:
        return len(self.__dict__)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OwnFields) and self._typed() == other._typed()

    def __hash__(self) -> int:
        return hash(self._typed())

    def __repr__(self) -> str:
        return f"OwnFields({self.__dict__!r})"

    def _typed(self) -> tuple[Any, ...]:
        """Returns names, types and values: 1, 1.0 and True are different values."""
        return tuple((name, type(value), value) for name, value in self.__dict__.items())


NO_FIELDS = OwnFields()


@dataclass(frozen=True)
class WithOwn:
    """A hook together with the argument `own`; two of them are equal if function and values are."""

    function: Callable[..., Any]
    own: OwnFields

    def __call__(self, *values: Any) -> Any:
        """Returns the hook's result."""
        return self.function(*values, own=self.own)


def bound(hook: Callable[..., Any], own: OwnFields) -> Callable[..., Any]:
    """Returns the hook, with the argument `own` if its signature has a parameter of that name."""
    return WithOwn(hook, own) if takes_own(hook) else hook


def takes_own(hook: Callable[..., Any]) -> bool:
    """Returns whether the hook's signature has a parameter `own`."""
    try:
        return GROUP in inspect.signature(hook).parameters
    except (TypeError, ValueError):  # a built-in function without a signature
        return False


class Fields(dict[str, FieldSpec]):
    """Dotted field -> FieldSpec. It iterates over the fields of memsweep, and finds every valid `own.<name>` too."""

    def __missing__(self, name: str) -> FieldSpec:
        if is_own(name):
            return _spec(name)
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or is_own(name)

    def get(self, name: str, default: Any = None) -> Any:
        """Returns the FieldSpec of a field, or the default for an unknown field."""
        return self[name] if name in self else default  # noqa: SIM401, the rule suggests this method itself


def is_own(name: object) -> bool:
    """Returns whether this is a valid dotted name of an own hyperparameter."""
    match = _NAME.fullmatch(name) if isinstance(name, str) else None
    return match is not None and not keyword.iskeyword(match[1]) and len(match[1]) <= LONGEST_NAME


def is_own_column(name: str) -> bool:
    """Returns whether a column of `trials` holds an own hyperparameter."""
    return name.startswith("own_")


def own_field(column: str) -> str:
    """Returns the dotted field of an own column: own_temperature is that of own.temperature."""
    return f"own.{column.removeprefix('own_')}"


def wrong_name(name: str) -> str:
    """Returns the error message for an invalid name in the group `own`."""
    return (
        f"{name!r}: an own field is named by a Python identifier of at most {LONGEST_NAME} ASCII letters, digits and "
        "'_', begins with a letter and is no keyword, such as 'own.temperature'."
    )


def coerced(value: Any) -> Any:
    """Returns a number, text, bool or None as Python's own type; -0.0 becomes 0.0.  Raises TypeError for others."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        value.encode()  # raises a ValueError for half a surrogate pair
        return str(value)
    if type(value).__name__ in ("bool", "bool_"):  # numpy's
        return bool(value)
    if not isinstance(value, numbers.Real):
        raise TypeError
    number = int(value) if isinstance(value, numbers.Integral) else float(value)
    if not math.isfinite(number):
        raise TypeError
    return number + 0


def kind(value: Any) -> str:
    """Returns what a value is: "a number", "a text", "True or False", or "" for None, which fits all of them."""
    if value is None:
        return ""
    return "True or False" if isinstance(value, bool) else "a text" if isinstance(value, str) else "a number"


def widened(values: Iterable[Any], others: Iterable[Any] = ()) -> tuple[Any, ...]:
    """Returns the values, whole numbers as real numbers if any of the values, or of the others, is a real number.

    >>> widened((0, 0.5, 1))
    (0.0, 0.5, 1.0)
    """
    values = tuple(values)
    if not any(isinstance(value, float) for value in (*values, *others)):
        return values
    return tuple(float(value) if type(value) is int else value for value in values)


def member_problems(members: Iterable[str], items: Iterable[tuple[Any, ...]]) -> list[str]:
    """Returns a sentence per field of `members` with a value that is no number.

    items: (dotted field, value), or (dotted field, value, where it stands); other fields are skipped.
    """
    names, sentences = set(members), dict[str, str]()
    for name, value, *where in items if names else ():
        if name in names and kind(value) != "a number":
            place = f" ({where[0]})" if where else ""
            sentences.setdefault(
                name,
                f"{name} = {value!r}{place}: is in members, whose values become tensors; give it numbers, or take it "
                "out of members.",
            )
    return list(sentences.values())


def conflicts(places: Iterable[tuple[str, Any, str]]) -> Iterator[str]:
    """Yields a sentence per field whose values differ in type, and per two fields that differ only in case.

    places: (dotted field, value, where it stands); other fields are skipped.
    """
    kinds: dict[str, tuple[str, Any, str]] = {}
    spelled: dict[str, tuple[str, str]] = {}
    sentences: dict[str, str] = {}
    for name, value, where in places:
        if not is_own(name):
            continue
        other, place = spelled.setdefault(name.lower(), (name, where))
        if other != name:
            sentences.setdefault(
                f"{name} {other}",
                f"{name} ({where}) and {other} ({place}): SQL does not distinguish upper and lower case; rename one.",
            )
        if what := kind(value):
            what_before, before, place = kinds.setdefault(name, (what, value, where))
            if what_before != what:
                sentences.setdefault(
                    name,
                    f"{name} = {value!r} ({where}) is {what}, and {name} = {before!r} ({place}) is {what_before}: the "
                    "values of a field have one type; change one of them, or rename the field.",
                )
    yield from sentences.values()


class _OwnSpec(FieldSpec):
    """The FieldSpec of an own hyperparameter, whose values have any of several types."""

    def coerced(self, value: Any) -> Any:
        """Returns the value in Python's own type.  Raises TypeError."""
        return coerced(value)


@lru_cache(maxsize=4096)
def _spec(name: str) -> FieldSpec:
    def is_allowed(value: Any) -> bool:
        return len(value) <= LONGEST_TEXT if isinstance(value, str) else abs(value) < LIMIT

    allowed = f"must be a finite number, True, False, None or a text of at most {LONGEST_TEXT} characters"
    return _OwnSpec(name, object, None, "own hyperparameter", allowed, is_allowed, (), optional=True)
