"""Claims of Choi (2018) on PRU-style cells. Only the abstract was available: cells, tasks and tests are reconstructed.

Cells are paired by seed, on the same task, length and width, at one learning rate a task. A replicate is a seed.
Claims that cells are alike (6, 10) have no shuffled columns: exchanged cells are alike.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd

from memsweep.analysis.claims.claim import Basis, Claim, Fact, Margin, MissingTrialsError, Paper
from memsweep.analysis.core import frames
from memsweep.analysis.questions import capacity, composition, persistence, readouts, sequences
from memsweep.analysis.questions import sequence_ablation as ablation
from memsweep.analysis.questions.sequence_capacity import COMPARED_AT
from memsweep.analysis.questions.sequences import CELL, LENGTH, TASK, WIDTH

LSTM, PRU, PLUS, TASKS = "lstm", "pru_a", "pru_a+plus_out", 3
REACHED = ("copy", "adding")
"""Tasks of claim 6."""
BEHIND = 0.1
"""Share of lengths by which pru_a may fall behind and still reach as far (ours)."""
WITHIN = 0.25
"""Bits a parameter of two cells count as alike if they differ by at most this share."""
BUDGET_RANGE = 1.5
"""Cells are compared where the larger cell has at most this many times the parameters of the smaller."""

PERSISTENT = ("pru_a", "pru_b", "pru_c", "pru_d")
KEPT, MIXED = 1e-6, 0.01
"""Share of the Jacobian's norm off its diagonal: below KEPT for PERSISTENT, above MIXED for the LSTM (ours)."""

_PLACE = [TASK, LENGTH, WIDTH]


def as_good(rows: pd.DataFrame) -> Sequence[Margin]:
    """Returns the share of tasks and lengths on which pru_a beats the LSTM, less its losses."""
    return [_won(rows, (PRU, ablation.EQUAL), (LSTM, ablation.EQUAL))]


def layer_helps(rows: pd.DataFrame) -> Sequence[Margin]:
    """Returns wins of pru_a+plus_out over pru_a of the same width, and over the wider pru_a."""
    plus = (PLUS, ablation.EQUAL)
    return [_won(rows, plus, (PRU, width)) for width in (ablation.EQUAL, ablation.WIDER)]


def better_on_most_tasks(rows: pd.DataFrame) -> Sequence[Margin]:
    """Returns the number of tasks that pru_a+plus_out wins less the number that the LSTM wins, by seed.

    Raises MissingTrialsError where a task has no results.
    """
    balance = balances(rows, (PLUS, ablation.EQUAL), (LSTM, ablation.EQUAL))
    won = balance.groupby(["seed", TASK]).mean().unstack(TASK).apply(np.sign)
    if won.shape[1] < TASKS:
        raise MissingTrialsError(f"{won.shape[1]} of {TASKS} tasks have results")
    return [Margin(f"tasks won by {PLUS} less tasks won by {LSTM}", won.sum(axis=1, min_count=TASKS).to_numpy(float))]


def ordered(rows: pd.DataFrame) -> Sequence[Margin]:
    """Returns wins of each cell over the next in the order LSTM, pru_c, pru_a, pru_b."""
    pairs = itertools.pairwise((LSTM, "pru_c", PRU, "pru_b"))
    return [_won(rows, (more, ablation.EQUAL), (less, ablation.EQUAL)) for more, less in pairs]


def balances(rows: pd.DataFrame, more: tuple[str, int], less: tuple[str, int]) -> pd.Series[float]:
    """Returns 1 where cell `more` scores higher than `less`, -1 where lower, 0 at a tie, by seed, task and length.

    more, less: cell and width.  Each cell has its better learning rate.
    """
    scored = ablation.scored(rows)
    keys = ["seed", TASK, LENGTH]
    best = scored.groupby([CELL, WIDTH, *keys])["score"].max()
    for cell, width in (more, less):
        _at_least_one(scored[(scored[CELL] == cell) & (scored[WIDTH] == width)], f"with {cell} of width {width}")
    signs: pd.Series[float] = (best.loc[more] - best.loc[less]).dropna().apply(np.sign)
    return signs


