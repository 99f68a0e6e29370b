"""Claims of Power et al. (2022), Grokking, and of Doshi et al. (2023), on wrong labels in modular arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from memsweep.analysis.claims.claim import Basis, Claim, Margin, MissingTrialsError, Paper, Trend, paired
from memsweep.analysis.core import frames
from memsweep.analysis.questions import grokking
from memsweep.analysis.questions.grokking import DECAY, GENERALIZED, LEFT, NOISE, PEAK, SHARE, WIDTH

PAPERS_DECAY, STRONG = 1.0, 3.0
"""Weight decay of AdamW with which Power et al. train, beside none; and one that makes ours give labels back."""
FACTOR = 10.0
"""Least factor between the steps to fit and to generalize that counts as long after (ours)."""
MOST = 0.5
"""Share of settings, of wrong labels or of validation examples that counts as most (ours)."""
NEARLY_ALL = 0.9
"""Share of wrong labels that counts as memorized, and validation accuracy that counts as generalized (ours)."""


def long_after(trials: pd.DataFrame) -> Sequence[Margin]:
    """Returns the share of settings that generalize with the paper's decay, and how much later at the smallest share.

    Settings are widths and training shares. A network that does not generalize counts with its whole budget, less than
    the truth.
    """
    rows = _clean(trials)
    rows = _some(rows[rows[DECAY] == PAPERS_DECAY], f"with {frames.label({DECAY: PAPERS_DECAY})}")
    fewest = rows[rows[SHARE] == rows[SHARE].min()]
    factors = np.log10(fewest[grokking.TO_GENERALIZE] / fewest[grokking.TO_FIT]).groupby(fewest["seed"]).median()
    shares = rows.groupby("seed")[GENERALIZED].mean()
    return [
        Margin("share of settings that generalize, weight decay 1", shares.to_numpy(float), MOST),
        Margin("log10 of steps to generalize over steps to fit", factors.to_numpy(float), float(np.log10(FACTOR))),
    ]


def fewer_take_longer(trials: pd.DataFrame) -> Sequence[Trend]:
    """Returns the trend along the training shares of log steps to generalize, with the paper's decay."""
    rows = _clean(trials)
    table = _log_steps(rows[rows[DECAY] == PAPERS_DECAY], SHARE)
    return [Trend("minus log steps to generalize, along the training share", -table)]


def decay_helps(trials: pd.DataFrame) -> Sequence[Margin]:
    """Returns the share of settings that generalize with the paper's weight decay, less that without."""
    rows = _with_all(_clean(trials), (0.0, PAPERS_DECAY))
    difference = paired(rows, GENERALIZED, DECAY, PAPERS_DECAY, 0.0)
    return [Margin("share of settings that generalize, weight decay 1 - 0", difference, MOST)]


def decay_hastens(trials: pd.DataFrame) -> Sequence[Trend]:
    """Returns the trend along weight decays, from none to the paper's, of log steps to generalize."""
    rows = _clean(trials)
    rows = rows[rows[DECAY] <= PAPERS_DECAY]
    table = _log_steps(_with_all(rows, [*rows[DECAY].unique()]), DECAY)
    return [Trend("minus log steps to generalize, along the weight decay", -table)]


def wider_is_sooner(trials: pd.DataFrame) -> Sequence[Trend]:
    """Returns the trend along widths of log steps to generalize, with the paper's decay."""
    rows = _clean(trials)
    table = _log_steps(rows[rows[DECAY] == PAPERS_DECAY], WIDTH)
    return [Trend("minus log steps to generalize, along the width", -table)]


def both_at_once(trials: pd.DataFrame) -> Sequence[Margin]:
    """Returns, with wrong labels and the paper's decay, how many are memorized at the end, and the accuracy there."""
    means = _fates(trials, PAPERS_DECAY)
    return [
        Margin("share of wrong labels memorized at the end, weight decay 1", means[LEFT].to_numpy(float), NEARLY_ALL),
        Margin("validation accuracy at the end, weight decay 1", means["end"].to_numpy(float), NEARLY_ALL),
    ]


