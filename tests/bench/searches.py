"""What searches spend and find, beside the whole grid of the same trials: python -m tests.bench.searches.

Both searches, then both grids, on this machine, into --results; what is stored there already is not run again. Steps
are those that trials took; seconds are those of the launches. Capacity: medians over seeds of the largest set fitted,
with the sign test's interval. Boundary: the share of the grid's decided points (whose interval lies on one side of the
level) that an answer puts on the other side, where an answer is linear between the points that it has; and the same for
whole grids of every second, fourth and eighth value.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.tri import LinearTriInterpolator, Triangulation

import memsweep
from analysis import boundary, capacity, capacity_search, frames
from memsweep import Sweep
from memsweep.sweep import load_sweep
from tests.bench.machine import header


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("search-bench"))
    parser.add_argument("--set", action="append", default=[], help="as memsweep launch takes it")
    options = parser.parse_args()
    print(header())
    found = {}
    for name in ("capacity_search", "boundary"):
        searched = load_sweep(name).with_axes(memsweep.sweep.parse_overrides(options.set))
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
    print(f"search: {wrong(points, decided, truth, level):.4f} of them on the wrong side")
    for stride in (1, 2, 4, 8):
        coarse = truth[on_stride(truth, "x", stride) & on_stride(truth, "y", stride)]
        error = wrong(coarse, decided, truth, level)
        print(f"every {stride}. value: {len(coarse) / len(truth):.3f} of the points, {error:.4f} on the wrong side")


def on_stride(points: pd.DataFrame, axis: str, stride: int) -> pd.Series[bool]:
    values = np.unique(points[axis])
    return points[axis].isin(values[::stride])


def wrong(points: pd.DataFrame, decided: pd.DataFrame, grid: pd.DataFrame, level: float) -> float:
    """Share of the decided points that are on the other side by what is linear between these points."""
    axes = [np.unique(grid[axis]) for axis in ("x", "y")]

    def places(rows: pd.DataFrame) -> list[np.ndarray]:
        return [
            np.searchsorted(values, rows[name]).astype(float) for values, name in zip(axes, ("x", "y"), strict=True)
        ]

    known = points.dropna(subset=["estimate"])
    between = LinearTriInterpolator(Triangulation(*places(known)), known["estimate"].to_numpy(float))
    told = np.asarray(between(*places(decided)).filled(np.nan))
    return float(np.mean(np.sign(told - level) != decided["side"].to_numpy()))


if __name__ == "__main__":
    main()
