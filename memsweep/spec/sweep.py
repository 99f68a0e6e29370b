"""Sweeps: named grids of trials, with an optional search. `sweep_files.py` reads them from files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from memsweep.spec import html
from memsweep.spec.axes import as_values, spelled_as
from memsweep.spec.config import FIELDS, ConfigError, TrialConfig
from memsweep.spec.fields import own
from memsweep.spec.grid import Axes, Grid, names_of
from memsweep.spec.options import KEEPS, NOTHING, STATE, STATES, WEIGHTS
from memsweep.spec.search.rounds import Search

SHOWN_VALUES = 6
MOST_TRIALS = 10**6
"""Most trials of a sweep that is launched without confirmation."""
LONGEST_NAME = 100
"""Most characters of a sweep's name: its files are named after it, and a file's name has at most 255 characters."""
SWEEP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class SweepError(ConfigError):
    """All problems of a sweep or of its file, one sentence each."""


class Sweep(Grid):
    """A grid of trials: the product of all axes, each setting repeated for every seed.

    name: name of the sweep in `status` and MLflow.
    base: a TrialConfig, or dotted fields (`{"model.width": 64}`) over the defaults.
    axes: field -> values, or a tuple of fields -> tuples of values that go together (zipped).
    seeds: replicates; each sets `seed`.
    search: selects which trials run, in rounds; default: all trials in one round. See `memsweep.spec.search`.
    keep: "weights" keeps the weights of each trial at its end and at `keep_steps`: the probe `weights`. "state" also
        keeps the state of training at the end, from which a trial with a larger budget goes on: the probe `states`.
    keep_steps: steps before the end, which are probe_steps.
    members: own hyperparameters that reach the user's code as tensors, one value a member, so that trials with other
    values train in the same pack; sets the field `members` of all trials.

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
        keep: str = NOTHING,
        keep_steps: Iterable[int] = (),
        members: Iterable[str] = (),
    ):
        wrong = [
            f"{what}: must be a mapping of fields; found {type(given).__name__}."
            for what, given in (("base", base), ("axes", axes))
            if not isinstance(given, Mapping | TrialConfig)
        ]
        steps = as_values(keep_steps)
        wrong = wrong or keep_problems(keep, steps, axes)
        if wrong:
            raise SweepError(wrong)
        super().__init__(_keeping(_with_members(base, members), keep, steps), axes, seeds)
        self.name = name
        self.search = search
        self.source: tuple[Path, str] | None = None  # the file that defines the sweep, and its text
        problems = [*name_problems(name), *self.grid_problems()]
        if not problems and search is not None:
            problems = search.problems(self)
        if problems := [*problems, *self._member_problems()]:
            raise SweepError(problems)

    def __repr__(self) -> str:
        several = {axis: values for axis, values in self.axes.items() if len(values) > 1}
        axes = [
            f"{', '.join(names_of(axis))} {_listed(values)}"
            for axis, values in (*several.items(), ("seed", self.seeds))
        ]
        kind = f", {self.search.name} search" if self.search else ""
        count = f"{len(self):,} trial{'s' * (len(self) != 1)}"
        return f"Sweep({self.name!r}, {count}{kind}: {'; '.join(axes)})"

    def _repr_html_(self) -> str:
        rows = [
            (", ".join(names_of(axis)), _listed(values), f"{len(values):,}")
            for axis, values in (*self.axes.items(), ("seed", self.seeds))
        ]
        kind = f"; {self.search.name} search" if self.search else ""
        count = f"{len(self):,} trial{'s' * (len(self) != 1)}"
        return html.table(("axis", "values", "number"), rows, f"Sweep {self.name}: {count}{kind}")

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
        sweep = Sweep(self.name, self.base, axes=axes, seeds=seeds, search=self.search)
        sweep.source = self.source
        return sweep

    def keeping(self, keep: str, keep_steps: Iterable[int] = ()) -> Sweep:
        """Returns a sweep that also keeps weights or states; arguments as of `Sweep`.  Raises SweepError."""
        if keep == NOTHING and not keep_steps:
            return self
        sweep = Sweep(
            self.name, self.base, axes=self.axes, seeds=self.seeds, search=self.search, keep=keep, keep_steps=keep_steps
        )
        sweep.source, sweep._change = self.source, self._change
        return sweep

    def respelled(self, numbers: Mapping[str, Iterable[float]]) -> tuple[Sweep, list[tuple[str, float, float]]]:
        """Returns a sweep whose numbers are replaced by those in `numbers` that are equal up to rounding.

        numbers: field -> numbers.
        Returns (sweep, [(field, number, replacement)]), with an entry per replaced number.
        """
        order = {name: sorted(set(column)) for name, column in numbers.items()}
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

    def own_values(self) -> Iterator[tuple[str, Any, str]]:
        """Yields (field, value, where it stands) for all own hyperparameters, those of the search's space included."""
        yield from super().own_values()
        for name, values in getattr(self.search, "space", {}).items():
            ends = (values.low,) if hasattr(values, "low") else values
            yield from ((name, value, "the search's space") for value in ends if name not in self.axis_names)

    def _member_problems(self) -> list[str]:
        """Returns a sentence per field of `members` that no trial has, or that is no number."""
        members, values = self._values_of_base()["members"], list(self.own_values())
        if FIELDS["members"].problem(members):
            return []  # reported before
        there = {name for name, _, _ in values}
        unknown = [
            f"members: no trial has the field {name}; set it in base or axes, or take it out of members."
            for name in members
            if name not in there
        ]
        return [*unknown, *own.member_problems(members, values)]

    def _in_its_spelling(self, name: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if name not in FIELDS or FIELDS[name].kind not in (float, object):
            return values
        numbers = sorted({value[name] for value in self.values_of([name]) if isinstance(value[name], float)})
        values = own.widened(values, numbers) if own.is_own(name) else values
        return tuple(spelled_as(v, numbers) if isinstance(v, float) else v for v in values)


def _with_members(base: TrialConfig | Mapping[str, Any], members: Iterable[str]) -> TrialConfig | Mapping[str, Any]:
    """Returns the base with the field `members`, in alphabetical order."""
    if not members:
        return base
    names = list(members) if not isinstance(members, str) else members
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        names = sorted(set(names))
    fields = {"members": names}
    return base.with_fields(fields) if isinstance(base, TrialConfig) else {**base, **fields}


def name_problems(name: Any) -> list[str]:
    """Returns error messages on a sweep's name."""
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


def kept_probes(keep: str) -> tuple[str, ...]:
    """Returns the probes of what a sweep or a launch keeps.  keep: one of KEEPS."""
    return {NOTHING: (), WEIGHTS: (WEIGHTS,), STATE: (WEIGHTS, STATES)}[keep]


def keep_problems(keep: Any, steps: Sequence[Any], axes: Axes) -> list[str]:
    """Returns error messages on what a sweep or a launch keeps."""
    if keep not in KEEPS:
        return [f"keep = {keep!r}: must be {' or '.join(KEEPS)}."]
    if keep == NOTHING:
        return [f"keep_steps = {steps!r}: nothing is kept; add keep = {WEIGHTS!r}."] * bool(steps)
    if wrong := [step for step in steps if isinstance(step, bool) or not isinstance(step, int) or step < 0]:
        return [f"keep_steps: {wrong[0]!r} must be a whole number of steps, 0 or more."]
    fixed = [name for axis in axes for name in names_of(axis) if name in ("probes", "probe_steps")]
    return [f"keep = {keep!r}: {name} is an axis; add {WEIGHTS!r} to its values instead." for name in fixed]


def _keeping(base: TrialConfig | Mapping[str, Any], keep: str, steps: Sequence[int]) -> TrialConfig | Mapping[str, Any]:
    """Returns the base of a sweep that keeps what `keep` names."""
    if keep == NOTHING:
        return base
    probes, before = (
        (base.probes, base.probe_steps)
        if isinstance(base, TrialConfig)
        else (as_values(base.get("probes", ())), as_values(base.get("probe_steps", ())))
    )
    fields = {
        "probes": tuple(dict.fromkeys([*probes, *kept_probes(keep)])),
        "probe_steps": tuple(sorted({*before, *steps})),
    }
    return base.with_fields(fields) if isinstance(base, TrialConfig) else {**base, **fields}