def given_back(trials: pd.DataFrame) -> Sequence[Margin]:
    """Returns, with strong decay, how many wrong labels are memorized at most, and given back in generalizing."""
    means = _fates(trials, STRONG)
    return [
        Margin("share of wrong labels memorized at most, weight decay 3", means[PEAK].to_numpy(float), NEARLY_ALL),
        Margin("share of wrong labels given back, weight decay 3", means["given"].to_numpy(float), MOST),
        Margin("validation accuracy gained since most were memorized", means["gained"].to_numpy(float), MOST),
        Margin("validation accuracy at the end, weight decay 3", means["end"].to_numpy(float), NEARLY_ALL),
    ]


def decay_gives_back(trials: pd.DataFrame) -> Sequence[Trend]:
    """Returns the trend along weight decays of the share of wrong labels that is not memorized at the end."""
    table = _noisy(trials).pivot_table(index="seed", columns=DECAY, values=LEFT, aggfunc="mean", dropna=False)
    if table.shape[1] < 3:
        raise MissingTrialsError("fewer than three values of weight decay with wrong labels")
    return [Trend("share of wrong labels not memorized at the end, along the weight decay", 1 - table.to_numpy(float))]


def _fates(trials: pd.DataFrame, decay: float) -> pd.DataFrame:
    """Returns the means of each seed with wrong labels, at a weight decay: PEAK, LEFT, given, gained, end."""
    rows = _noisy(trials)
    rows = _some(rows[rows[DECAY] == decay], f"with {frames.label({DECAY: decay})} and wrong labels")
    end = frames.share(rows["validation_correct_count"], rows["validation_count"])
    then = frames.share(rows["peak_validation_correct_count"], rows["validation_count"])
    rows = rows.assign(given=rows[PEAK] - rows[LEFT], gained=end - then, end=end)
    return rows.groupby("seed")[[PEAK, LEFT, "given", "gained", "end"]].mean()


def _with_all(rows: pd.DataFrame, decays: Sequence[float]) -> pd.DataFrame:
    """Returns the rows of these weight decays whose width and training share have trials of each of them."""
    rows = rows[rows[DECAY].isin(decays)]
    counts = rows.groupby([WIDTH, SHARE])[DECAY].transform("nunique")
    return _some(rows[counts == len(decays)], "of a width and training share with all of these weight decays")


def _clean(trials: pd.DataFrame) -> pd.DataFrame:
    rows = grokking.with_measures(grokking.select(trials))
    return _some(rows[rows[NOISE] == 0], "without wrong labels")


def _noisy(trials: pd.DataFrame) -> pd.DataFrame:
    rows = grokking.with_measures(grokking.select(trials))
    return _some(rows[rows[NOISE] > 0], "with wrong labels")


def _some(rows: pd.DataFrame, which: str) -> pd.DataFrame:
    if rows.empty:
        raise MissingTrialsError(f"no trial {which}")
    return rows


def _log_steps(rows: pd.DataFrame, along: str) -> np.ndarray:
    """Returns [S, n], mean of log10 of the steps to generalize by seed and value of a column, in its order.

    A network that does not generalize counts with its whole budget, less than the truth. Raises MissingTrialsError for
    fewer than three values.
    """
    rows = rows.assign(log=np.log10(rows[grokking.TO_GENERALIZE]))
    table = rows.pivot_table(index="seed", columns=along, values="log", aggfunc="mean", dropna=False)
    if table.shape[1] < 3:
        raise MissingTrialsError(f"fewer than three values of {frames.short(along) if along != SHARE else SHARE}")
    return np.asarray(table.to_numpy(float))


_SWEEP = ("grokking",)
_TREND = (
    "Page's trend test over seeds of the mean over the other settings of log steps; a network that does not generalize "
    "counts with its whole budget."
)

