"""Grids: a base configuration, axes and seeds, expanded into trials, and the one list of their problems."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Self, TypeAlias

from memsweep.spec.axes import MOST_VALUES, as_values, first_alike
from memsweep.spec.config import DEFAULTS, FIELDS, ConfigError, TrialConfig, unknown_field
from memsweep.spec.fields import own, rules
from memsweep.spec.options import STREAMS

Axes: TypeAlias = Mapping[Any, Iterable[Any]]
"""A field, or a tuple of fields, -> values."""


class Grid:
    """The product of all axes, each point repeated for every seed; arguments and attributes as in `Sweep`.

    Nothing is raised for wrong values: `grid_problems` lists them.
    """

    def __init__(self, base: TrialConfig | Mapping[str, Any], axes: Axes, seeds: Iterable[int]):
        self.base = base
        coerced = {axis: tuple(_coerced(axis, value) for value in as_values(values)) for axis, values in axes.items()}
        self.axes = {axis: _widened(axis, values, base) for axis, values in coerced.items()}
        self.seeds = tuple(_coerced("seed", seed) for seed in as_values(seeds))
        self._change: Callable[[TrialConfig], TrialConfig] | None = None

    def __len__(self) -> int:
        return self.setting_count * len(self.seeds)

    def __iter__(self) -> Iterator[TrialConfig]:
        base, fields = self._start
        for point in self._points():
            setting = base.with_fields({**fields, **point})
            trials = setting.replicated(self.seeds)
            yield from map(self._change, trials) if self._change else trials

    @cached_property
    def trials(self) -> tuple[TrialConfig, ...]:
        """Returns all trials; the seed varies fastest."""
        return tuple(self)

    def mapped(self, change: Callable[[TrialConfig], TrialConfig]) -> Self:
        """Returns a copy that applies `change` to each trial."""
        other, before = copy.copy(self), self._change
        other.__dict__.pop("trials", None)
        other._change = (lambda trial: change(before(trial))) if before else change
        return other

    @property
    def axis_names(self) -> list[str]:
        """Returns all fields that axes set, in the order of the axes."""
        return [name for axis in self.axes for name in names_of(axis)]

    @property
    def varying(self) -> list[str]:
        """Returns the fields of axes with several values, in the order of the axes."""
        return [name for axis, values in self.axes.items() if len(values) > 1 for name in names_of(axis)]

    @property
    def setting_count(self) -> int:
        """Returns the number of points of the grid, without seeds."""
        return math.prod(len(values) for values in self.axes.values())

    def values_of(self, names: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yields each combination of values that these fields have in the grid; axes of other fields are skipped."""
        rows = []
        for axis, values in self.axes.items():
            if places := [(place, name) for place, name in enumerate(names_of(axis)) if name in names]:
                kept = dict.fromkeys(tuple(_row(axis, value)[place] for place, _ in places) for value in values)
                rows.append([dict(zip((name for _, name in places), row, strict=True)) for row in kept])
        base = self._values_of_base()
        for parts in itertools.product(*rows):
            yield {name: base.get(name) for name in names} | {name: part[name] for part in parts for name in part}

    def grid_problems(self) -> list[str]:
        """Returns one sentence per problem: of base, axes and seeds, between fields, and of repeated points.

        Rules between fields are checked for all combinations of valid values that they distinguish.
        """
        axis_problems, rows = self._checked_axes()
        problems = [*self._base_problems(), *axis_problems, *self._seed_problems()]
        is_sound = not problems
        problems += own.conflicts(self.own_values())
        problems += self._cross_problems(rows)
        return [*problems, *self._rounding_problems(), *self._duplicates()] if is_sound else problems

    def own_values(self) -> Iterator[tuple[str, Any, str]]:
        """Yields (field, value, where it stands) for the values of own hyperparameters in axes and base."""
        for axis, values in self.axes.items():
            for place, name in enumerate(names_of(axis)):
                if own.is_own(name):
                    rows = (value if isinstance(axis, tuple) else (value,) for value in values)
                    yield from ((name, row[place], f"axis {axis!r}") for row in rows)
        base = self._values_of_base()
        yield from ((name, base[name], "base") for name in base if own.is_own(name) and name not in self.axis_names)

    def _values_of_base(self) -> dict[str, Any]:
        """Returns dotted field -> value of the base, before axes and seeds; streams that follow the seed are None."""
        if isinstance(self.base, TrialConfig):
            group = self.base.seeds
            return {**self.base.flat(), **{f"seeds.{name}": getattr(group, name) for name in STREAMS}}
        values = {name: _coerced(name, value) for name, value in self.base.items()}
        others = {name: value for name, value in values.items() if own.is_own(name)}
        return {name: values.get(name, spec.default) for name, spec in FIELDS.items()} | others

    @cached_property
    def _start(self) -> tuple[TrialConfig, dict[str, Any]]:
        """Returns (configuration, fields) that points of the grid extend.

        They are the base and {}, or, if the base is invalid until axes complete it, the defaults and the base's fields.
        """
        if isinstance(self.base, TrialConfig):
            return self.base, {}
        try:
            return TrialConfig.of(self.base), {}
        except ConfigError:
            return DEFAULTS, dict(self.base)

    def _points(self) -> Iterator[dict[str, Any]]:
        names = [names_of(axis) for axis in self.axes]
        rows = [values if isinstance(axis, tuple) else [(v,) for v in values] for axis, values in self.axes.items()]
        for point in itertools.product(*rows):
            yield {
                name: value
                for group, row in zip(names, point, strict=True)
                for name, value in zip(group, row, strict=True)
            }

    def _base_problems(self) -> list[str]:
        is_seeded = self.base.seed != 0 if isinstance(self.base, TrialConfig) else "seed" in self.base
        problems = ["base: replicates are given by seeds=..., not by 'seed'."] if is_seeded else []
        return [*problems, *_problems_of(self.base).values()]

    def _checked_axes(self) -> tuple[list[str], dict[Any, dict[Any, dict[str, Any]]]]:
        """Returns problems of axes, and axis -> kind -> its first valid row, a mapping of fields to values."""
        problems: list[str] = []
        rows: dict[Any, dict[Any, dict[str, Any]]] = {}
        seen: set[str] = set()
        for axis, values in self.axes.items():
            names = names_of(axis)
            unknown = [f"axis {unknown_field(name)}" for name in names if name not in FIELDS]
            problems += unknown
            problems += [f"axis {n!r} is listed twice." for i, n in enumerate(names) if n in seen or n in names[:i]]
            problems += [
                f"axis {name!r}: replicates are given by seeds=..., not by an axis." for name in names if name == "seed"
            ]
            seen.update(names)
            rows[axis] = {}
            if not values:
                problems.append(f"axis {axis!r} is empty: give it at least one value.")
            if len(values) > MOST_VALUES:
                problems.append(f"axis {axis!r} has more than {MOST_VALUES:,} values: give it fewer.")
            if unknown or len(values) > MOST_VALUES:
                continue
            for value in values:
                items = as_values(value) if isinstance(axis, tuple) else (value,)
                if len(items) != len(names):
                    problems.append(f"axis {axis!r}: {value!r} must be {len(names)} values, one per field.")
                    continue
                row = dict(zip(names, items, strict=True))
                wrong = _problems_of(row)
                problems += wrong.values()
                if not wrong:
                    rows[axis].setdefault(tuple(rules.kind(*item) for item in row.items()), row)
        return problems, rows

    def _seed_problems(self) -> list[str]:
        if not self.seeds:
            return ["seeds is empty: give at least one, such as seeds=range(5)."]
        if len(self.seeds) > MOST_VALUES:
            return [f"seeds has more than {MOST_VALUES:,} values: give fewer."]
        return [problem for seed in self.seeds if (problem := FIELDS["seed"].problem(seed))]

    def _rounding_problems(self) -> Iterator[str]:
        """Yields a message per pair of numbers of an axis that are equal up to rounding, and would be trained twice."""
        for axis, values in self.axes.items():
            rows = [_row(axis, value) for value in values]
            first = [
                first_alike(value for value in column if isinstance(value, float)) for column in zip(*rows, strict=True)
            ]
            if not any(first):
                continue
            seen: dict[tuple[Any, ...], tuple[Any, ...]] = {}
            for row in rows:
                rounded = tuple(others.get(value, value) for others, value in zip(first, row, strict=True))
                other = seen.setdefault(rounded, row)
                if other != row:
                    one, two = (values if isinstance(axis, tuple) else values[0] for values in (other, row))
                    yield f"axis {axis!r}: {one!r} and {two!r} are equal up to rounding; keep one of them."

    def _duplicates(self) -> Iterator[str]:
        """Yields a message per pair of grid points that are the same trial: equal axis values, or equal identity."""
        unusual = [axis for axis in self.axes if any(map(_is_unusual, names_of(axis)))]
        for axis in self.axes.keys() - set(unusual):
            seen: dict[Any, int] = {}
            for place, value in enumerate(self.axes[axis]):
                first = seen.setdefault(value, place)
                if first != place:
                    duplicate, original = ({axis: self.axes[axis][at]} for at in (place, first))
                    yield f"duplicate trial: ({self._spelled(duplicate)}) is the same as ({self._spelled(original)})."
        base = self._values_of_base()
        base_streams = {f"seeds.{stream}": base[f"seeds.{stream}"] for stream in STREAMS}
        if math.prod(len(self.axes[axis]) for axis in unusual) * len(self.seeds) > MOST_VALUES:
            return  # too many to compare here
        texts: dict[Any, str] = {}
        for rows in itertools.product(*(self.axes[axis] for axis in unusual)):
            point = {
                n: v
                for axis, value in zip(unusual, rows, strict=True)
                for n, v in zip(names_of(axis), _row(axis, value), strict=True)
            }
            plain = tuple((name, value) for name, value in point.items() if not _is_unusual(name))
            for seed in self.seeds:
                streams = tuple(seed if v is None else v for v in (point.get(n, base_streams[n]) for n in base_streams))
                text = self._spelled(dict(zip(unusual, rows, strict=True)), seed)
                first_text = texts.setdefault((plain, streams), text)
                if first_text is not text:
                    yield f"duplicate trial: ({text}) is the same as ({first_text})."

    def _spelled(self, chosen: Mapping[Any, Any], seed: int | None = None) -> str:
        """Returns the text of a grid point; axes that are not in `chosen` have their first value."""
        rows = {axis: _row(axis, chosen.get(axis, values[0])) for axis, values in self.axes.items()}
        point = {name: value for axis, row in rows.items() for name, value in zip(names_of(axis), row, strict=True)}
        point["seed"] = self.seeds[0] if seed is None else seed
        return ", ".join(f"{name}={value!r}" for name, value in point.items())

    def _cross_problems(self, rows: Mapping[Any, Mapping[Any, Mapping[str, Any]]]) -> list[str]:
        """Returns the first problem of each broken rule.  rows: as from `_checked_axes`."""
        wrong = _problems_of(self.base).keys() - set(self.axis_names)
        base = self._values_of_base()
        problems = []
        for rule in rules.RULES:
            if wrong & set(rule.fields):
                continue
            axes = [kinds.values() for axis, kinds in rows.items() if set(names_of(axis)) & set(rule.fields)]
            points = ({**base, **{n: part[n] for part in parts for n in part}} for parts in itertools.product(*axes))
            problems += list(itertools.islice(filter(None, map(rule.problem, points)), 1))
        return problems