def _won(rows: pd.DataFrame, more: tuple[str, int], less: tuple[str, int]) -> Margin:
    balance = balances(rows, more, less).groupby("seed").mean().to_numpy(float)
    what = " - ".join(f"{cell} of {width}" for cell, width in (more, less))
    return Margin(f"tasks and lengths won less lost, as a share, {what}", balance)


def faster(rows: pd.DataFrame) -> Sequence[Margin]:
    """Returns log ratios of steps to solve, LSTM over each of the PRU-style cells."""
    decided = rows.assign(solved=sequences.solved(rows)).dropna(subset="solved")
    steps = decided["solved_step"].where(decided["solved"] == 1, decided["stop_steps"]).astype(float)
    decided = decided.assign(log_steps=np.log(steps))
    solvable = decided.groupby(_PLACE)["solved"].transform("max") > 0
    _at_least_one(decided[solvable], "solved by a cell")
    return [
        Margin(f"log of steps to solve, {LSTM} / {cell}", paired_at(decided[solvable], "log_steps", LSTM, cell))
        for cell in (PRU, PLUS)
    ]


def reaches_as_far(rows: pd.DataFrame) -> Sequence[Margin]:
    """Returns the share of settings that pru_a solves less the LSTM's, without settings that all or no trials solve."""
    trials = rows[rows[TASK].isin(REACHED) & rows[CELL].isin((PRU, LSTM))]
    decided = trials.assign(solved=sequences.solved(trials)).dropna(subset="solved")
    shares = decided.groupby(_PLACE)["solved"].transform("mean")
    decided = decided[(shares > 0) & (shares < 1)]
    _at_least_one(decided, "distinguishes cells: each length is solved by all trials or by none")
    return [Margin(f"share of lengths solved, {PRU} - {LSTM}", paired_at(decided, "solved", PRU, LSTM), -BEHIND)]


def reads_later(rows: pd.DataFrame) -> Sequence[Margin]:
    """Returns the accuracy that a read-out loses, and loses to a moved code, at the longest delay, LSTM less pru_a."""
    share = frames.share(rows["correct_count"], rows["example_count"])
    readings = rows.assign(share=share).dropna(subset=["item", "share"])
    _at_least_one(readings, "with read-outs")
    readings = readings[readings["item"] == readouts.ITEM]
    last = readings.groupby(_PLACE)["applied_step"].transform("max")
    first = readings["fitted_step"] == readings["item"]
    begin = readings[first & (readings["applied_step"] == readings["item"])].set_index("trial_id")["share"]
    end = readings[first & (readings["applied_step"] == last)].set_index("trial_id")["share"]
    still = readings[(readings["fitted_step"] == last) & (readings["applied_step"] == last)].set_index("trial_id")[
        "share"
    ]
    trials = readings.drop_duplicates("trial_id").set_index("trial_id")
    trials = trials.assign(drop=begin - end, moved=still - end)
    return [
        Margin(f"accuracy lost, {LSTM} - {PRU}", paired_at(trials, "drop", LSTM, PRU)),
        Margin(f"accuracy lost to a moved code, {LSTM} - {PRU}", paired_at(trials, "moved", LSTM, PRU)),
    ]


def alike_by_parameter(rows: pd.DataFrame) -> Sequence[Margin]:
    """Returns bits a parameter of cells against the LSTM at like budgets, best over set sizes and learning rates."""
    labels = rows[(rows[TASK] == "random_sequences") & (rows[LENGTH] == COMPARED_AT)]
    _at_least_one(labels, "of task random_sequences")
    trials = capacity.with_bits(labels)
    trials = trials.assign(density=trials["bits"] / trials["parameter_count"].astype(float))
    best = trials.groupby([CELL, WIDTH, "seed"], as_index=False).agg(
        density=("density", "max"), parameters=("parameter_count", "max")
    )
    margins = []
    for cell in ("gru", PRU, PLUS):
        ratio = np.log(_at_like_budgets(best, cell, LSTM))
        margins += [
            Margin(f"{side} of bits a parameter, {cell} / {LSTM}, to {bound:g}", sign * (ratio - np.log(bound)))
            for side, sign, bound in (("above", 1, 1 - WITHIN), ("below", -1, 1 + WITHIN))
        ]
    return margins


