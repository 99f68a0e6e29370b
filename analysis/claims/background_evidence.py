"""Evidence for the claims of the background on networks of sequences: margins, facts and their thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from memsweep.analysis.claims.claim import (
    Evidence,
    Fact,
    ImpossibleError,
    Margin,
    MissingTrialsError,
    within,
)
from memsweep.analysis.core import frames
from memsweep.analysis.questions import (
    capacity,
    reconstruction,
    sequence_capacity,
    sequences,
    trainability,
)

CELLS = ("rnn", "gru", "lstm")
"""Cells of Collins et al. that are compared, from no gate to most gates."""
LENGTHS = (1, 5, 10)
"""Steps of unrolling that claim 8 compares."""
LEAST_BITS, MOST_BITS = 2.0, 6.0
"""Bits a parameter of claim 6: sets must offer more than the upper bound, or nothing could exceed it."""
UNGATED, GATED = ("rnn", "irnn"), ("gru", "lstm")
RECONSTRUCTION_MARGIN = 0.05
"""Margin of the squared error of a number of variance 1: for the line from the brief of claim 9, for cells ours."""
LIKE_BUDGETS = 1.3
"""Claim 14 compares cells where the larger cell has at most this many times the parameters of the smaller."""
USABLE_BITS = {"float32": 32.0, "float64": 64.0}
"""Bits of a weight by number format: a weight can't carry more."""


def per_parameter(rows: pd.DataFrame, task: str) -> pd.DataFrame:
    """Returns trials of one task with `bits`, `ratio` (bits a parameter) and `set_bits`.

    The set size comes from the count of training examples, which is not shuffled.
    Raises MissingTrialsError where the task has no trial.
    """
    trials = rows[rows["data_task"] == task]
    if trials.empty:
        raise MissingTrialsError(f"no trial of task {task}")
    trials = trials.assign(data_examples=trials["train_count"])
    with_bits = sequence_capacity.DEFINITIONS[task].bits(trials)
    return with_bits.assign(ratio=with_bits["bits"] / with_bits["parameter_count"].astype(float))


def best(trials: pd.DataFrame, value: str, by: Sequence[str]) -> pd.DataFrame:
    """Returns a row a group: the largest value over set sizes and ways to train."""
    return trials.groupby([*by], sort=True)[value].max().reset_index()


def of_cells(rows: pd.DataFrame, cells: Sequence[str], value: str, size: str = "model_width") -> pd.DataFrame:
    """Returns a row a cell, size and seed: its largest value on random labels of COMPARED_AT steps.

    Raises MissingTrialsError where a cell has no trial.
    """
    trials = per_parameter(rows, "random_sequences")
    trials = trials[trials["data_sequence_length"] == sequence_capacity.COMPARED_AT]
    for cell in cells:
        if not (trials["model_cell"] == cell).any():
            raise MissingTrialsError(f"no trial with cell {cell}")
    return best(trials[trials["model_cell"].isin(cells)], value, ["model_cell", size, "seed"])


def linear_in_parameters(rows: pd.DataFrame) -> Sequence[Evidence]:
    """Returns for each cell whether the log-log slope of bits in parameters lies within 0.1 of 1."""
    bits = of_cells(rows, CELLS, "bits", "parameter_count")
    parts: list[Evidence] = []
    for cell, of_cell in bits.groupby("model_cell", sort=True):
        slopes = np.array([_slope(of_seed) for _, of_seed in of_cell.groupby("seed")])
        parts += within(f"log-log slope of bits in parameters - 1, {cell}", slopes - 1, 0.1)
    return parts


def bits_of_cells(rows: pd.DataFrame) -> Sequence[Evidence]:
    """Returns bits a parameter of each cell against LEAST_BITS and MOST_BITS, and the ratio of ReLU to tanh.

    Raises MissingTrialsError where a cell's sets offer less than MOST_BITS labels a parameter.
    """
    offered = of_cells(rows.assign(train_correct_count=rows["train_count"]), (*CELLS, "irnn"), "ratio")
    if (most := offered.groupby("model_cell")["ratio"].max().min()) < MOST_BITS:
        raise MissingTrialsError(f"sets of at most {most:.3g} labels a parameter; the claim requires {MOST_BITS:g}")
    ratios = of_cells(rows, (*CELLS, "irnn"), "ratio")
    ratio = ratios.groupby(["model_cell", "seed"])["ratio"].max().unstack()
    parts: list[Evidence] = []
    for cell in CELLS:
        parts.append(Margin(f"bits a parameter - {LEAST_BITS:g}, {cell}", ratio.loc[cell].to_numpy() - LEAST_BITS))
        parts.append(Margin(f"{MOST_BITS:g} - bits a parameter, {cell}", MOST_BITS - ratio.loc[cell].to_numpy()))
    relu = (ratio.loc["irnn"] / ratio.loc["rnn"]).to_numpy()
    return [*parts, Margin("bits of ReLU / tanh - 0.6", relu - 0.6), Margin("0.9 - bits of ReLU / tanh", 0.9 - relu)]


