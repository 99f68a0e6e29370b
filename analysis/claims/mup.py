"""Claims of Yang et al. (2022), Tensor Programs V, on learning rates that stay the best as networks get wider."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from memsweep.analysis.claims.claim import Basis, Claim, Margin, MissingTrialsError, Paper, Trend, within
from memsweep.analysis.core import frames
from memsweep.analysis.questions.mup import KIND, MUP, STANDARD, WIDTH, best_rates, transferred

STAYS, MOVES = 0.25, 0.5
"""Slopes of log best rate against log width: at most STAYS in size counts as staying, below -MOVES as falling (ours):
over a factor of 16 in width, a factor of 2 in rate, and of 4."""


def stays(trials: pd.DataFrame) -> Sequence[Margin]:
    """Returns slopes of log best rate against log width in muP, within STAYS of 0."""
    margins = within("slope of log best rate in log width, muP", _slopes(trials, MUP), STAYS)
    return [part for part in margins if isinstance(part, Margin)]


def moves(trials: pd.DataFrame) -> Sequence[Margin]:
    """Returns minus the slopes of log best rate against log width in the standard parametrization."""
    return [Margin("minus the slope of log best rate in log width, standard", -_slopes(trials, STANDARD), MOVES)]


def transfers(trials: pd.DataFrame) -> Sequence[Margin]:
    """Returns how much more loss the rate of the narrowest network costs the widest, standard less muP, in log2."""
    rows = transferred(trials)
    widest = _some(rows[rows[WIDTH] == rows[WIDTH].max()])
    excess = np.log2(widest["loss"] / widest["least"])
    by_kind = widest.assign(excess=excess).pivot_table(
        index="seed", columns=KIND, values="excess", aggfunc="first", dropna=False
    )
    for kind in (STANDARD, MUP):
        if kind not in by_kind:
            raise MissingTrialsError(f"no trial with {frames.label({KIND: kind})}")
    losses = by_kind[[STANDARD, MUP]].to_numpy(float, copy=True)  # infinite: diverged
    losses[np.isinf(losses).all(axis=1)] = 0.0  # a tie
    what = "log2 of loss over smallest loss, widest network at the narrowest's best rate, standard - muP"
    return [Margin(what, losses[:, 0] - losses[:, 1])]


def wider_is_better(trials: pd.DataFrame) -> Sequence[Trend]:
    """Returns the trend along widths of the training loss in muP, at the best rate of the narrowest network."""
    rows = transferred(trials)
    rows = _some(rows[rows[KIND] == MUP])
    table = rows.pivot_table(index="seed", columns=WIDTH, values="loss", aggfunc="first", dropna=False)
    if table.shape[1] < 3:
        raise MissingTrialsError("fewer than three widths")
    return [Trend("minus training loss, along the width, muP", -table.to_numpy(float))]


def _slopes(trials: pd.DataFrame, kind: str) -> np.ndarray:
    """Returns [S], least-squares slope of log best rate against log width of each seed; NaN if a width is missing."""
    best = best_rates(_some(trials[trials[KIND] == kind]))
    table = best.pivot_table(index="seed", columns=WIDTH, values="log_rate", aggfunc="first", dropna=False)
    if table.shape[1] < 3:
        raise MissingTrialsError("fewer than three widths")
    widths, rates = np.log2(table.columns.to_numpy(float)), table.to_numpy(float)
    centred = widths - widths.mean()
    return np.asarray(rates @ centred / (centred**2).sum())


def _some(rows: pd.DataFrame) -> pd.DataFrame:
    if rows.empty:
        raise MissingTrialsError("no parametrization with trials of the narrowest width at all rates")
    return rows


_SWEEP = ("mup",)
PAPER = Paper(
    "mup",
    "Yang et al. (2022), Tensor Programs V: muP",
    "The abstract was read; the networks there are transformers and residual networks of millions to billions of "
    "parameters, here perceptrons of two hidden layers on digits.",
    (
        Claim(
            1,
            "In muP the best learning rate stays as the network gets wider.",
            Basis.ABSTRACT,
            f"Least-squares slope of log best rate against log width within {STAYS:g} of 0 (ours), two one-sided sign "
            "tests over seeds; best: smallest training loss after a fixed number of steps, interpolated between rates.",
            _SWEEP,
            stays,
            shuffled=(KIND,),
            statuses=frames.UNPRUNED,
        ),
        Claim(
            2,
            "In the standard parametrization the best learning rate falls as the network gets wider.",
            Basis.RECONSTRUCTION,
            f"Slope of log best rate against log width below -{MOVES:g} (ours), measured as in claim 1: sign test over "
            "seeds.",
            _SWEEP,
            moves,
            shuffled=(WIDTH,),
            statuses=frames.UNPRUNED,
        ),
        Claim(
            3,
            "A rate that is tuned on a narrow network transfers to a wide one in muP, not in the standard "
            "parametrization.",
            Basis.ABSTRACT,
            "At a seed's best rate for the narrowest network, the widest has a training loss above its smallest by a "
            "larger factor in the standard parametrization than in muP: sign test over seeds of the difference of "
            "logarithms, above 0.",
            _SWEEP,
            transfers,
            shuffled=(KIND,),
            statuses=frames.UNPRUNED,
        ),
        Claim(
            4,
            "In muP wider networks have a smaller training loss at the same learning rate.",
            Basis.RECONSTRUCTION,
            "Training loss falls along the width at a seed's best rate for the narrowest network: Page's trend test "
            "over seeds.",
            _SWEEP,
            wider_is_better,
            shuffled=(WIDTH,),
            statuses=frames.UNPRUNED,
        ),
    ),
)
