"""Search for the boundary where a quantity crosses a level in the plane of two axes: a coarse grid, refined locally."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev
from typing import Any, TypeAlias

from memsweep.spec.config import TrialConfig
from memsweep.spec.grid import Grid
from memsweep.spec.search import objectives
from memsweep.spec.search.rounds import Ends, Parameters, Round, RoundGenerator, varied

Place: TypeAlias = tuple[int, int]
"""Indices of a point in the values of the axes x and y."""
Corners: TypeAlias = tuple[Place, Place, Place, Place]


@dataclass(frozen=True)
class BoundarySearch(Parameters):
    """Finds where a quantity is above or below `level` over the axes `x` and `y`, for each setting of the other axes.

    objective: a share such as memorized_share or fitted, or a column of `trials`; its mean over seeds is compared.
    level: the level that the mean is compared with.
    coarse: steps of both axes between the points of the first round; a power of two.
    confidence: level of the interval over seeds, in (0, 1). A point whose interval overlaps the level is undecided.

    A cell whose corners are not all on the same side is split into quarters, until its sides are one step of the axes.
    A crossing that enters and leaves through the same side of a coarse cell is missed.
    """

    x: str
    y: str
    objective: str = objectives.FITTED
    level: float = 0.5
    coarse: int = 4
    confidence: float = 0.9
    name: str = "boundary"

    def problems(self, sweep: Grid) -> list[str]:
        """Returns one sentence per reason why this search can't run on the sweep."""
        problems = []
        for name in (self.x, self.y):
            if len(sweep.axes.get(name, ())) < 2:
                problems.append(f"boundary search: needs an axis {name!r} of two values or more.")
        if self.x == self.y:
            problems.append(f"boundary search: x and y are both {self.x!r}; name two axes.")
        if wrong := objectives.problem(self.objective):
            problems.append(f"boundary search: {wrong}")
        else:
            problems += [f"boundary search: {lack}" for lack in objectives.unmet(self.objective, sweep)]
        if self.coarse < 1 or self.coarse & (self.coarse - 1):
            problems.append(f"boundary search: coarse {self.coarse!r} must be a power of two.")
        if not 0 < self.confidence < 1:
            problems.append(f"boundary search: confidence {self.confidence!r} must lie in (0, 1).")
        return problems

    def most(self, sweep: Grid) -> int:
        """Returns the largest number of trials that the search may request."""
        return len(sweep)

    def rounds(self, sweep: Grid) -> RoundGenerator:
        """Yields rounds of trials, one per refinement of the grid; returns a sentence with the counts per side."""
        axes = [sweep.axes[name] for name in (self.x, self.y)]
        places = [{value: place for place, value in enumerate(values)} for values in axes]
        others = [name for name in sweep.varying if name not in (self.x, self.y)]
        planes: dict[tuple[Any, ...], dict[Place, list[TrialConfig]]] = {}
        for trial in sweep:
            x, y = varied((self.x, self.y), trial)
            plane = planes.setdefault(varied(others, trial), {})
            plane.setdefault((places[0][x], places[1][y]), []).append(trial)
        sides: dict[tuple[Any, ...], dict[Place, int]] = {setting: {} for setting in planes}
        step = self.coarse
        cells = {setting: list(_cells(len(axes[0]), len(axes[1]), step)) for setting in planes}
        while any(cells.values()):
            points = {
                (setting, place): planes[setting][place]
                for setting, plane_cells in cells.items()
                for place in dict.fromkeys(itertools.chain.from_iterable(plane_cells))
                if place not in sides[setting]
            }
            if points:
                count = sum(map(len, cells.values()))
                ends = yield Round(
                    tuple(trial for trials in points.values() for trial in trials),
                    f"{count} cells of {step} x {step} steps to look at",
                )
                for (setting, place), trials in points.items():
                    sides[setting][place] = self._side(trials, ends)
            for setting, plane_cells in cells.items():
                mixed = [cell for cell in plane_cells if {sides[setting][place] for place in cell} not in ({1}, {-1})]
                cells[setting] = [part for cell in mixed for part in _quarters(cell)]
            step = max(1, step // 2)
        return self._sentence(sides, len(axes[0]) * len(axes[1]))

    def _side(self, trials: Sequence[TrialConfig], ends: Ends) -> int:
        """Returns 1 above the level, -1 below, 0 if the interval overlaps the level or does not exist."""
        low, high = interval([objectives.value(self.objective, ends[t.trial_id]) for t in trials], self.confidence)
        return int(low > self.level) - int(high < self.level)

    def _sentence(self, sides: Mapping[tuple[Any, ...], Mapping[Place, int]], grid: int) -> str:
        decisions = [side for points in sides.values() for side in points.values()]
        counts = f"{len(decisions)} of {grid * len(sides)} points were trained: {decisions.count(1)} above, "
        counts += f"{decisions.count(-1)} below, {decisions.count(0)} undecided"
        if not {1, -1} <= set(decisions):
            side = "above" if 1 in decisions else "below" if -1 in decisions else "undecided"
            counts += f"; no crossing was seen: all decided points are {side}; widen an axis or change the level"
        return f"{self.objective} against {self.level:g}: {counts}."


def interval(values: Sequence[float], confidence: float) -> tuple[float, float]:
    """Returns the interval (low, high) of the mean over seeds: Wilson's if all values are 0 or 1, else Student's t.

    It is unbounded with fewer than two values; nan values are left out.  confidence: level of the interval, in (0, 1).

    >>> low, high = interval([1.0, 1.0, 1.0, 1.0, 1.0], 0.9)
    >>> round(low, 2), round(high, 2)
    (0.65, 1.0)
    """
    numbers = [value for value in values if not math.isnan(value)]
    n = len(numbers)
    if n < 2:
        return -math.inf, math.inf
    mean = fmean(numbers)
    if set(numbers) <= {0.0, 1.0}:
        z2 = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
        middle = (mean + z2 / (2 * n)) / (1 + z2 / n)
        half = math.sqrt(z2 * (mean * (1 - mean) / n + z2 / (4 * n**2))) / (1 + z2 / n)
        return max(0.0, middle - half), min(1.0, middle + half)
    half = _student(confidence, n - 1) * stdev(numbers) / math.sqrt(n)
    return mean - half, mean + half


def _student(confidence: float, freedom: int) -> float:
    """Returns the quantile q of Student's t for which P(-q < t < q) = confidence.  freedom: degrees of freedom."""
    from scipy.stats import t  # slow to import, and needed only here

    return float(t.ppf((1 + confidence) / 2, freedom))


def _cells(width: int, height: int, step: int) -> Iterator[Corners]:
    """Yields the cells of a grid of width x height points; the last cells may be smaller than `step`."""
    for left, right in _spans(width, step):
        for low, high in _spans(height, step):
            yield (left, low), (right, low), (left, high), (right, high)


def _spans(count: int, step: int) -> list[tuple[int, int]]:
    marks = [*range(0, count - 1, step), count - 1]
    return list(itertools.pairwise(marks))


def _quarters(cell: Corners) -> Iterator[Corners]:
    """Yields the four parts of a cell; two if only one side is longer than a step, none if neither is."""
    (left, low), _, _, (right, high) = cell
    if right - left <= 1 and high - low <= 1:
        return
    for a, b in _halves(left, right):
        for c, d in _halves(low, high):
            yield (a, c), (b, c), (a, d), (b, d)


def _halves(a: int, b: int) -> list[tuple[int, int]]:
    middle = (a + b) // 2
    return [(a, b)] if b - a <= 1 else [(a, middle), (middle, b)]