def keeps_to_itself(rows: pd.DataFrame) -> Sequence[Fact]:
    """Returns the largest share off the diagonal over trials of PRU-style cells, and the smallest over the LSTM's."""
    share = persistence.mixed(rows)
    trials = rows.assign(share=share).dropna(subset="share")
    for cell in (LSTM, *PERSISTENT):
        _at_least_one(trials[trials[CELL] == cell], f"with {frames.label({CELL: cell})} and Jacobians")
    kept = trials.loc[trials[CELL].isin(PERSISTENT), "share"]
    lstm = trials.loc[trials[CELL] == LSTM, "share"]
    what = "share of the Jacobian's norm off its diagonal"
    return [
        Fact(f"largest {what}, {', '.join(PERSISTENT)}", float(kept.max()), bool((kept < KEPT).all()), len(kept)),
        Fact(f"smallest {what}, {LSTM}", float(lstm.min()), bool((lstm > MIXED).all()), len(lstm)),
    ]


def moves_what_is_stored(rows: pd.DataFrame) -> Sequence[Margin]:
    """Returns differences of the share of right compositions between LSTM, pru_a and pru_b."""
    trials = rows.assign(right=composition.right(rows)).dropna(subset="right")
    pairs = ((LSTM, "pru_b"), (LSTM, PRU), (PRU, "pru_b"))
    return [
        Margin(f"share of compositions predicted correctly, {more} - {less}", paired_at(trials, "right", more, less))
        for more, less in pairs
    ]


def paired_at(rows: pd.DataFrame, value: str, more: str, less: str) -> np.ndarray:
    """Returns differences of `value` between two cells by seed, mean over the tasks, lengths and widths that both have.

    Raises MissingTrialsError where a cell, or every such pair, is missing.
    """
    for cell in (more, less):
        _at_least_one(rows[rows[CELL] == cell], f"with {frames.label({CELL: cell})}")
    wide = rows.pivot_table(index=["seed", *_PLACE], columns=CELL, values=value, aggfunc="mean")
    differences = (wide[more] - wide[less]).dropna()
    if differences.empty:
        raise MissingTrialsError(f"no task, length and width with results of {more} and of {less}")
    return differences.groupby("seed").mean().to_numpy(float)


def _at_like_budgets(best: pd.DataFrame, cell: str, base: str) -> np.ndarray:
    """Returns [S] ratios of density, geometric mean over pairs of widths whose parameters are within BUDGET_RANGE."""
    of_cell, other = (best[best[CELL] == name] for name in (cell, base))
    pairs = of_cell.merge(other, on="seed", suffixes=("", "_base"))
    ratio = pairs["parameters"].astype(float) / pairs["parameters_base"].astype(float)
    pairs = pairs[ratio.between(1 / BUDGET_RANGE, BUDGET_RANGE) & (pairs["density"] > 0) & (pairs["density_base"] > 0)]
    _at_least_one(pairs, f"of {cell} and {base} with parameters within a factor of {BUDGET_RANGE:g}")
    logs = pairs.assign(log=np.log(pairs["density"] / pairs["density_base"]))
    return np.asarray(np.exp(logs.groupby("seed")["log"].mean().to_numpy(float)))


def _at_least_one(rows: pd.DataFrame, which: str) -> None:
    if rows.empty:
        raise MissingTrialsError(f"no trial {which}")


_WON = (
    "tasks and lengths in which it is better less those in which it is worse, as a share, above 0 (ours), each cell at "
    "its better learning rate, by accuracy or squared error on validation data after a fixed budget: sign test over "
    "seeds."
)
_LENGTHS, _ABLATION = ("sequence_length",), ("sequence_ablation",)

