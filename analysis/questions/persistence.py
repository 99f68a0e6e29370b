"""Does each dimension of a trained cell's state keep to itself from one step to the next?"""

from __future__ import annotations

import pandas as pd

from memsweep.analysis.core import frames, series
from memsweep.analysis.questions.sequences import CELL, PRU_NOTE, WIDTH

QUERY = frames.JACOBIANS
MIXED = "norm off the diagonal (share)"


def mixed(rows: pd.DataFrame) -> pd.Series[float]:
    """Returns the norm of the Jacobians off their diagonals over their whole norm, in [0, 1]; NaN: no result.

    rows: of the table `jacobians`, with `status`.
    """
    share = frames.share(rows["off_diagonal_square_sum"], rows["square_sum"])
    return (share**0.5).where(frames.usable(rows))


def summarize(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns per cell, width and layer the share of the Jacobian's norm off its diagonal, over seeds.

    rows: of the table `jacobians` with the fields of their trials (`frames.read`).
    Returns quantity, model_cell, model_width, layer, estimate, low, high, seeds, missing.
    """
    rows = rows.assign(layer=rows["layer"].fillna(1))
    return series.summarize(rows, {MIXED: mixed(rows)}, [CELL, WIDTH, "layer"])


FIGURES = (
    series.figure(
        "mixed",
        "Dimensions of the state that mix from step to step",
        "Jacobian of a first layer's state with respect to the previous state, gates fixed: norm off the diagonal over "
        "the whole norm, at the end of training, on validation data. At 0 each dimension depends only on itself, and "
        f"curves coincide. {PRU_NOTE}",
        (MIXED, WIDTH, CELL),
        {"layer": 1},
        xlabel="width (H)",
        ylim=(-0.02, 1.02),
    ),
)