def gating_order(rows: pd.DataFrame) -> Sequence[Evidence]:
    """Returns differences of bits a parameter between cells, from fewer to more gates, by seed."""
    mean = of_cells(rows, CELLS, "ratio").groupby(["model_cell", "seed"])["ratio"].mean().unstack()
    rnn, gru, lstm = (mean.loc[cell].to_numpy() for cell in CELLS)
    return [
        Margin("bits a parameter, rnn - gru", rnn - gru),
        Margin("bits a parameter, gru - lstm", gru - lstm),
        Margin("0.3 - share that lstm holds less than rnn", 0.3 - (1 - lstm / rnn)),
    ]


def unrolling(rows: pd.DataFrame) -> Sequence[Evidence]:
    """Returns changes of bits a parameter with steps, over cells and widths that have trials of all LENGTHS."""
    trials = per_parameter(rows, "random_sequences")
    networks = ["model_cell", "model_width", "seed"]
    trials = best(trials[trials["model_cell"].isin(CELLS)], "ratio", [*networks, "data_sequence_length"])
    logs = trials.assign(log=np.log(trials["ratio"])).pivot(
        index=networks, columns="data_sequence_length", values="log"
    )
    whole = logs.reindex(columns=[*LENGTHS]).dropna()
    if whole.empty:
        raise MissingTrialsError(f"no cell with trials of {', '.join(map(str, LENGTHS))} steps")
    first, five, ten = whole.groupby("seed").mean().to_numpy(float).T
    return [
        Margin("log of bits at 5 steps / bits at 1", five - first),
        Margin("0.1 - change of bits from 5 steps to 10 (share)", 0.1 - np.abs(np.expm1(ten - five))),
    ]


def transformer_plateau(rows: pd.DataFrame) -> Sequence[Evidence]:
    """Returns the deviation of bits from min(bits of the set, capacity), and bits a parameter against 3 and 4."""
    trials = per_parameter(rows, "strings")
    trials = trials[trials["model_family"] == "attention"]
    if trials.empty:
        raise MissingTrialsError("no trial of strings by an attention network")
    networks = ["model_width", "data_vocabulary", "data_sequence_length", "seed"]
    by_size = trials.groupby([*networks, "data_examples"])[["bits", "set_bits", "ratio"]].max().reset_index()
    by_size = by_size.assign(plateau=by_size.groupby(networks)["bits"].transform("max"))
    expected = by_size[["plateau", "set_bits"]].min(axis=1)
    worst = (by_size["bits"] / expected - 1).abs().groupby(by_size["seed"]).max().to_numpy(float)
    alpha = best(trials, "ratio", networks).groupby("seed")["ratio"].mean().to_numpy(float)
    return [
        Margin("0.1 - largest deviation from min(H, capacity) (share)", 0.1 - worst),
        Margin("bits a parameter - 3", alpha - 3),
        Margin("4 - bits a parameter", 4 - alpha),
    ]


def numbers_come_back(rows: pd.DataFrame) -> Sequence[Evidence]:
    """Returns squared errors of reconstruction with enough units, and with fewer units against the best linear code."""
    errors = reconstruction.errors(rows).dropna(subset=reconstruction.ERROR)
    units = reconstruction.UNITS
    by_size = errors.pivot_table(
        index="seed", columns=[sequences.CELL, units], values=reconstruction.ERROR, dropna=False
    )
    sizes = by_size.columns.get_level_values(units)
    if not ((sizes < 1).any() and (sizes >= 1).any()):
        raise MissingTrialsError("no cells with both fewer and more units than numbers")
    enough, fewer = by_size.loc[:, sizes >= 1], by_size.loc[:, sizes < 1]
    off = fewer - reconstruction.lost(sizes[sizes < 1].to_numpy(float))
    by_units = fewer.T.groupby(level=units)
    spread = (by_units.max() - by_units.min()).max()
    return [
        Margin(
            f"{reconstruction.SOLVED:g} - largest error with as many units or more",
            reconstruction.SOLVED - enough.max(axis=1, skipna=False).to_numpy(),
        ),
        Margin(
            f"{RECONSTRUCTION_MARGIN:g} - largest deviation from 1 - n_h / n_in with fewer",
            RECONSTRUCTION_MARGIN - off.abs().max(axis=1, skipna=False).to_numpy(),
        ),
        Margin(
            f"{RECONSTRUCTION_MARGIN:g} - largest difference of two cells with as few units",
            RECONSTRUCTION_MARGIN - spread.to_numpy(),
        ),
    ]


