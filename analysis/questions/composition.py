"""Which cells compose permutations, over how many steps?"""

from __future__ import annotations

import pandas as pd

from memsweep.analysis.core import frames, series
from memsweep.analysis.questions.sequences import CELL, LENGTH, PRU_NOTE

QUERY = frames.TRIALS
RIGHT = "compositions predicted correctly (share)"


def right(trials: pd.DataFrame) -> pd.Series[float]:
    """Returns the share of all steps of validation sequences that is predicted right; NaN: no result."""
    share = frames.share(trials["validation_target_correct_count"], trials["validation_target_count"])
    return share.where(frames.usable(trials))


def summarize(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns the share of right compositions per cell and length, over seeds.

    Returns quantity, model_cell, data_sequence_length, estimate, low, high, seeds, missing.
    """
    return series.summarize(trials, {RIGHT: right(trials)}, [CELL, LENGTH])


FIGURES = (
    series.figure(
        "right",
        "Permutations composed",
        "At every step, which of the permutations all so far make, on validation data after a fixed budget; guessing "
        f"gives one over their number. {PRU_NOTE}",
        (RIGHT, LENGTH, CELL),
        xlabel="permutations (T)",
        ylim=(0, 1.02),
    ),
)
