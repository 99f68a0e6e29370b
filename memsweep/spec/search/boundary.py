"""Where a quantity crosses a level in the plane of two axes: a coarse grid, refined where the crossing may be."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev
from typing import TYPE_CHECKING, Any, TypeAlias

from memsweep.spec.config import TrialConfig
from memsweep.spec.search import objectives
from memsweep.spec.search.rounds import Ends, Round, RoundGenerator, Told, varied

if TYPE_CHECKING:
    from memsweep.spec.sweep import Sweep

Place: TypeAlias = tuple[int, int]
"""Of a point, in the values of the two axes."""
Corners: TypeAlias = tuple[Place, Place, Place, Place]


@dataclass(frozen=True)
class BoundarySearch(Told):
    """Which side of `level` a quantity is on, over the sweep's two axes `x` and `y`, for each setting of the others.

    objective: a share such as memorized_share or fitted, or a column of `trials`; its mean over seeds is compared.
    level: what the mean may be above or below.
    coarse: steps of both axes between the points that are asked first; a power of two.
    confidence: of the interval over seeds. A point whose interval overlaps the level is on neither side.

    A cell whose corners are not all on the same side is split in four, until its sides are one step of the axes. A
    crossing that enters and leaves through one side of a coarse cell is not seen.
    """

    x: str
    y: str
    objective: str = objectives.FITTED
    level: float = 0.5
    coarse: int = 4
    confidence: float = 0.9
    name: str = "boundary"

    def problems(self, sweep: Sweep) -> list[str]:
        found = []
        for name in (self.x, self.y):
            if len(sweep.axes.get(name, ())) < 2:
                found.append(f"boundary search: needs an axis {name!r} of two values or more.")
        if self.x == self.y:
            found.append(f"boundary search: x and y are both {self.x!r}; name two axes.")
        if wrong := objectives.problem(self.objective):
            found.append(f"boundary search: {wrong}")
        else:
            found += [f"boundary search: {lack}" for lack in objectives.unmet(self.objective, sweep)]
        if self.coarse < 1 or self.coarse & (self.coarse - 1):
            found.append(f"boundary search: coarse {self.coarse!r} must be a power of two.")
        if not 0 < self.confidence < 1:
            found.append(f"boundary search: confidence {self.confidence!r} must lie in (0, 1).")
        return found

    def most(self, sweep: Sweep) -> int:
        return len(sweep)

    def rounds(self, sweep: Sweep) -> RoundGenerator:
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
            asked = {
                (setting, place): planes[setting][place]
                for setting, own in cells.items()
                for place in dict.fromkeys(itertools.chain.from_iterable(own))
                if place not in sides[setting]
            }
            if asked:
                count = sum(map(len, cells.values()))
                ends = yield Round(
                    tuple(trial for trials in asked.values() for trial in trials),
                    f"{count} cells of {step} x {step} steps to look at",
                )
                for (setting, place), trials in asked.items():
                    sides[setting][place] = self._side(trials, ends)
            for setting, own in cells.items():
                mixed = [cell for cell in own if {sides[setting][place] for place in cell} not in ({1}, {-1})]
                cells[setting] = [part for cell in mixed for part in _quarters(cell)]
            step = max(1, step // 2)
        return self._found(sides, len(axes[0]) * len(axes[1]))

    def _side(self, trials: Sequence[TrialConfig], ends: Ends) -> int:
        """1: above the level; -1: below; 0: the interval overlaps it, or there is none."""
        low, high = interval([objectives.value(self.objective, ends[t.trial_id]) for t in trials], self.confidence)
        return int(low > self.level) - int(high < self.level)

    def _found(self, sides: Mapping[tuple[Any, ...], Mapping[Place, int]], grid: int) -> str:
        told = [side for points in sides.values() for side in points.values()]
        counts = f"{len(told)} of {grid * len(sides)} points were asked: {told.count(1)} above, "
        counts += f"{told.count(-1)} below, {told.count(0)} undecided"
        if not {1, -1} <= set(told):
            side = "above" if 1 in told else "below" if -1 in told else "undecided"
            counts += f"; no crossing was seen: all that is decided is {side}; widen an axis or change the level"
        return f"{self.objective} against {self.level:g}: {counts}."


def interval(values: Sequence[float], confidence: float) -> tuple[float, float]:
    """Of the mean over seeds: Wilson's where all values are 0 or 1, else Student's t; unbounded below two values.

    >>> low, high = interval([1.0, 1.0, 1.0, 1.0, 1.0], 0.9)
    >>> round(low, 2), round(high, 2)
    (0.65, 1.0)
    """
    known = [value for value in values if not math.isnan(value)]
    n = len(known)
    if n < 2:
        return -math.inf, math.inf
    mean = fmean(known)
    if set(known) <= {0.0, 1.0}:
        z2 = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
        middle = (mean + z2 / (2 * n)) / (1 + z2 / n)
        half = math.sqrt(z2 * (mean * (1 - mean) / n + z2 / (4 * n**2))) / (1 + z2 / n)
        return max(0.0, middle - half), min(1.0, middle + half)
    half = _student(confidence, n - 1) * stdev(known) / math.sqrt(n)
    return mean - half, mean + half


def _student(confidence: float, freedom: int) -> float:
    """Quantile of Student's t with so many degrees of freedom, between -q and q of which lies `confidence`."""
    from scipy.stats import t  # slow to import, and needed only here

    return float(t.ppf((1 + confidence) / 2, freedom))


def _cells(width: int, height: int, step: int) -> Iterator[Corners]:
    """Of a grid of so many points, whose last cells may be smaller."""
    for left, right in _spans(width, step):
        for low, high in _spans(height, step):
            yield (left, low), (right, low), (left, high), (right, high)


def _spans(count: int, step: int) -> list[tuple[int, int]]:
    marks = [*range(0, count - 1, step), count - 1]
    return list(itertools.pairwise(marks))


def _quarters(cell: Corners) -> Iterator[Corners]:
    """The four parts of a cell, two where it is one step thin, none where it is one step wide."""
    (left, low), _, _, (right, high) = cell
    if right - left <= 1 and high - low <= 1:
        return
    for a, b in _halves(left, right):
        for c, d in _halves(low, high):
            yield (a, c), (b, c), (a, d), (b, d)


def _halves(a: int, b: int) -> list[tuple[int, int]]:
    middle = (a + b) // 2
    return [(a, b)] if b - a <= 1 else [(a, middle), (middle, b)]