def gates_hold(rows: pd.DataFrame) -> Sequence[Evidence]:
    """Returns the share of settings that diverge, cells without gates less cells with gates, by seed."""
    trials = rows.assign(diverged=trainability.diverged(rows))
    by_cell = trials.pivot_table(index="seed", columns=sequences.CELL, values="diverged", aggfunc="mean", dropna=False)
    if missing := [cell for cell in (*UNGATED, *GATED) if cell not in by_cell]:
        raise MissingTrialsError(f"no trial with cell {missing[0]}")
    ahead = by_cell[[*UNGATED]].mean(axis=1, skipna=False) - by_cell[[*GATED]].mean(axis=1, skipna=False)
    return [Margin("share that diverges, without gates - with gates", ahead.to_numpy(float).round(12))]


def solves_longer(rows: pd.DataFrame) -> Sequence[Evidence]:
    """Returns the share of copy and adding lengths that a seed solves, gated cells less the tanh RNN of like size."""
    trials_of_cells = rows[rows["data_task"].isin(("copy", "adding")) & rows["model_cell"].isin(CELLS)]
    decided = trials_of_cells.assign(
        solved=sequences.solved(trials_of_cells), size=np.log(trials_of_cells["parameter_count"].astype(float))
    )
    decided = decided.dropna(subset="solved")
    plain, *gated = (decided[decided["model_cell"] == cell] for cell in CELLS)
    parts: list[Evidence] = []
    for cell, trials in zip(CELLS[1:], gated, strict=True):
        pairs = trials.merge(plain, on=["seed", "data_task", "data_sequence_length"], suffixes=("", "_plain"))
        pairs = pairs[(pairs["size"] - pairs["size_plain"]).abs() <= np.log(LIKE_BUDGETS)]
        if pairs.empty:
            raise MissingTrialsError(f"no pair of {cell} and {CELLS[0]} with like parameters that copies or adds")
        ahead = (pairs["solved"] - pairs["solved_plain"]).groupby(pairs["seed"]).mean().to_numpy(float)
        parts.append(Margin(f"share of lengths solved, {cell} - {CELLS[0]}", ahead))
    return parts


def within_budget(rows: pd.DataFrame) -> Sequence[Evidence]:
    """Returns the largest share of the bits of all weights that random labels or random strings fill.

    Raises ImpossibleError where a share exceeds 1, and MissingTrialsError where there are no trials.
    """
    parts = []
    for task, of_task in rows.groupby("data_task"):
        if task == "strings":
            parts.append(per_parameter(of_task, str(task))["ratio"])
        elif len(noise := of_task[of_task["data_label_scheme"] == "random"]):
            parts.append(_ratio(noise, noise["train_correct_count"], noise["train_count"], noise["class_count"]))
        elif len(noise := of_task[of_task["data_noise_kind"] == "labels"]):
            # a wrong label takes one of K - 1 values
            others = noise["class_count"] - 1
            parts.append(_ratio(noise, noise["memorized_count"], noise["label_changed_count"], others))
    if not parts:
        raise MissingTrialsError("no trial of random labels, label noise or random strings")
    ratio = pd.concat(parts)
    share = (ratio / rows.loc[ratio.index, "compute_dtype"].map(USABLE_BITS)).dropna()
    if (share > 1).any():
        trial_id = rows.loc[share.idxmax(), "trial_id"]
        raise ImpossibleError(f"trial {trial_id} holds {share.max():.3g} times the bits of its weights")
    return [Fact("largest share of the weights' bits that a trial's labels fill", float(share.max()), True, len(share))]


def _ratio(
    rows: pd.DataFrame, right: pd.Series[Any], count: pd.Series[Any], classes: pd.Series[Any]
) -> pd.Series[float]:
    """Returns bits of labels a parameter."""
    accuracy = frames.share(right, count)
    bits = capacity.bits(count.to_numpy(float), accuracy.to_numpy(float), classes.to_numpy(float))
    return pd.Series(bits, rows.index) / rows["parameter_count"].astype(float)


def _slope(rows: pd.DataFrame) -> float:
    positive = rows[rows["bits"] > 0]
    if positive["parameter_count"].nunique() < 2:
        return np.nan
    return float(np.polyfit(np.log(positive["parameter_count"].astype(float)), np.log(positive["bits"]), 1)[0])
