"""A sweep is a question: base configuration, axes, seeds. This file expands it into trials and reads sweep files."""

from __future__ import annotations

import ast
import copy
import difflib
import itertools
import math
import re
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

from memsweep.config import FIELDS, ConfigError, TrialConfig, field_problems, unknown_field
from memsweep.fields import FieldSpec
from memsweep.searches.rounds import Search

Axes: TypeAlias = Mapping[Any, Iterable[Any]]  # a field, or a tuple of fields, -> values

SHOWN_PROBLEMS = 20
MOST_VALUES = 10**6
SWEEP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class SweepError(ConfigError):
    """Every problem of a sweep or of its file."""


def linspace(low: float, high: float, count: int) -> tuple[float, ...]:
    """`count` evenly spaced numbers from low to high, both included.

    >>> linspace(0, 1, 5)
    (0.0, 0.25, 0.5, 0.75, 1.0)
    """
    if count == 1:
        return (float(low),)
    return tuple(_rounded(low + (high - low) * i / (count - 1)) for i in range(count))


def logspace(low: float, high: float, count: int) -> tuple[float, ...]:
    """`count` numbers from 10**low to 10**high, evenly spaced in their logarithm.

    >>> logspace(-3, -1, 3)
    (0.001, 0.01, 0.1)
    """
    return tuple(_rounded(10**exponent) for exponent in linspace(low, high, count))


def log2(low: int, high: int) -> tuple[int, ...]:
    """Low and its doublings up to high.

    >>> log2(64, 512)
    (64, 128, 256, 512)
    """
    return tuple(low << i for i in range(int(math.log2(high / low)) + 1))


