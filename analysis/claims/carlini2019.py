"""Carlini et al. 2019 and 2023: exposure of strings by repeats, by the network's size, and by length.

Exposure is by rank (`exposure` of `memsweep.analysis.questions`). The paper of 2023 measured which training text large
models emit, by its duplicates, by the model's size and by the length of the prompt; random strings and small
transformers stand in for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd

from memsweep.analysis.claims.claim import Basis, Claim, Evidence, Margin, MissingTrialsError, Paper, Trend
from memsweep.analysis.questions import exposure
from memsweep.analysis.questions.exposure import LENGTH, REPEATS, WIDTH

LEAST = 3
"""Settings along which exposure is compared, at least."""


def _at(rows: pd.DataFrame, *, end: bool) -> pd.DataFrame:
    """Returns exposures at each trial's last step, or at its first.

    Raises MissingTrialsError where no trial was measured.
    """
    scored = exposure.exposures(rows).dropna(subset="exposure")
    if scored.empty:
        raise MissingTrialsError("no trial with the probe exposure")
    return scored[scored["step"] == scored.groupby("trial_id")["step"].transform("max" if end else "min")]


def rises(rows: pd.DataFrame, along: str, what: str) -> Sequence[Evidence]:
    """Returns the trend of exposure along the values of a column, mean over all other settings of a seed.

    Raises MissingTrialsError with fewer than LEAST values.
    """
    last = _at(rows, end=True)
    if (count := last[along].nunique()) < LEAST:
        raise MissingTrialsError(f"{count} values of {what}; the claim requires {LEAST}")
    # the mean of settings, of which each seed has the same ones; a seed that lacks a setting is left out
    settings = [WIDTH, LENGTH, REPEATS]
    by_setting = last.pivot_table(index="seed", columns=settings, values="exposure", dropna=False)
    by_seed = by_setting.dropna(axis=1, how="all").dropna()
    means = by_seed.T.groupby(level=along).mean().T
    return [Trend(f"exposure (bits) by {what}", means.to_numpy(float))]


def above_chance(rows: pd.DataFrame) -> Sequence[Evidence]:
    """Returns how much the exposure of strings that were trained on once exceeds that before training."""
    once = [
        at[at[REPEATS] == 1].groupby("seed")["exposure"].mean() for at in (_at(rows, end=end) for end in (True, False))
    ]
    if once[0].empty:
        raise MissingTrialsError("no string that is in the training set once")
    gain = once[0] - once[1]
    return [Margin("exposure (bits) of strings trained on once, end - before training", gain.to_numpy(float))]


_claim = partial(Claim, sweeps=("exposure",), rows=exposure.QUERY, untrained=("example",))
_TREND = (
    "exposure by rank among 1,023 unseen strings, at the end, mean over a seed's other settings; Page's trend test "
    "over seeds, without a bound"
)

PAPER = Paper(
    "carlini2019",
    "Carlini et al. 2019, The Secret Sharer; Carlini et al. 2023, Quantifying Memorization",
    "Only abstracts, and the definition of exposure, could be read; random strings stand in for text.",
    (
        _claim(
            1,
            "The more often a string is in the training data, the more it is memorized.",
            Basis.ABSTRACT,
            f"Rise along the numbers of repeats of {_TREND} (direction of Carlini et al. 2023, who measured text that "
            "models emit).",
            measure=partial(rises, along=REPEATS, what="repeats"),
            shuffled=(REPEATS,),
        ),
        _claim(
            2,
            "The larger the network, the more it memorizes of a string.",
            Basis.ABSTRACT,
            f"Rise along the widths of {_TREND} (direction of Carlini et al. 2023).",
            measure=partial(rises, along=WIDTH, what="width"),
            shuffled=(WIDTH,),
        ),
        _claim(
            3,
            "The longer a string, the more it is memorized.",
            Basis.RECONSTRUCTION,
            f"Rise along the lengths of {_TREND}. Carlini et al. 2023 lengthened the prompt, which is a part of the "
            "training text; here the whole string is longer, and so is every other string of the set.",
            measure=partial(rises, along=LENGTH, what="length"),
            shuffled=(LENGTH,),
        ),
        _claim(
            4,
            "A string that occurs once is exposed, too.",
            Basis.RECONSTRUCTION,
            "Exposure of strings that are in the training set once, at the end less before training, mean over widths "
            "and lengths; sign test over seeds (Carlini et al. 2019: even rare secrets are memorized; statistic ours).",
            measure=above_chance,
        ),
    ),
)