PAPER = Paper(
    "grokking",
    "Power et al. (2022), Grokking; Doshi et al. (2023), To grok or not to grok",
    "Of both the abstract was read, and of Power et al. a paragraph on weight decay; their networks are transformers "
    "and their tables of 97 x 97 pairs; here one hidden layer and 31 x 31.",
    (
        Claim(
            1,
            "Networks that fit the training pairs may generalize long after, to nearly all other pairs.",
            Basis.ABSTRACT,
            f"With weight decay 1: at most of the widths and training shares ({MOST:g}) a seed reaches "
            f"{grokking.GENERAL:.0%} validation accuracy, and at the smallest share the median over widths of the "
            f"factor between the steps to that and those to {grokking.FIT:.0%} training accuracy exceeds {FACTOR:g} "
            "(bounds ours; within the budget, so a lower bound): sign tests over seeds.",
            _SWEEP,
            long_after,
            grokking.QUERY,
            shuffled=(DECAY,),
        ),
        Claim(
            2,
            "The fewer pairs are trained on, the more steps it takes to generalize.",
            Basis.ABSTRACT,
            f"Steps to {grokking.GENERAL:.0%} validation accuracy fall along the training share, weight decay 1: "
            f"{_TREND}",
            _SWEEP,
            fewer_take_longer,
            grokking.QUERY,
            shuffled=("data_examples",),
        ),
        Claim(
            3,
            "Weight decay makes networks generalize from fewer pairs.",
            Basis.RECONSTRUCTION,
            f"Share of widths and training shares, of those trained with both, at which a seed reaches "
            f"{grokking.GENERAL:.0%} validation accuracy within the budget, weight decay 1 less 0, above {MOST:g} "
            "(ours): sign test over seeds.",
            _SWEEP,
            decay_helps,
            grokking.QUERY,
            shuffled=(DECAY,),
        ),
        Claim(
            4,
            "The stronger the weight decay, up to 1, the fewer steps it takes to generalize.",
            Basis.EXTENSION,
            f"Steps to {grokking.GENERAL:.0%} validation accuracy fall along weight decays from 0 to 1: {_TREND}",
            _SWEEP,
            decay_hastens,
            grokking.QUERY,
            shuffled=(DECAY,),
        ),
        Claim(
            5,
            "The wider the network, the fewer steps it takes to generalize.",
            Basis.EXTENSION,
            f"Steps to {grokking.GENERAL:.0%} validation accuracy fall along the width, weight decay 1: {_TREND}",
            _SWEEP,
            wider_is_sooner,
            grokking.QUERY,
            shuffled=(WIDTH,),
        ),
        Claim(
            6,
            "A network can memorize wrong labels and generalize at the same time.",
            Basis.ABSTRACT,
            f"A tenth of the labels wrong, weight decay 1: share of them memorized at the end, and validation accuracy "
            f"there, above {NEARLY_ALL:g} (ours): sign tests over seeds.",
            _SWEEP,
            both_at_once,
            grokking.QUERY,
            shuffled=(DECAY,),
        ),
        Claim(
            7,
            "With strong weight decay a network first memorizes wrong labels, and gives most back as it generalizes.",
            Basis.RECONSTRUCTION,
            f"A tenth of the labels wrong, weight decay 3: share of them memorized at most above {NEARLY_ALL:g}, and "
            f"given back at the end above {MOST:g}; validation accuracy gained since above {MOST:g}, and at the end "
            f"above {NEARLY_ALL:g} (bounds ours): sign tests over seeds.",
            _SWEEP,
            given_back,
            grokking.QUERY,
            shuffled=(DECAY,),
        ),
        Claim(
            8,
            "The stronger the weight decay, the fewer wrong labels stay memorized.",
            Basis.RECONSTRUCTION,
            "A tenth of the labels wrong: share of them memorized at the end falls along weight decays 0, 1 and 3: "
            "Page's trend test over seeds.",
            _SWEEP,
            decay_gives_back,
            grokking.QUERY,
            shuffled=(DECAY,),
        ),
    ),
)
