"""Which recurrent matrices of an LSTM matter, and what does a layer after its state give?"""

from __future__ import annotations

import pandas as pd

from memsweep.analysis.core import frames, series
from memsweep.analysis.questions import sequences
from memsweep.analysis.questions.sequences import ACCURACY, CELL, LENGTH, PRU_NOTE, SQUARED_ERROR, TASK, WIDTH

QUERY = frames.TRIALS

EQUAL, WIDER = 32, 36
"""EQUAL: width at which all cells are compared.  WIDER: width of the pru_a with the parameters of pru_a+plus_out."""


def scored(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows with `measure`, `value` and `score`: accuracy, or minus the squared error; larger is better."""
    rows = sequences.measured(trials)
    value = rows["value"].where(frames.usable(rows))
    return rows.assign(value=value, score=value.where(rows["measure"] == ACCURACY, -value))


def summarize(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns accuracy or squared error on validation targets per task, length and cell, over seeds.

    Each seed has its better learning rate, chosen on the same validation data; a seed counts as missing until all its
    rates have ended.
    Returns quantity, task, cell (with its width, where it is not EQUAL), length, estimate, low, high, seeds, missing.
    """
    rows, ways = scored(trials), [TASK, LENGTH, CELL, WIDTH, "seed"]
    rows = rows.assign(is_whole=frames.settled(rows)).sort_values("score", ascending=False, na_position="last")
    best = rows.drop_duplicates(ways)
    best = best.assign(value=best["value"].where(rows.groupby(ways)["is_whole"].transform("all")[best.index]))
    wider = best[CELL] + " of width " + best[WIDTH].astype(str)
    best = best.assign(cell=best[CELL].where(best[WIDTH] == EQUAL, wider))
    pieces = [
        series.summarize(of_measure, {name: of_measure["value"]}, [TASK, "cell", LENGTH])
        for name in (ACCURACY, SQUARED_ERROR)
        for of_measure in [best[best["measure"] == name]]
    ]
    return pd.concat(pieces, ignore_index=True)


FIGURES = tuple(
    series.figure(
        task,
        f"Cells with less and less recurrence: {task}",
        f"{name.capitalize()} on validation data after a fixed budget, the better of the learning rates. At width "
        f"{EQUAL}, but for a pru_a with the parameters of pru_a+plus_out. {PRU_NOTE}",
        (name, LENGTH, "cell"),
        {TASK: task},
        xlabel="sequence length (T)",
    )
    for task, name in (("copy", ACCURACY), ("adding", SQUARED_ERROR), ("recall", ACCURACY))
)