def _problems_of(fields: TrialConfig | Mapping[str, Any]) -> dict[str, str]:
    """Returns field -> error message for the wrong fields; a TrialConfig has none."""
    if isinstance(fields, TrialConfig):
        return {}
    problems = {
        name: FIELDS[name].problem(value) if name in FIELDS else unknown_field(name) for name, value in fields.items()
    }
    return {name: problem for name, problem in problems.items() if problem}


def names_of(axis: Any) -> tuple[Any, ...]:
    """Returns the fields of an axis."""
    return axis if isinstance(axis, tuple) else (axis,)


def _row(axis: Any, value: Any) -> tuple[Any, ...]:
    return value if isinstance(axis, tuple) else (value,)


def _coerced(axis: Any, value: Any) -> Any:
    """Returns a value of an axis in its fields' types; a value of another type is returned unchanged."""
    names, items = names_of(axis), tuple(as_values(value)) if isinstance(axis, tuple) else (value,)
    try:
        items = tuple(FIELDS[name].coerced(item) for name, item in zip(names, items, strict=True))
    except (KeyError, TypeError, ValueError, OverflowError):
        return value
    return items if isinstance(axis, tuple) else items[0]


def _widened(axis: Any, values: tuple[Any, ...], base: TrialConfig | Mapping[str, Any]) -> tuple[Any, ...]:
    """Returns the values of an axis; numbers of an own field are all real if one of them, or the base's, is real."""
    names = names_of(axis)
    rows = [_row(axis, value) for value in values]
    if not any(map(own.is_own, names)) or any(len(row) != len(names) for row in rows):
        return values
    given = base.flat() if isinstance(base, TrialConfig) else base
    columns = [
        own.widened(column, (given.get(name),)) if own.is_own(name) else column
        for name, column in zip(names, zip(*rows, strict=True), strict=True)
    ]
    rows = list(zip(*columns, strict=True))
    return tuple(rows if isinstance(axis, tuple) else (row[0] for row in rows))


def _is_unusual(name: str) -> bool:
    """Returns whether two values of the field may give the same trial.

    Probes are not part of a trial's identity, and a stream's seed may equal the trial's seed.
    """
    return name.startswith(("probe", "seeds."))