PAPER = Paper(
    "choi2018",
    "Choi (2018), Persistent hidden states and nonlinear transformation for long short-term memory",
    "Of the paper only the abstract could be read: cells pru_... are PRU-style cells (reconstructed), tasks are "
    "substitutes, and no number of the paper is available.",
    (
        Claim(
            1,
            "With gates held, a step's Jacobian of the state is diagonal for PRU-style cells, and not for a trained "
            "LSTM.",
            Basis.RECONSTRUCTION,
            "Norm of the Jacobian off the diagonal over its whole norm, over validation sequences and steps: below "
            f"{KEPT:g} for {', '.join(PERSISTENT)}, above {MIXED:g} for the LSTM (thresholds ours). A fact: must hold "
            "in every trial. Cells reconstructed without the matrix bear it out by construction.",
            ("persistence",),
            keeps_to_itself,
            frames.JACOBIANS,
            is_check=True,
        ),
        Claim(
            2,
            "At equal width pru_a does at least as well as the LSTM on most tasks and lengths, with fewer parameters.",
            Basis.ABSTRACT,
            f"pru_a against the LSTM: {_WON} A tie speaks for neither.",
            _ABLATION,
            as_good,
            shuffled=(CELL,),
        ),
        Claim(
            3,
            "A feedforward layer after the state (plus_out) makes pru_a better, and better than a wider pru_a of as "
            "many parameters.",
            Basis.ABSTRACT,
            f"pru_a+plus_out against pru_a, and against a pru_a wider by 4 units, with parameters within 5 %: {_WON}",
            _ABLATION,
            layer_helps,
            shuffled=(CELL,),
        ),
        Claim(
            4,
            "At equal parameters pru_a+plus_out does better than the LSTM on two of three tasks or more.",
            Basis.ABSTRACT,
            "Tasks of copying, adding and recall on which a seed of pru_a+plus_out is better, at more of the lengths, "
            "less those on which the LSTM is, above 0 (ours); parameters within 1 %, each cell at its better learning "
            "rate: sign test over seeds.",
            _ABLATION,
            better_on_most_tasks,
            shuffled=(CELL,),
        ),
        Claim(
            5,
            "PRU-style cells solve tasks in fewer steps than the LSTM.",
            Basis.RECONSTRUCTION,
            "Log of steps to solve, LSTM less pru_a and LSTM less pru_a+plus_out, each above 0: sign test over seeds "
            "of the mean over tasks, lengths and widths that any of the cells solves. An unsolved trial counts as its "
            "whole budget. One learning rate a task; the paper's protocol is unknown.",
            _LENGTHS,
            faster,
            shuffled=(CELL,),
        ),
        Claim(
            6,
            "On copying and adding pru_a solves sequences as long as the LSTM does, at equal width.",
            Basis.RECONSTRUCTION,
            "Share of tasks, lengths and widths that a seed solves, pru_a less LSTM, among those that neither all nor "
            f"none of their trials solve, above -{BEHIND} (ours): sign test over seeds. The grid is far shorter than "
            "the literature's.",
            _LENGTHS,
            reaches_as_far,
        ),
        Claim(
            7,
            "A linear read-out of a stored symbol keeps its accuracy at later steps better in pru_a than in an LSTM.",
            Basis.EXTENSION,
            "For the first symbol to copy and the longest delay: accuracy lost since the read-out was fitted, and "
            "accuracy below that of one fitted at the later step, LSTM less pru_a, each above 0: sign test over seeds "
            "of the mean over lengths and widths.",
            _LENGTHS,
            reads_later,
            frames.READOUTS,
            shuffled=(CELL,),
        ),
        Claim(
            8,
            "Composing permutations, which moves what is stored, favours the LSTM over pru_b, and less over pru_a.",
            Basis.EXTENSION,
            "Share of right answers on validation data after a fixed budget, LSTM less pru_b, LSTM less pru_a, and "
            "pru_a less pru_b, each above 0 (ours), at equal width: sign test over seeds of the mean over lengths.",
            ("composition",),
            moves_what_is_stored,
            shuffled=(CELL,),
        ),
        Claim(
            9,
            "Taking recurrent matrices away makes cells worse, in this order: LSTM, pru_c, pru_a, pru_b.",
            Basis.EXTENSION,
            f"Each cell against the next: {_WON}",
            _ABLATION,
            ordered,
            shuffled=(CELL,),
        ),
        Claim(
            10,
            "LSTM, GRU, pru_a and pru_a+plus_out hold about as many bits a parameter.",
            Basis.EXTENSION,
            "Bits of random labels held (Collins' I), the largest over set sizes (1 to 6.5 labels a parameter), a "
            f"parameter: ratio to the LSTM's between {1 - WITHIN:g} and {1 + WITHIN:g}, of cells whose parameters "
            f"are within a factor of {BUDGET_RANGE:g}; sign test over seeds of the geometric mean over such pairs, "
            "two margins a cell (thresholds ours).",
            ("sequence_capacity",),
            alike_by_parameter,
        ),
    ),
)