class Sweep:
    """A grid of trials: the product of all axes, each setting repeated for every seed.

    name: of the sweep, as `status` and MLflow show it.
    base: a TrialConfig, or dotted fields (`{"model.width": 64}`) over the defaults.
    axes: field -> values, or a tuple of fields -> tuples of values that go together (zipped).
    seeds: replicates; each sets `seed`.
    search: which of the trials are run, and when; default: all at once. See `memsweep.searches`.

    Raises SweepError listing every unknown field, wrong or empty axis and duplicate trial at once.

    >>> sweep = Sweep("widths", {"data.task": "digits"}, axes={"model.width": log2(16, 64)}, seeds=range(5))
    >>> len(sweep.trials), sweep.trials[0].model.width
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
        self.name = name
        self.search = search
        self.base = base
        self.axes = {axis: _values(values) for axis, values in axes.items()}
        self.seeds = _values(seeds)
        problems = [*self._field_problems(), *self._axis_problems(), *self._seed_problems()]
        if not isinstance(name, str) or not SWEEP_NAME.fullmatch(name):
            problems.insert(
                0, f"name {name!r}: must be letters, digits, '_', '-' or '.', and begin with a letter or digit."
            )
        if problems:
            raise SweepError(problems)
        self.trials: tuple[TrialConfig, ...] = tuple(self._expanded())
        if search is not None and (problems := search.problems(self)):
            raise SweepError(problems)

    def with_axes(self, overrides: Axes) -> Sweep:
        """The same sweep with these axes replaced or added, and `seed` replacing the seeds."""
        axes: dict[str | tuple[str, ...], Iterable[Any]] = dict(self.axes)
        seeds: Iterable[Any] = self.seeds
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
            axes[name] = values
        return Sweep(self.name, self.base, axes=axes, seeds=seeds, search=self.search)

    def mapped(self, change: Callable[[TrialConfig], TrialConfig]) -> Sweep:
        """The same sweep, whose trials are what `change` makes of each."""
        other = copy.copy(self)
        other.trials = tuple(map(change, self.trials))
        return other

    @property
    def axis_names(self) -> list[str]:
        """Every field that an axis gives values, in their order."""
        return [name for axis in self.axes for name in (axis if isinstance(axis, tuple) else (axis,))]

    @property
    def varying(self) -> list[str]:
        """Those of axis_names with more than one value."""
        several = [axis for axis, values in self.axes.items() if len(values) > 1]
        return [name for axis in several for name in (axis if isinstance(axis, tuple) else (axis,))]

    @property
    def setting_count(self) -> int:
        return math.prod(len(values) for values in self.axes.values())

    @cached_property
    def _base(self) -> TrialConfig | None:
        """The base, or None when axes must complete it before it is valid."""
        if isinstance(self.base, TrialConfig):
            return self.base
        try:
            return TrialConfig.of(self.base)
        except ConfigError:
            return None

    def _points(self) -> Iterator[dict[str, Any]]:
        names = [axis if isinstance(axis, tuple) else (axis,) for axis in self.axes]
        rows = [values if isinstance(axis, tuple) else [(v,) for v in values] for axis, values in self.axes.items()]
        for point in itertools.product(*rows):
            yield {
                name: value
                for group, row in zip(names, point, strict=True)
                for name, value in zip(group, row, strict=True)
            }

    def _expanded(self) -> Iterator[TrialConfig]:
        problems: list[str] = []
        first_of: dict[str, str] = {}
        base = self._base
        fields = {} if isinstance(self.base, TrialConfig) or base else dict(self.base)
        for point in self._points():
            try:
                setting = (base or TrialConfig()).with_fields({**fields, **point})
            except ConfigError as error:
                problems += [problem for problem in error.problems if problem not in problems]
                continue
            for seed in self.seeds:
                trial = setting.with_fields({"seed": seed})
                here = ", ".join(f"{name}={value!r}" for name, value in {**point, "seed": seed}.items())
                if trial.trial_id in first_of:
                    problems.append(f"duplicate trial: ({here}) is the same as ({first_of[trial.trial_id]}).")
                first_of.setdefault(trial.trial_id, here)
                yield trial
        if problems:
            raise SweepError(problems)

    def _field_problems(self) -> list[str]:
        seeded = self.base.seed != 0 if isinstance(self.base, TrialConfig) else "seed" in self.base
        problems = ["base: replicates are given by seeds=..., not by 'seed'."] if seeded else []
        return problems + ([] if isinstance(self.base, TrialConfig) else field_problems(self.base))

    def _axis_problems(self) -> list[str]:
        problems: list[str] = []
        seen: set[str] = set()
        for axis, values in self.axes.items():
            names = axis if isinstance(axis, tuple) else (axis,)
            unknown = [f"axis {unknown_field(name)}" for name in names if name not in FIELDS]
            problems += unknown
            problems += [f"axis {n!r} is listed twice." for i, n in enumerate(names) if n in seen or n in names[:i]]
            problems += [
                f"axis {name!r}: replicates are given by seeds=..., not by an axis." for name in names if name == "seed"
            ]
            seen.update(names)
            if not values:
                problems.append(f"axis {axis!r} is empty: give it at least one value.")
            if unknown:
                continue
            for value in values:
                row = value if isinstance(axis, tuple) else (value,)
                if not isinstance(row, Sequence) or isinstance(row, str) or len(row) != len(names):
                    problems.append(f"axis {axis!r}: {value!r} must be {len(names)} values, one a field.")
                    continue
                problems += field_problems(dict(zip(names, row, strict=True)))
        return problems

    def _seed_problems(self) -> list[str]:
        if not self.seeds:
            return ["seeds is empty: give at least one, such as seeds=range(5)."]
        return [problem for seed in self.seeds if (problem := FIELDS["seed"].problem(seed))]


def load_sweep(path_or_name: str) -> Sweep:
    """The SWEEP of a file, given as a path or as the bare name of a file in ./sweeps or beside the package.

    Raises SweepError, with the file's name and line, when it can't be found, read or built.
    """
    path = _sweep_path(path_or_name)
    try:
        code = compile(path.read_text("utf-8-sig"), str(path), "exec")
    except SyntaxError as error:
        text = (error.text or "").strip()
        raise SweepError([f"{path}, line {error.lineno}: {error.msg}: {text}"]) from error
    except (OSError, ValueError) as error:  # no text, or one with null bytes, which older Pythons tell so
        raise SweepError([f"{path}: can't be read ({error})."]) from error
    scope: dict[str, Any] = {"__name__": path.stem, "__file__": str(path)}
    try:
        exec(code, scope)
    except ConfigError as error:
        raise SweepError([f"{path}: {problem}" for problem in _shortened(error.problems)]) from error
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        where = f", line {lines[-1]}" if lines else ""
        raise SweepError([f"{path}{where}: {type(error).__name__}: {error}"]) from error
    sweep = scope.get("SWEEP")
    if not isinstance(sweep, Sweep):
        raise SweepError([f"{path}: has no SWEEP = Sweep(...); found {type(sweep).__name__}."])
    return sweep


def parse_overrides(assignments: Iterable[str]) -> dict[str, tuple[Any, ...]]:
    """Axes from the command line: `model.width=16,32`, `data.noise_fraction=linspace(0,0.9,4)`, `seeds=0:5`.

    >>> parse_overrides(["model.width=16,32", "seeds=0:3"])
    {'model.width': (16, 32), 'seeds': (0, 1, 2)}
    """
    axes: dict[str, tuple[Any, ...]] = {}
    problems = []
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        name = name.strip()
        spec = FIELDS.get("seed" if name == "seeds" else name)
        if not equals or not text.strip():
            problems.append(f"--set {assignment}: must be FIELD=VALUE or FIELD=V1,V2.")
        elif spec is None:
            problems.append(f"--set {unknown_field(name)}")
        else:
            try:
                axes[name] = _parsed_values(text, spec)
            except ValueError as error:
                problems.append(f"--set {assignment}: {error}")
    if problems:
        raise SweepError(problems)
    return axes


FOLDERS = (Path("sweeps"), Path(__file__).parent.parent / "sweeps")
"""Where sweep files are looked for by their bare names."""
SPACINGS: dict[str, Callable[..., tuple[Any, ...]]] = {"linspace": linspace, "logspace": logspace, "log2": log2}


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
    if span and spec.kind is int:
        if int(span[2]) - int(span[1]) > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES} values.")
        return tuple(range(int(span[1]), int(span[2])))
    if spec.kind is tuple:  # one value, since its items are joined by commas
        return (tuple(_parsed(item, spec.item) for item in text.split(",") if item.strip()),)
    return tuple(_parsed(item, spec.kind) for item in text.split(","))


def _parsed(text: str, kind: type) -> Any:
    text = text.strip()
    if kind is str:
        return text
    try:
        return int(text) if kind is int else float(text)
    except ValueError:
        raise ValueError(f"{text!r} is no {'whole ' * (kind is int)}number.") from None


def known_sweeps() -> list[str]:
    """Bare names of the sweep files at hand."""
    return sorted({file.stem for folder in FOLDERS for file in folder.glob("[a-z]*.py")})


def _sweep_path(path_or_name: str) -> Path:
    path = Path(path_or_name)
    candidates = [path, *(folder / f"{path_or_name}.py" for folder in FOLDERS)]
    for candidate in candidates:
        try:
            if candidate.is_file():
                return candidate
        except OSError:  # no possible name
            continue
    known = known_sweeps()
    near = difflib.get_close_matches(path.stem, known, 1)
    hint = f" Did you mean {near[0]!r}?" if near else f" Sweeps at hand: {', '.join(known) or 'none'}."
    raise SweepError([f"{path_or_name}: no such sweep file.{hint}"])


def _shortened(problems: Sequence[str]) -> list[str]:
    rest = len(problems) - SHOWN_PROBLEMS
    return [*problems[:SHOWN_PROBLEMS], *([f"... and {rest} more."] if rest > 0 else [])]


def _values(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(values) if isinstance(values, Iterable) and not isinstance(values, str) else (values,)


def _rounded(value: float) -> float:
    """To 12 significant digits, so that a grid's values read as they were meant."""
    return float(f"{value:.12g}")
