"""Judges a claim on a made-up table as on stored trials: corrected for its paper, after former designs."""

from dataclasses import replace

import numpy as np
import pandas as pd

from memsweep.analysis.claims.claim import Tested
from memsweep.analysis.claims.verdicts import judge_paper
from memsweep.spec.sweep_files import load_sweep


def seeds_of(*sweeps):
    """Number of seeds of these sweeps, the fewest."""
    return min(len(load_sweep(sweep).seeds) for sweep in sweeps)


def sides(true, false, undecided=None):
    """A function of a side: True, False or None -> rows that bear a claim out, speak against it, or decide nothing."""
    return lambda side: undecided and undecided() if side is None else true() if side else false()


def judged(paper, number, rows):
    """The row of a claim whose p is corrected as the smallest of all findings of its paper."""
    claim = paper.claims[number - 1]
    nothing = Tested("another finding", 0.0, 0.0, 0.0, 1.0, 1.0, 1000)
    others = [
        replace(other, sweeps=(), untrained=(), measure=lambda rows: [nothing])
        for other in paper.claims
        if other is not claim and not other.is_check
    ]
    table = judge_paper(replace(paper, claims=(claim, *others)), lambda claim, sweep: rows)
    return table.iloc[0]


def mixed(true, false, pairs=False):
    """Rows of which every other seed (pairs: every other two) bears a claim out and the others speak against it."""
    is_true = [rows["seed"] // (2 if pairs else 1) % 2 == 0 for rows in (true, false)]
    return pd.concat([true[is_true[0]], false[np.logical_not(is_true[1])]], ignore_index=True)
