"""Table of verdicts in a results folder: written by `memsweep claims`, shown by the same command and by the report."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from memsweep.analysis.claims import controls
from memsweep.analysis.claims.claim import Paper
from memsweep.analysis.claims.designs import ALPHA
from memsweep.analysis.claims.verdicts import CHECK, COLUMNS, FINDING, Verdict, judge, papers, reader
from memsweep.analysis.core import figures
from memsweep.results.storage.location import Location, location
from memsweep.results.storage.parts import write_whole
from memsweep.results.storage.snapshot import Snapshot
from memsweep.results.storage.store import StoreError

FILE = "claims.csv"
SHOWN = (
    "paper",
    "claim",
    "kind",
    "verdict",
    "statement",
    "measured",
    "estimate",
    "low",
    "high",
    "above",
    "replicates",
    "by_chance",
    "p_untrained",
    "power",
    "reason",
)
"""Columns that are shown; the file has all."""
ADDED = ("kind", "level", "p_untrained", "power")
"""Columns that tables of earlier versions lack."""
COLORS = {
    Verdict.REPRODUCED: figures.CATEGORIES[2],
    Verdict.CONTRADICTED: figures.CATEGORIES[1],
    Verdict.UNDECIDED: figures.CATEGORIES[4],
}


def write(results: str | Location, shuffles: int = 0) -> pd.DataFrame:
    """Judges all claims on the trials of a folder, writes the table there and returns it. Raises StoreError.

    shuffles: repetitions of each control; if 1 or more, column by_chance is the share of shuffles in which a claim is
    reproduced, and power the share of injected effects that its test finds.
    """
    store = Snapshot(results)
    table = judge(store)
    if shuffles:
        rates = controls.rates(reader(store), shuffles)
        keys = list(zip(table["paper"], table["claim"], strict=True))
        for name in controls.Rates._fields:
            table[name] = [getattr(rates[key], name) if key in rates else np.nan for key in keys]
        table = _surviving(table, shuffles)
    write_whole(store.results / FILE, table.to_csv(index=False).encode())
    return table


def _surviving(table: pd.DataFrame, shuffles: int) -> pd.DataFrame:
    """Returns the table with claims that chance alone reproduces too often as undecided."""
    most = ALPHA + 3 * np.sqrt(ALPHA * (1 - ALPHA) / shuffles)
    is_weak = (table["verdict"] == Verdict.REPRODUCED) & (table["by_chance"] > most)
    reasons = [f"chance alone passes the test in {rate:.0%} of shuffles" for rate in table.loc[is_weak, "by_chance"]]
    table.loc[is_weak, "verdict"] = Verdict.UNDECIDED
    table.loc[is_weak, "reason"] = reasons
    return table


def stored(results: str | Location) -> pd.DataFrame:
    """Returns the table that was written last; an empty table where there is none. Raises StoreError if it is
    damaged."""
    path = location(results) / FILE
    if not path.exists():
        return pd.DataFrame(columns=COLUMNS)
    try:
        table = pd.read_csv(io.BytesIO(path.read_bytes()))
    except ValueError as error:
        raise StoreError(f"{path} is no table of claims ({error}). Delete it, then: memsweep claims.") from error
    if missing := [name for name in COLUMNS if name not in table and name not in ADDED]:
        raise StoreError(f"{path} lacks {', '.join(missing)}. Delete it, then: memsweep claims.")
    return completed(table)


def completed(table: pd.DataFrame) -> pd.DataFrame:
    """Returns a table of an earlier version with all COLUMNS: the kind of its claims, and gaps for absent controls."""
    if "kind" not in table:
        checks = {(paper.key, claim.number) for paper in papers() for claim in paper.claims if claim.is_check}
        places = zip(table["paper"], table["claim"], strict=True)
        table = table.assign(kind=[CHECK if place in checks else FINDING for place in places])
    return table.reindex(columns=COLUMNS)


def figure(paper: Paper) -> figures.Figure:
    """Returns the figure of a paper's claims on one axis."""
    return figures.Figure(
        name=paper.key,
        title=paper.title,
        draw=draw,
        note="Each claim's weakest part: how far its estimate and 95 % interval lie beyond the claim's bound, in units "
        f"of the farthest of these; right of 0 speaks for it. {paper.caveat}",
        rows=lambda table: table[[name for name in SHOWN if name != "paper"]],
    )


def draw(table: pd.DataFrame, ax: Axes) -> Axes:
    """Draws a paper's claims below one another; claims without an estimate have only their number."""
    low, middle, high = (
        (table[name].astype(float) - table["above"].astype(float)).to_numpy() for name in ("low", "estimate", "high")
    )
    reach = np.nanmax(np.abs(np.stack([np.zeros(len(table)), low, middle, high])), axis=0)
    scale = np.where(reach > 0, reach, 1.0)
    y = np.arange(len(table), dtype=float)
    for verdict, color in COLORS.items():
        chosen = (table["verdict"] == verdict).to_numpy() & np.isfinite(middle)
        if chosen.any():
            errors = np.stack([middle - low, high - middle])[:, chosen] / scale[chosen]
            ax.errorbar(
                (middle / scale)[chosen],
                y[chosen],
                xerr=np.maximum(np.nan_to_num(errors), 0),
                fmt=figures.MARKERS[list(COLORS).index(verdict)],
                color=color,
                label=str(verdict.value),
            )
    figures.reference(ax, [0, 0], [-0.5, len(table) - 0.5], "the claim's bound")
    ax.set(xlim=(-1.1, 1.1), ylim=(len(table) - 0.5, -0.5), xlabel="against the claim    |    for it", ylabel="claim")
    figures.grid_ticks(ax.yaxis, y, [str(number) for number in table["claim"]])
    figures.legend(ax)
    return ax
