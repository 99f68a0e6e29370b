"""A rule between fields of a trial; the tables of rules are in rules.py and probe_rules.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple


class Rule(NamedTuple):
    """A constraint between fields, each of which is valid by itself."""

    fields: tuple[str, ...]  # dotted names
    is_broken: Callable[..., bool]  # takes the values of `fields`, in their order
    text: str  # the rule, and what to change

    def problem(self, values: Mapping[str, Any]) -> str | None:
        """Returns the error message if these values break the rule, else None.  values: dotted field -> value."""
        if not self.is_broken(*[values[name] for name in self.fields]):
            return None
        return f"{', '.join(f'{name} = {values[name]!r}' for name in self.fields)}: {self.text}"


def zero(names: Iterable[str], field: str, is_concerned: Callable[[Any], bool], reason: str) -> Iterable[Rule]:
    """Yields a rule per name: it must be 0 if the other field is concerned."""
    for name in names:
        text = f"{reason}; set {name} to 0."
        yield Rule((field, name), lambda value, strength: bool(strength) and is_concerned(value), text)
