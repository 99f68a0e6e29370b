"""Search for the best configuration by one objective, or the Pareto front of two, with Optuna's samplers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from memsweep.spec.config import FIELDS, unknown_field
from memsweep.spec.fields import own
from memsweep.spec.grid import Grid
from memsweep.spec.search import objectives
from memsweep.spec.search.rounds import Parameters

SAMPLERS = ("tpe", "random", "quasi_random", "grid")
Direction: TypeAlias = Literal["maximize", "minimize"]


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, both included, of the field's type; log: sampled uniformly in the logarithm.

    Numbers of an own field are whole if low and high are.
    """

    low: float
    high: float
    log: bool = False

    def kind(self, name: str) -> type:
        """Returns the type of the field's numbers: int, float, or another type for a field without numbers."""
        ends = (type(self.low), type(self.high))
        return (int if ends == (int, int) else float) if own.is_own(name) else FIELDS[name].kind


@dataclass(frozen=True)
class BestSearch(Parameters):
    """Proposes configurations in rounds; each is trained with every seed and scored by its mean over seeds.

    space: field -> Range, or a sequence of values.
    objectives: objective -> maximize or minimize; one objective, or two for the Pareto front.
    sampler: tpe, random, quasi_random (Sobol) or grid; grid takes values, not ranges.
    configurations: number of configurations in total.  at_a_time: number of configurations per round.
    halving: 0, or the factor of successive halving: each rung trains 1/halving of the configurations for halving times
        the budget.
    smallest_share: lower bound of the first rung's share of the budget, in (0, 1].
    seed: seed of the sampler.
    """

    space: Mapping[str, Range | Sequence[Any]]
    objectives: Mapping[str, Direction] = field(default_factory=lambda: {"validation_accuracy": "maximize"})
    sampler: str = "tpe"
    configurations: int = 64
    at_a_time: int = 16
    halving: int = 0
    smallest_share: float = 0.1
    seed: int = 0
    name: str = "best"

    def problems(self, sweep: Grid) -> list[str]:
        """Returns one sentence per reason why this search can't run on the sweep."""
        problems = [*self._space_problems(sweep), *self._own_problems()]
        if not problems:
            space = {name: _tried(name, values) for name, values in self.space.items()}
            problems = [lack for name in self.objectives for lack in objectives.unmet(name, sweep, space)]
        return [f"best search: {problem}" for problem in problems]

    def most(self, sweep: Grid) -> int:
        """Returns the largest number of trials that the search may request."""
        return self.configurations * len(sweep.seeds)

    def rungs(self) -> tuple[float, ...]:
        """Returns the shares of the budget at which configurations are compared, ascending; the last share is 1.

        >>> BestSearch({"model.width": (8, 16)}, halving=3, smallest_share=0.1).rungs()
        (0.1111111111111111, 0.3333333333333333, 1.0)
        """
        shares = [1.0]
        while self.halving and shares[0] / self.halving >= self.smallest_share:
            shares.insert(0, shares[0] / self.halving)
        return tuple(shares)

    def _space_problems(self, sweep: Grid) -> list[str]:
        problems = [] if self.space else ["space is empty: name at least one field, with a Range or values."]
        for name, values in self.space.items():
            spec = FIELDS.get(name)
            if spec is None:
                problems.append(unknown_field(name))
            elif isinstance(values, Range):
                if values.kind(name) not in (int, float):
                    problems.append(f"{name}: a Range is of numbers; give a list of values.")
                elif not values.low < values.high or (values.log and values.low <= 0):
                    problems.append(f"{name}: {values} must have low < high, and low > 0 where log=True.")
                else:
                    ends = map(values.kind(name), (values.low, values.high))
                    problems += filter(None, map(spec.problem, ends))
                if self.sampler == "grid":
                    problems.append(f"{name}: sampler 'grid' needs a list of values, not a Range.")
            elif spec.kind is tuple:
                problems.append(
                    f"{name}: its values are lists, which samplers can't propose; make it an axis of one value."
                )
            elif isinstance(values, str) or len(values) == 0:
                problems.append(f"{name}: must be a Range or a list of values; found {values!r}.")
            else:
                problems += filter(None, map(spec.problem, values))
                problems += own.conflicts((name, value, "space") for value in values)
        fixed = [name for name in sweep.axis_names if name in self.space]
        problems += [f"{name} is both an axis and in the space: choose one." for name in fixed]
        varying = [axis for axis, values in sweep.axes.items() if len(values) > 1]
        problems += [f"axis {axis!r} has several values: move it into the search's space." for axis in varying]
        return problems

    def _own_problems(self) -> list[str]:
        problems = [problem for name in self.objectives if (problem := objectives.problem(name))]
        if not 1 <= len(self.objectives) <= 2:
            problems.append(f"objectives: one or two; found {len(self.objectives)}.")
        for name, direction in self.objectives.items():
            if direction not in get_args(Direction):
                problems.append(f"objective {name!r}: {direction!r} must be {' or '.join(get_args(Direction))}.")
            if name.startswith("test_"):
                problems.append(
                    f"objective {name!r}: configurations are chosen on validation data, never on test data."
                )
        if self.sampler not in SAMPLERS:
            problems.append(f"sampler {self.sampler!r} must be one of {', '.join(SAMPLERS)}.")
        if self.configurations < 1 or self.at_a_time < 1:
            problems.append("configurations and at_a_time must be 1 or more.")
        if self.halving and len(self.objectives) == 2:
            problems.append("halving compares by one objective; give one objective, or set halving=0.")
        if self.halving < 0 or self.halving == 1 or not 0 < self.smallest_share <= 1:
            problems.append("halving must be 0, or 2 or more, and smallest_share must lie in (0, 1].")
        return problems


def _tried(name: str, values: Range | Sequence[Any]) -> Sequence[Any]:
    """Returns values that represent all values the search may give to a field.

    For a range of fractions it is the high end only: the low end may be 0, where a share is undefined.
    """
    if not isinstance(values, Range):
        return values
    return (int(values.low), int(values.high)) if values.kind(name) is int else (values.high,)
