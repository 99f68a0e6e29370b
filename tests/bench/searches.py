"""What searches spend and find, beside the whole grid of the same trials: python -m tests.bench.searches.

Both searches, then both grids, on this machine, into --results; what is stored there already is not run again. Steps
are those that trials took; seconds are those of the launches. Capacity: medians over seeds of the largest set fitted,
with the sign test's interval. Boundary: how far an answer's level line is from the whole grid's, in steps of the grid's
y axis, root mean square over its x values, where an answer is linear between the points that it has; and the share of
the grid's decided points (whose interval lies on one side of the level) that it puts on the other side. Beside it, the
same for whole grids of every second, fourth and eighth value, and how far from its line the grid's own interval ends.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.tri import LinearTriInterpolator, Triangulation

import memsweep
from memsweep import Sweep
from memsweep.analysis.core import frames
from memsweep.analysis.questions import boundary, capacity, capacity_search
from memsweep.spec.overrides import parse_overrides
from memsweep.spec.sweep_files import load_sweep
from tests.bench.machine import header


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("search-bench"))
    parser.add_argument("--set", action="append", default=[], help="as memsweep launch takes it")
    options = parser.parse_args()
    print(header())
    found = {}
    for name in ("capacity_search", "boundary"):
        searched = load_sweep(name).with_axes(parse_overrides(options.set))
        grid = Sweep(name, searched.base, axes=searched.axes, seeds=searched.seeds)
        for kind, sweep in (("search", searched), ("grid", grid)):
            results = options.results / f"{name}-{kind}"
            begun = time.perf_counter()
            report = memsweep.launch(sweep, results, tracking_uri="none", device="cpu")
            seconds = time.perf_counter() - begun
            trials = frames.read(frames.ROUNDS, name, results)
            found[name, kind] = trials
            ran = f"{seconds:.0f} s" if report.ran == len(trials) else "stored before"
            print(f"{name} {kind}: {len(trials)} trials, {steps(trials):.3g} steps, {ran}", flush=True)
    compare_capacity(found["capacity_search", "search"], found["capacity_search", "grid"])
    compare_boundary(found["boundary", "search"], found["boundary", "grid"])


def spent(searched: pd.DataFrame, grid: pd.DataFrame) -> str:
    return f"{steps(searched) / steps(grid):.3f} of the grid's steps, {len(searched) / len(grid):.3f} of its trials"


def steps(trials: pd.DataFrame) -> float:
    return float(trials["step_count"].sum())


def compare_capacity(searched: pd.DataFrame, grid: pd.DataFrame) -> None:
    print(f"\ncapacity: {spent(searched, grid)}")
    one, other = (capacity_search.summarize(trials) for trials in (searched, grid))
    keys = [name for name in frames.varying(one) if name != capacity.SIZE]
    rows = [table[table["quantity"] == capacity.FITTED][[*keys, "estimate", "low", "high"]] for table in (one, other)]
    both = rows[0].merge(rows[1], on=keys, suffixes=("", "_grid"))
    both["within"] = (both["estimate"] >= both["low_grid"]) & (both["estimate"] <= both["high_grid"])
    print(both.to_string(index=False))
    print(f"{both['within'].sum()} of {len(both)} capacities lie within the grid's interval")


def compare_boundary(searched: pd.DataFrame, grid: pd.DataFrame) -> None:
    print(f"\nboundary: {spent(searched, grid)}")
    points = boundary.summarize(searched)
    facts = searched[["search", "search_fields"]].iloc[0]
    truth = boundary.summarize(grid.assign(**facts))
    decided = truth[truth["side"] != 0]
    level = truth["level"].iloc[0]
    print(f"{len(points)} of {len(truth)} points asked; {len(decided)} points of the grid are decided")
    line = crossings(filled(truth, truth, "estimate"), level)
    ends = [crossings(filled(truth, truth, column), level) - line for column in ("low", "high")]
    print(f"the grid's line lies {np.sqrt(np.nanmean(np.square(ends))):.2f} steps from the ends of its interval")
    for stride in (0, 2, 4, 8):
        answer = truth[on_stride(truth, "x", stride) & on_stride(truth, "y", stride)] if stride else points
        told = filled(answer, truth, "estimate")
        places = tuple(index(decided, truth, axis) for axis in ("x", "y"))
        wrong = np.mean(np.sign(told[places] - level) != decided["side"].to_numpy())
        off = crossings(told, level) - line
        print(
            f"{f'every {stride}. value' if stride else 'search':16} {len(answer) / len(truth):.3f} of the points, "
            f"line {np.sqrt(np.nanmean(off**2)):.3f} steps off, at the most {np.nanmax(np.abs(off)):.2f}; "
            f"{wrong:.4f} of the decided points on the wrong side"
        )


def on_stride(points: pd.DataFrame, axis: str, stride: int) -> pd.Series[bool]:
    values = np.unique(points[axis])
    return points[axis].isin(values[::stride])


def filled(points: pd.DataFrame, grid: pd.DataFrame, column: str) -> np.ndarray:
    """A column at all places of the grid, linear between these points: [x, y]."""
    known = points.dropna(subset=[column])
    places = [index(known, grid, axis).astype(float) for axis in ("x", "y")]
    between = LinearTriInterpolator(Triangulation(*places), known[column].to_numpy(float))
    everywhere = np.meshgrid(*(np.arange(grid[axis].nunique(), dtype=float) for axis in ("x", "y")), indexing="ij")
    return np.asarray(between(*everywhere).filled(np.nan))


def index(points: pd.DataFrame, grid: pd.DataFrame, axis: str) -> np.ndarray:
    """Place of each point on an axis of the grid, in steps."""
    return np.searchsorted(np.unique(grid[axis]), points[axis])


def crossings(values: np.ndarray, level: float) -> np.ndarray:
    """Of values [x, y]: y, in steps, at which each row first meets the level, linear between steps; nan: nowhere."""
    found = np.full(len(values), np.nan)
    for i, row in enumerate(values - level):
        (changes,) = np.nonzero(row[:-1] * row[1:] <= 0)
        if len(changes):
            j = changes[0]
            found[i] = j + (row[j] / (row[j] - row[j + 1]) if row[j] != row[j + 1] else 0.0)
    return found


if __name__ == "__main__":
    main()
