"""Evidence for claim 12 of the background: the width that recalls D pairs, by cells and by attention."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from memsweep.analysis.claims.claim import Evidence, Margin, MissingTrialsError
from memsweep.analysis.questions import recall_width
from memsweep.analysis.questions.recall_width import PAIRS
from memsweep.analysis.questions.sequences import CELL
from memsweep.spec.options import CELLS

LEAST_SLOPE, MOST_STEPS = 0.5, 1.5
"""Log-log slope of the width in pairs that cells exceed, and steps of the grid (factors of two) that attention stays
below: one step. Both from the brief of the claim."""
SETTINGS = 3


def width_by_pairs(rows: pd.DataFrame) -> Sequence[Evidence]:
    """Returns the slope of the least width in pairs for each cell, and how many steps of the grid attention grows.

    A slope that is a lower bound, because a width lies beyond an end of the grid, counts as a tie where it is below its
    bound. Seeds in which the fewest pairs are never recalled have no value.
    Raises MissingTrialsError with fewer than SETTINGS numbers of pairs, without cells, and without attention.
    """
    widths = recall_width.least_widths(recall_width.recalled(rows))
    if widths.empty or (count := widths[PAIRS].nunique()) < SETTINGS:
        count = 0 if widths.empty else count
        raise MissingTrialsError(f"{count} numbers of pairs; the claim requires {SETTINGS}")
    cells = [cell for cell in CELLS if (widths[CELL] == cell).any()]
    others = sorted(set(widths[CELL]) - {*cells})
    if not cells or not others:
        raise MissingTrialsError("no trial with a recurrent cell" if not cells else "no trial with attention")
    parts: list[Evidence] = []
    for cell in cells:
        slopes = [_slope(of) for _, of in widths[widths[CELL] == cell].groupby("seed")]
        parts.append(Margin(f"log-log slope of the least width in pairs - {LEAST_SLOPE:g}, {cell}", np.array(slopes)))
    for family in others:
        steps = [_room(of) for _, of in widths[widths[CELL] == family].groupby("seed")]
        parts.append(Margin(f"{MOST_STEPS:g} - steps of the grid from fewest to most pairs, {family}", np.array(steps)))
    return parts


def _slope(of_seed: pd.DataFrame) -> float:
    """Returns a seed's slope less LEAST_SLOPE; 0 where it is a lower bound that decides nothing."""
    ordered = of_seed.sort_values(PAIRS)
    width, pairs = ordered["width"].to_numpy(float), ordered[PAIRS].to_numpy(float)
    if np.isnan(width).any() or ordered["at_least"].iloc[0] or len(width) < SETTINGS:
        return float("nan")
    beyond = float(np.polyfit(np.log(pairs), np.log(width), 1)[0]) - LEAST_SLOPE
    is_bound = bool(ordered["at_least"].any() or ordered["at_most"].any())
    return max(beyond, 0.0) if is_bound else beyond


def _room(of_seed: pd.DataFrame) -> float:
    """Returns MOST_STEPS less a seed's steps of the grid; 0 where these are a lower bound that decides nothing."""
    ordered = of_seed.sort_values(PAIRS)
    first, last = ordered.iloc[0], ordered.iloc[-1]
    if np.isnan(first["width"]) or np.isnan(last["width"]) or first["at_least"]:
        return float("nan")
    room = MOST_STEPS - abs(float(np.log2(last["width"] / first["width"])))
    return min(room, 0.0) if last["at_least"] else room
