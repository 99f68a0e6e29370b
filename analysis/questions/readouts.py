"""Does a stored symbol stay where it was written? A linear read-out, fitted when it is shown, applied steps later.

Our test of the argument of Choi (2018) that a dimension of the hidden state should mean the same at every step.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pandas as pd
from matplotlib.axes import Axes

from memsweep.analysis.core import figures, frames, statistics
from memsweep.analysis.core.arrangement import DEFAULT, View
from memsweep.analysis.questions import sequences
from memsweep.analysis.questions.sequences import CELL, LENGTH, SETTING, WIDTH

QUERY = frames.READOUTS

DROP, CONTROL, MOVED = "accuracy lost", "accuracy if fitted later", "accuracy lost to a moved code"
ITEM = 0
"""Symbol whose read-outs are drawn: the first, which is held longest. Symbols are not averaged over."""

select = sequences.shown


def summarize(readouts: pd.DataFrame) -> pd.DataFrame:
    """Returns a row per quantity, setting, item and delay d after the step t that shows the item.

    With a(f, g) the accuracy of a classifier fitted on hidden states of step f, applied to states of step g:
    accuracy lost: a(t, t) - a(t, t + d).
    accuracy if fitted later: a(t + d, t + d), the control, which shows what is still stored.
    accuracy lost to a moved code: a(t + d, t + d) - a(t, t + d), which is stored but missed by the first read-out.
    Each is of one trial's item; mean over seeds, with its bootstrap interval over seeds at 95 %.
    readouts: rows of the table `readouts` with the fields of their trials (`frames.read`), filtered by `select`; a
    trial without read-outs is one row, and counts as missing, as does a trial that failed or diverged.
    Returns also low, high, seeds, missing.
    """
    rows = sequences.settings(readouts)
    share = frames.share(rows["correct_count"], rows["example_count"]).where(frames.usable(rows))
    rows = rows.assign(share=share, delay=rows["applied_step"] - rows["item"])
    whole = sequences.at_every(_facts(rows), ["item", "delay"])
    if whole.empty:
        return pd.DataFrame(columns=list(_COLUMNS))
    by = [*SETTING, "item", "delay"]
    pieces = [statistics.over_seeds(whole, by, name).assign(quantity=name) for name in (DROP, CONTROL, MOVED)]
    return sequences.by_cell(pd.concat(pieces, ignore_index=True))[list(_COLUMNS)]


def draw(summary: pd.DataFrame, ax: Axes, quantity: str = DROP, item: int = ITEM, view: View = DEFAULT) -> Axes:
    """Draws one quantity against the delay, a curve a cell."""
    chosen = frames.having(summary, {"quantity": quantity, "item": item})
    if chosen["estimate"].isna().all():
        return figures.empty(ax, "no finished trial has read-outs")
    axis = {"xlabel": "steps after the symbol was shown", "ylabel": quantity}
    fixed = "" if view.names else sequences.shared(chosen, WIDTH, LENGTH)
    ax = sequences.draw(chosen, ax, summary, "delay", axis, view, fixed)
    if not view.y and view.within(sequences.axes(summary, "delay")).x in ("", "delay"):
        for panel in figures.panels(ax):
            figures.log_scale(chosen["delay"], panel)
    return ax


def _facts(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns a row per trial, item and delay, with the three quantities."""
    keys = [*SETTING, "seed", "trial_id", "item"]
    first = rows[rows["fitted_step"] == rows["item"]].set_index([*keys, "delay"])["share"]
    later = rows[rows["fitted_step"] == rows["applied_step"]].set_index([*keys, "delay"])["share"]
    begin = first[first.index.get_level_values("delay") == 0].droplevel("delay")
    facts = pd.DataFrame({"first": first, CONTROL: later}).reset_index().join(begin.rename("begin"), on=keys)
    facts = facts.assign(**{DROP: facts["begin"] - facts["first"], MOVED: facts[CONTROL] - facts["first"]})
    without = rows[rows["item"].isna()][[*keys]]
    return pd.concat([facts, without], ignore_index=True)


_COLUMNS = ("quantity", CELL, "variant", WIDTH, LENGTH, "item", "delay", "estimate", "low", "high", "seeds", "missing")

_NOTES = {
    DROP: "Accuracy of a linear classifier of the first symbol at the step that shows it, less that of the same "
    "classifier d steps later.",
    CONTROL: "The control: a classifier fitted at the later step itself. Where it falls too, the symbol is no longer "
    "there to be read linearly.",
    MOVED: "At the later step, accuracy of a classifier fitted there less that of the first classifier: the symbol is "
    "stored, in another code. A cell whose dimensions keep their meaning stays at 0.",
}


def _figures() -> Iterator[figures.Figure]:
    for name, quantity in (("drop", DROP), ("control", CONTROL), ("moved", MOVED)):
        yield figures.Figure(
            name,
            f"Read-out of a stored symbol: {quantity}",
            partial(draw, quantity=quantity),
            f"{_NOTES[quantity]} On validation data that it was not fitted on, of task copy; the test is ours. Other "
            f"symbols are in the table. {sequences.SHOWN_NOTE} {sequences.MEAN_NOTE} {sequences.PRU_NOTE}",
            rows=frames.of_quantity(quantity),
            only={"data_task": "copy"},
            axes=partial(sequences.axes, x="delay"),
        )


FIGURES = tuple(_figures())
