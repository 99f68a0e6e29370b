"""Sweeps: a base configuration, axes and seeds, expanded into trials. `sweep_files.py` reads them from files."""

from __future__ import annotations

import copy
import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeAlias

from memsweep.spec import rules
from memsweep.spec.axes import MOST_VALUES, as_values, first_alike, spelled_as
from memsweep.spec.config import DEFAULTS, FIELDS, ConfigError, TrialConfig, field_problems, unknown_field
from memsweep.spec.options import STREAMS
from memsweep.spec.search.rounds import Search

Axes: TypeAlias = Mapping[Any, Iterable[Any]]  # a field, or a tuple of fields, -> values

SHOWN_VALUES = 6
MOST_TRIALS = 10**6
"""Most trials of a sweep that is launched without confirmation."""
LONGEST_NAME = 100
"""Most characters of a sweep's name: its files are named after it, and a file's name has at most 255 characters."""
SWEEP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class SweepError(ConfigError):
    """All problems of a sweep or of its file, one sentence each."""


class Sweep:
    """A grid of trials: the product of all axes, each setting repeated for every seed.

    name: name of the sweep in `status` and MLflow.
    base: a TrialConfig, or dotted fields (`{"model.width": 64}`) over the defaults.
    axes: field -> values, or a tuple of fields -> tuples of values that go together (zipped).
    seeds: replicates; each sets `seed`.
    search: selects which trials run, in rounds; default: all trials in one round. See `memsweep.spec.search`.

    Trials are built lazily: `len(sweep)` builds no trial, `iter(sweep)` builds one after another, and `sweep.trials`
    builds and caches all trials.
    Raises SweepError that lists every unknown field, wrong or empty axis, duplicate trial and invalid combination of
    values.

    >>> widths = {"model.width": memsweep.log2(16, 64)}
    >>> sweep = Sweep("widths", {"data.task": "digits"}, axes=widths, seeds=range(5))
    >>> sweep
    Sweep('widths', 15 trials: model.width 16, 32, 64; seed 0, 1, 2, 3, 4)
    >>> len(sweep), sweep.trials[0].model.width
    (15, 16)
    """

    def __init__(
        self,
        name: str,
        base: TrialConfig | Mapping[str, Any] = MappingProxyType({}),
        *,
        axes: Axes = MappingProxyType({}),
        seeds: Iterable[int] = (0,),
        search: Search | None = None,
    ):
        wrong = [
            f"{what}: must be a mapping of fields; found {type(given).__name__}."
            for what, given in (("base", base), ("axes", axes))
            if not isinstance(given, Mapping | TrialConfig)
        ]
        if wrong:
            raise SweepError(wrong)
        self.name = name
        self.search = search
        self.base = base
        self.axes = {axis: as_values(values) for axis, values in axes.items()}
        self.seeds = as_values(seeds)
        self._change: Callable[[TrialConfig], TrialConfig] | None = None
        problems = [*_name_problems(name), *self._field_problems(), *self._axis_problems(), *self._seed_problems()]
        if problems:
            raise SweepError(problems)
        self.axes = {axis: tuple(_coerced(axis, value) for value in values) for axis, values in self.axes.items()}
        self.seeds = tuple(FIELDS["seed"].coerced(seed) for seed in self.seeds)
        if problems := [*self._rounding_problems(), *self._duplicates(), *self._cross_problems()]:
            raise SweepError(problems)
        if search is not None and (problems := search.problems(self)):
            raise SweepError(problems)

    def __len__(self) -> int:
        return self.setting_count * len(self.seeds)

    def __iter__(self) -> Iterator[TrialConfig]:
        base, fields = self._start
        for point in self._points():
            setting = base.with_fields({**fields, **point})
            for seed in self.seeds:
                trial = setting.seeded(seed)
                yield self._change(trial) if self._change else trial

    def __repr__(self) -> str:
        several = {axis: values for axis, values in self.axes.items() if len(values) > 1}
        axes = [
            f"{', '.join(_names(axis))} {_listed(values)}" for axis, values in (*several.items(), ("seed", self.seeds))
        ]
        kind = f", {self.search.name} search" if self.search else ""
        count = f"{len(self):,} trial{'s' * (len(self) != 1)}"
        return f"Sweep({self.name!r}, {count}{kind}: {'; '.join(axes)})"

    @cached_property
    def trials(self) -> tuple[TrialConfig, ...]:
        """All trials; the seed varies fastest."""
        return tuple(self)

    def with_axes(self, overrides: Axes) -> Sweep:
        """Returns a sweep with these axes replaced or added; the axis `seed` or `seeds` replaces the seeds.

        A number that equals a number of this sweep up to rounding is replaced by that number. Raises SweepError.
        """
        axes: dict[str | tuple[str, ...], Iterable[Any]] = dict(self.axes)
        seeds: Iterable[Any] = self.seeds
        if {"seed", "seeds"} <= overrides.keys():
            raise SweepError(["seed and seeds: both replace the seeds; give one of them."])
        for name, values in overrides.items():
            if name in ("seed", "seeds"):
                seeds = values
                continue
            zipped = next((axis for axis in axes if isinstance(axis, tuple) and name in axis), None)
            if zipped:
                raise SweepError(
                    [
                        f"--set {name}: it is zipped with {', '.join(n for n in zipped if n != name)}; "
                        "change the sweep file instead."
                    ]
                )
            axes[name] = self._in_its_spelling(name, as_values(values))
        return Sweep(self.name, self.base, axes=axes, seeds=seeds, search=self.search)

    def mapped(self, change: Callable[[TrialConfig], TrialConfig]) -> Sweep:
        """Returns a sweep that applies `change` to each trial of this sweep."""
        other, before = copy.copy(self), self._change
        other.__dict__.pop("trials", None)
        other._change = (lambda trial: change(before(trial))) if before else change
        return other

    def respelled(self, known: Mapping[str, Iterable[float]]) -> tuple[Sweep, list[tuple[str, float, float]]]:
        """Returns a sweep whose numbers are replaced by those in `known` that are equal up to rounding.

        known: field -> numbers.
        Returns (sweep, [(field, number, replacement)]), with an entry per replaced number.
        """
        order = {name: sorted(set(numbers)) for name, numbers in known.items()}
        replaced: dict[tuple[str, float, float], None] = {}

        def respelled(name: str, value: Any) -> Any:
            if not isinstance(value, float) or name not in order:
                return value
            other = spelled_as(value, order[name])
            if other != value:
                replaced[name, value, other] = None
            return other

        axes: dict[Any, Any] = {
            axis: [
                tuple(map(respelled, axis, row)) if isinstance(axis, tuple) else respelled(axis, row) for row in rows
            ]
            for axis, rows in self.axes.items()
        }
        values = self._values_of_base() if order else {}
        base = {name: respelled(name, values[name]) for name in order if name in values and name not in self.axis_names}
        if not replaced:
            return self, []
        fields = base if isinstance(self.base, TrialConfig) else {**self.base, **base}
        start = self.base.with_fields(fields) if isinstance(self.base, TrialConfig) else fields
        other = Sweep(self.name, start, axes=axes, seeds=self.seeds, search=self.search)
        other._change = self._change
        return other, list(replaced)

    @property
    def axis_names(self) -> list[str]:
        """All fields that axes set, in the order of the axes."""
        return [name for axis in self.axes for name in _names(axis)]

    @property
    def varying(self) -> list[str]:
        """Fields of the axes that have more than one value, in the order of the axes."""
        return [name for axis, values in self.axes.items() if len(values) > 1 for name in _names(axis)]

    @property
    def setting_count(self) -> int:
        """Points of the grid, without seeds."""
        return math.prod(len(values) for values in self.axes.values())

    def values_of(self, names: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yields each combination of values that these fields have in the grid; axes of other fields are skipped."""
        rows = []
        for axis, values in self.axes.items():
            if places := [(place, name) for place, name in enumerate(_names(axis)) if name in names]:
                kept = dict.fromkeys(tuple(_row(axis, value)[place] for place, _ in places) for value in values)
                rows.append([dict(zip((name for _, name in places), row, strict=True)) for row in kept])
        base = self._values_of_base()
        for parts in itertools.product(*rows):
            yield {name: base[name] for name in names} | {name: part[name] for part in parts for name in part}

    def _values_of_base(self) -> dict[str, Any]:
        """Returns dotted field -> value of the base, before axes and seeds; streams that follow the seed are None."""
        if isinstance(self.base, TrialConfig):
            group = self.base.seeds
            return {**self.base.flat(), **{f"seeds.{name}": getattr(group, name) for name in STREAMS}}
        given = {name: FIELDS[name].coerced(value) for name, value in self.base.items()}
        return {name: given.get(name, spec.default) for name, spec in FIELDS.items()}

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
        names = [_names(axis) for axis in self.axes]
        rows = [values if isinstance(axis, tuple) else [(v,) for v in values] for axis, values in self.axes.items()]
        for point in itertools.product(*rows):
            yield {
                name: value
                for group, row in zip(names, point, strict=True)
                for name, value in zip(group, row, strict=True)
            }

    def _in_its_spelling(self, name: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if name not in FIELDS or FIELDS[name].kind is not float:
            return values
        numbers = sorted({value[name] for value in self.values_of([name])})
        return tuple(spelled_as(v, numbers) if isinstance(v, float) else v for v in values)

    def _field_problems(self) -> list[str]:
        seeded = self.base.seed != 0 if isinstance(self.base, TrialConfig) else "seed" in self.base
        problems = ["base: replicates are given by seeds=..., not by 'seed'."] if seeded else []
        return problems + ([] if isinstance(self.base, TrialConfig) else field_problems(self.base))

    def _axis_problems(self) -> list[str]:
        problems: list[str] = []
        seen: set[str] = set()
        for axis, values in self.axes.items():
            names = _names(axis)
            unknown = [f"axis {unknown_field(name)}" for name in names if name not in FIELDS]
            problems += unknown
            problems += [f"axis {n!r} is listed twice." for i, n in enumerate(names) if n in seen or n in names[:i]]
            problems += [
                f"axis {name!r}: replicates are given by seeds=..., not by an axis." for name in names if name == "seed"
            ]
            seen.update(names)
            if not values:
                problems.append(f"axis {axis!r} is empty: give it at least one value.")
            if len(values) > MOST_VALUES:
                problems.append(f"axis {axis!r} has more than {MOST_VALUES:,} values: give it fewer.")
            if unknown or len(values) > MOST_VALUES:
                continue
            for value in values:
                row = as_values(value) if isinstance(axis, tuple) else (value,)
                if len(row) != len(names):
                    problems.append(f"axis {axis!r}: {value!r} must be {len(names)} values, one a field.")
                    continue
                problems += field_problems(dict(zip(names, row, strict=True)))
        return problems

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
                first_alike(column) if FIELDS[name].kind is float else {}
                for name, column in zip(_names(axis), zip(*rows, strict=True), strict=True)
            ]
            if not any(first):
                continue
            seen: dict[tuple[Any, ...], tuple[Any, ...]] = {}
            for row in rows:
                rounded = tuple(others.get(value, value) for others, value in zip(first, row, strict=True))
                other = seen.setdefault(rounded, row)
                if other != row:
                    one, two = (values if isinstance(axis, tuple) else values[0] for values in (other, row))
                    yield f"axis {axis!r}: {one!r} and {two!r} are the same but for rounding; keep one of them."

    def _duplicates(self) -> Iterator[str]:
        """Yields a message per pair of grid points that are the same trial: equal axis values, or equal identity."""
        unusual = [axis for axis in self.axes if any(map(_is_unusual, _names(axis)))]
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
                for n, v in zip(_names(axis), _row(axis, value), strict=True)
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
        point = {name: value for axis, row in rows.items() for name, value in zip(_names(axis), row, strict=True)}
        point["seed"] = self.seeds[0] if seed is None else seed
        return ", ".join(f"{name}={value!r}" for name, value in point.items())

    def _cross_problems(self) -> list[str]:
        """Returns the problems of all combinations of values that the rules distinguish."""
        base, fields = self._start
        kinds = []
        for axis, values in self.axes.items():
            kept: dict[Any, dict[str, Any]] = {}
            for value in values:
                point = dict(zip(_names(axis), _row(axis, value), strict=True))
                kept.setdefault(tuple(rules.kind(*item) for item in point.items()), point)
            kinds.append(list(kept.values()))
        problems: dict[str, None] = {}
        for parts in itertools.product(*kinds):
            try:
                base.with_fields({**fields, **{name: part[name] for part in parts for name in part}})
            except ConfigError as error:
                problems |= dict.fromkeys(error.problems)
        return list(problems)


def _names(axis: Any) -> tuple[Any, ...]:
    return axis if isinstance(axis, tuple) else (axis,)


def _row(axis: Any, value: Any) -> tuple[Any, ...]:
    return value if isinstance(axis, tuple) else (value,)


def _coerced(axis: Any, value: Any) -> Any:
    row = as_values(value) if isinstance(axis, tuple) else (value,)
    coerced = tuple(FIELDS[name].coerced(item) for name, item in zip(_names(axis), row, strict=True))
    return coerced if isinstance(axis, tuple) else coerced[0]


def _is_unusual(name: str) -> bool:
    """Returns whether two values of the field may give the same trial.

    Probes are not part of a trial's identity, and a stream's seed may equal the trial's seed.
    """
    return name.startswith(("probe", "seeds."))


def _name_problems(name: Any) -> list[str]:
    if not isinstance(name, str) or not SWEEP_NAME.fullmatch(name):
        return [f"name {name!r}: must be letters, digits, '_', '-' or '.', and begin with a letter or digit."]
    if len(name) > LONGEST_NAME:
        return [
            f"name {name[:20]}...: has {len(name)} characters; at most {LONGEST_NAME}, since files are called by it."
        ]
    return []


def _listed(values: Sequence[Any]) -> str:
    """Returns the text of all values, or of the first and the last if there are more than SHOWN_VALUES."""
    if len(values) <= SHOWN_VALUES:
        return ", ".join(str(value) for value in values)
    return f"{values[0]} ... {values[-1]} ({len(values):,} values)"


def check_size(sweeps: Iterable[Sweep]) -> None:
    """Raises SweepError if a sweep has more than MOST_TRIALS trials."""
    large = [f"{s.name} has {len(s):,} trials, more than {MOST_TRIALS:,}" for s in sweeps if len(s) > MOST_TRIALS]
    if large:
        raise SweepError([f"{'; '.join(large)}: give axes fewer values, or confirm it with --yes (Python: yes=True)."])
