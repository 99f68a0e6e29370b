"""Search for the largest training set that a network fits: bisection of an axis of sizes per setting and seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from memsweep.spec.config import FIELDS, TrialConfig
from memsweep.spec.grid import Grid
from memsweep.spec.search.objectives import FITTED, unmet, value
from memsweep.spec.search.rounds import Parameters, Round, RoundGenerator, spelled, varied

SIZE = "data.examples"


@dataclass(frozen=True)
class CapacitySearch(Parameters):
    """Finds, for each setting, the largest `data.examples` of the sweep's axis that is fitted in `share` of its seeds.

    share: share of seeds, in (0, 1].
    tuned: axes over which the best value is taken: a size is fitted if any of their values fits it.

    The largest size is found per seed, by bisection of the axis, which must be sorted; a seed that fits a training set
    is assumed to fit all smaller sets. The capacity is the largest size that `share` of the seeds reach, and its
    interval is over seeds. The bisections of all settings and seeds advance together.
    """

    share: float = 0.5
    tuned: Sequence[str] = ("optimizer.learning_rate",)
    name: str = "capacity"

    def problems(self, sweep: Grid) -> list[str]:
        """Returns one sentence per reason why this search can't run on the sweep."""
        problems = []
        sizes = sweep.axes.get(SIZE, ())
        if len(sizes) < 2 or list(sizes) != sorted(sizes):
            problems.append(f"capacity search: needs an axis {SIZE!r} of two sizes or more, the smallest first.")
        if not 0 < self.share <= 1:
            problems.append(f"capacity search: share {self.share!r} must lie in (0, 1].")
        problems += [
            f"capacity search: tuned {name!r} is no field of a trial." for name in self.tuned if name not in FIELDS
        ]
        if SIZE in self.tuned:
            problems.append(f"capacity search: {SIZE!r} is the size that is searched, and can't be tuned.")
        return [*problems, *(f"capacity search: {lack}" for lack in unmet(FITTED, sweep))]

    def most(self, sweep: Grid) -> int:
        """Returns the largest number of trials that bisection requests: per axis of n sizes, ceil(log2(n + 1))."""
        sizes = len(sweep.axes[SIZE])
        return len(sweep) // sizes * math.ceil(math.log2(sizes + 1))

    def rounds(self, sweep: Grid) -> RoundGenerator:
        """Yields rounds of trials, one per step of the bisections; returns a sentence with the capacities."""
        sizes = tuple(sweep.axes[SIZE])
        names = [name for name in sweep.varying if name != SIZE and name not in self.tuned]
        ways: dict[tuple[Any, ...], dict[int, list[TrialConfig]]] = {}  # (setting, seed) -> size -> trials
        for trial in sweep:
            key = (*varied(names, trial), trial.seed)
            ways.setdefault(key, {}).setdefault(trial.data.examples, []).append(trial)
        fits, fails = dict.fromkeys(ways, -1), dict.fromkeys(ways, len(sizes))  # indices in sizes
        number = 0
        while open_ := [key for key in ways if fails[key] - fits[key] > 1]:
            probes = {key: (fits[key] + fails[key]) // 2 for key in open_}
            trials_of = {key: ways[key][sizes[place]] for key, place in probes.items()}
            width = max(fails[key] - fits[key] - 1 for key in open_)
            number += 1
            ends = yield Round(
                tuple(trial for trials in trials_of.values() for trial in trials),
                f"{len(open_)} of {len(ways)} bisections open, at most {width} sizes each",
            )
            for key, place in probes.items():
                bounds = fits if any(value(FITTED, ends[t.trial_id]) == 1 for t in trials_of[key]) else fails
                bounds[key] = place
        return self._sentence(sizes, names, fits)

    def _sentence(self, sizes: Sequence[int], names: Sequence[str], fits: Mapping[tuple[Any, ...], int]) -> str:
        """Returns a sentence with the capacity of each setting, or that the axis is too short for it."""
        settings: dict[tuple[Any, ...], list[int]] = {}
        for key, place in fits.items():
            settings.setdefault(key[:-1], []).append(place)  # one index per seed
        texts = []
        for setting, places in settings.items():
            reached = sorted(places, reverse=True)[math.ceil(self.share * len(places)) - 1]
            if reached < 0:
                words = f"not even the smallest size, {sizes[0]}: no crossing; add smaller sizes to {SIZE}"
            elif reached == len(sizes) - 1:
                words = f"every size up to {sizes[-1]}: no crossing; add larger sizes to {SIZE}"
            else:
                words = str(sizes[reached])
            texts.append(f"{spelled(names, setting)}: {words}")
        return f"Largest {SIZE} fitted in {self.share:.0%} of the seeds: {'; '.join(texts)}."
