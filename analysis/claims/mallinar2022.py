"""Claims of Mallinar et al. (2022), Benign, Tempered, or Catastrophic: A Taxonomy of Overfitting."""

from __future__ import annotations

import numpy as np
import pandas as pd

from memsweep.analysis.claims.claim import Basis, Claim, Evidence, Margin, MissingTrialsError, Paper, Trend
from memsweep.analysis.questions import tempered
from memsweep.analysis.questions.tempered import FITTED, NOISE, STOPPED

KEPT = 0.5
"""Share of a slope that must be kept or lost: the midpoint (bound ours)."""


def _excess(by_trial: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Returns excess errors [seeds, noise fractions above 0] with the most examples.  by_trial: of tempered.errors."""
    by_trial = tempered.excess(by_trial)
    chosen = by_trial[(by_trial["examples"] == by_trial["examples"].max()) & (by_trial["kind"] == kind)]
    table: pd.DataFrame = chosen[chosen["noise"] > 0].pivot_table(
        index="seed", columns="noise", values="excess", dropna=False
    )
    if table.shape[1] < 3 or chosen.loc[chosen["noise"] == 0, "error"].isna().all():
        raise MissingTrialsError("fewer than three noise fractions, or no result without noise")
    return table


def _slopes(slopes: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Returns slopes of excess error [seeds, numbers of examples].  slopes: of tempered.slopes."""
    table = slopes[slopes["kind"] == kind].pivot_table(index="seed", columns="examples", values="slope", dropna=False)
    if table.isna().all(axis=None):
        raise MissingTrialsError(f"no excess error {kind}")
    return table


def is_tempered(rows: pd.DataFrame) -> list[Evidence]:
    """Returns how excess error rises with noise where all labels are fitted, and how far it stays from ruin."""
    by_trial = tempered.errors(rows)
    table = _excess(by_trial, FITTED)
    clean = by_trial[(by_trial["kind"] == FITTED) & (by_trial["noise"] == 0)]
    clean = clean[clean["examples"] == by_trial["examples"].max()].set_index("seed")["error"].reindex(table.index)
    classes = float(rows["class_count"].max())
    room = (1 - 1 / classes - clean) / 2 - table[table.columns.max()]
    return [
        Trend("excess error at interpolation by wrong labels", table.to_numpy(float)),
        Margin("excess error at interpolation, least noise", table[table.columns.min()].to_numpy(float)),
        Margin("half of the way to guessing - excess error at interpolation, most noise", room.to_numpy(float)),
    ]


def is_benign_stopped(rows: pd.DataFrame) -> list[Evidence]:
    """Returns how much of the slope at interpolation an early stop saves beyond half, with the most examples."""
    slopes = tempered.slopes(tempered.errors(rows))
    fitted, stopped = (_slopes(slopes, kind) for kind in (FITTED, STOPPED))
    most = fitted.columns.max()
    saved = KEPT * fitted[most] - stopped[most].reindex(fitted.index)
    return [Margin("half of the excess error per wrong label at interpolation - stopped early", saved.to_numpy(float))]


def stays_with_examples(rows: pd.DataFrame) -> list[Evidence]:
    """Returns how much of the slope is left with the most examples: at interpolation, and stopped early."""
    slopes = tempered.slopes(tempered.errors(rows))
    fitted, stopped = (_slopes(slopes, kind) for kind in (FITTED, STOPPED))
    if fitted.shape[1] < 3:
        raise MissingTrialsError("fewer than three numbers of examples")
    most, fewest = fitted.columns.max(), fitted.columns.min()
    return [
        Margin(
            "excess error per wrong label at interpolation, most - half of fewest examples",
            (fitted[most] - KEPT * fitted[fewest]).to_numpy(float),
        ),
        Trend("- excess error per wrong label stopped early by examples", -stopped.to_numpy(float)),
    ]


def is_proportional(rows: pd.DataFrame) -> list[Evidence]:
    """Returns how near the power of noise with which excess error grows at interpolation is to 1."""
    table = _excess(tempered.errors(rows), FITTED)
    logs = np.log(table.columns.to_numpy(float))
    values = table.to_numpy(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        extra = np.where(values > 0, np.log(values), np.nan)
    centred = logs - logs.mean()
    power = (extra * centred).sum(axis=1) / (centred**2).sum()
    what = "power of the share of wrong labels in excess error at interpolation"
    return [Margin(what, power, 0.5, ideal=1.0), Margin(f"minus the {what}", -power, -1.5, ideal=-1.0)]


_SWEEPS = ("tempered",)
PAPER = Paper(
    "mallinar2022",
    "Mallinar et al. 2022, Benign, Tempered, or Catastrophic: A Taxonomy of Overfitting",
    "The abstract was read; networks, data and sizes are ours.",
    (
        Claim(
            1,
            "Networks trained to fit all labels are tempered: wrong labels cost them test error, but do not ruin them.",
            Basis.ABSTRACT,
            "With the most examples, error on true labels less that without noise: rises along the shares of wrong "
            "labels (Page's trend test), is above 0 at the smallest, and at the largest is less than half of the way "
            "from the clean error to guessing (midpoint ours); sign tests over seeds.",
            _SWEEPS,
            is_tempered,
            rows=tempered.QUERY,
            shuffled=(NOISE,),
        ),
        Claim(
            2,
            "Networks that are stopped early are benign: wrong labels cost them little.",
            Basis.ABSTRACT,
            "With the most examples, the slope of excess error against the share of wrong labels, stopped at the time "
            "of least mean error of the other seeds, is less than half of that at interpolation (midpoint ours); sign "
            "test over seeds.",
            _SWEEPS,
            is_benign_stopped,
            rows=tempered.QUERY,
            shuffled=(NOISE,),
        ),
        Claim(
            3,
            "More examples do not make the overfitting benign, while they help networks that are stopped early.",
            Basis.EXTENSION,
            "The slope at interpolation with the most examples is more than half of that with the fewest (midpoint "
            "ours; sign test over seeds); stopped early it falls along the numbers of examples (Page's trend test).",
            _SWEEPS,
            stays_with_examples,
            rows=tempered.QUERY,
            shuffled=("data_examples",),
        ),
        Claim(
            4,
            "Where all labels are fitted, excess error is about proportional to the share of wrong labels.",
            Basis.EXTENSION,
            "With the most examples, a seed's slope of the log of excess error against that of the share is above 0.5 "
            "and below 1.5 (ours); sign tests over seeds; a seed without excess error at some share has no result.",
            _SWEEPS,
            is_proportional,
            rows=tempered.QUERY,
            shuffled=(NOISE,),
        ),
    ),
)
