"""Evidence for the claims of the background: margins, facts and their thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from scipy.linalg import solve_triangular

from memsweep.analysis.claims.claim import (
    Evidence,
    Fact,
    ImpossibleError,
    Margin,
    MissingTrialsError,
    Tested,
    paired,
)
from memsweep.analysis.core import frames
from memsweep.analysis.questions import (
    capacity,
    cover,
    random_labels,
    reconstruction,
    sequence_capacity,
    sequences,
    trainability,
)

CELLS = ("rnn", "gru", "lstm")
"""Cells of Collins et al. that are compared, from no gate to most gates."""
DRAWS = 60
COVER_MARGIN, GUESSING_MARGIN = 0.05, 0.02
"""Largest allowed distance of a share of labellings from Cover's count, and of test error at full corruption from
guessing. With too few labellings or seeds to resolve it, a claim stays undecided."""
LENGTHS = (1, 5, 10)
"""Steps of unrolling that claim 8 compares."""
UNGATED, GATED = ("rnn", "irnn"), ("gru", "lstm")
RECONSTRUCTION_MARGIN = 0.05
"""Margin of the squared error of a number of variance 1: for the line from the brief of claim 9, for cells ours."""
LIKE_BUDGETS = 1.3
"""Claim 14 compares cells where the larger cell has at most this many times the parameters of the smaller."""
USABLE_BITS = {"float32": 32.0, "float64": 64.0}
"""Bits of a weight by number format: a weight can't carry more."""


def two_n_plus_d(inputs: np.ndarray, labels: np.ndarray, direction: np.ndarray) -> tuple[float, int]:
    """Returns largest error and number of weights of Zhang et al.'s one-hidden-layer network that fits any labels.

    c(x) = sum_j w_j relu(<a, x> - b_j), with a bias between any two neighbours <a, x_i>, so that w follows by forward
    substitution.
    inputs: [n, d].  labels: [n].  direction: [d], a.
    """
    along = inputs @ direction
    order = np.argsort(along)
    sorted_along = along[order]
    first = sorted_along[0] - (sorted_along[-1] - sorted_along[0]) / len(along)
    biases = np.concatenate([[first], (sorted_along[1:] + sorted_along[:-1]) / 2])
    weights = solve_triangular(np.maximum(sorted_along[:, None] - biases, 0), labels[order], lower=True)
    outputs = np.maximum(along[:, None] - biases, 0) @ weights
    return float(np.abs(outputs - labels).max()), direction.size + biases.size + weights.size


def constructed(rows: pd.DataFrame) -> Sequence[Evidence]:
    """Returns errors and numbers of weights of constructed networks; needs no trials."""
    errors, counts_hold = [], True
    for draw in range(DRAWS):
        generator, inputs, worst = np.random.default_rng([0, draw]), (1, 20, 100)[draw % 3], 0.0
        for n in (100, 500, 2000):
            x, y, a = generator.normal(size=(n, inputs)), generator.normal(size=n), generator.normal(size=inputs)
            error, weights = two_n_plus_d(x, y, a)
            worst, counts_hold = max(worst, error), counts_hold and weights == 2 * n + inputs
        errors.append(worst)
    return [
        Fact("networks with 2n + d weights (share)", float(counts_hold), counts_hold, 3 * DRAWS),
        Margin("1e-5 - largest error of a label, n up to 2000, float64", 1e-5 - np.array(errors)),
    ]


def cover_transition(rows: pd.DataFrame) -> Sequence[Evidence]:
    """Returns tests of the share of labellings fitted against Cover's count, and of its fall by number of weights."""
    fits = cover.fitted(rows)
    parts: list[Evidence] = []
    shares: dict[int, dict[float, tuple[int, int]]] = {}
    for _, group in fits.groupby([cover.WEIGHTS, "data_examples"]):
        weights, points = (int(group[name].iloc[0]) for name in (cover.WEIGHTS, "data_examples"))
        count, n = int(group["fitted"].sum()), int(group["fitted"].count())
        expected = float(cover.separable(np.array(points), np.array(weights)))
        name = f"share of labellings fitted, {weights} weights, {points} points"
        parts += _within_share(name, count, n, expected, COVER_MARGIN)
        shares.setdefault(weights, {})[round(points / weights, 1)] = (count, n)
    few, many = min(shares), max(shares)
    if few == many or not {1.8, 2.2} <= set(shares[few]) & set(shares[many]):
        raise MissingTrialsError("no labellings of 1.8 and 2.2 points a weight with two numbers of weights")
    ends = [(of_weights[1.8], of_weights[2.2]) for of_weights in (shares[many], shares[few])]
    falls = [more[0] / more[1] - less[0] / less[1] for more, less in ends]
    # with a success and a failure added, so that shares of 0 and 1 have a variance too
    smooth = [((count + 1) / (n + 2), n) for pair in ends for count, n in pair]
    variance = sum(share * (1 - share) / n for share, n in smooth)
    steeper, error = falls[0] - falls[1], float(np.sqrt(variance))
    low, high = stats.norm.interval(0.95, steeper, error)
    least = min(n for of_weights in shares.values() for _, n in of_weights.values())
    p = float(stats.norm.sf(steeper / error))
    what = f"fall of the share from 1.8 to 2.2 points a weight, {many} weights - {few}"
    return [*parts, Tested(what, steeper, float(low), float(high), p, 1 - p, least)]


def _within_share(what: str, count: int, n: int, expected: float, margin: float) -> list[Evidence]:
    """Returns tests that a share equals `expected` within a margin: two one-sided exact binomial tests.

    A test whose bound lies outside (0, 1) can't fail and is left out.
    """
    parts: list[Evidence] = []
    low, high = stats.binomtest(count, n).proportion_ci(method="wilson")
    for bound, (more, less) in ((expected - margin, ("greater", "less")), (expected + margin, ("less", "greater"))):
        if 0 < bound < 1:
            p, against = (float(stats.binomtest(count, n, bound, side).pvalue) for side in (more, less))
            parts.append(Tested(f"{what}, {more} than {bound:.2f}", count / n, low, high, p, against, n, bound))
    return parts


def random_fitted(rows: pd.DataFrame) -> Sequence[Evidence]:
    """Returns how much later random labels are fitted than true labels and than Gaussian inputs."""
    kind = random_labels.KIND
    trials = rows[rows[random_labels.FRACTION].isin([0.0, 1.0])]
    trials = trials.assign(log_epochs=np.log(random_labels.epochs(trials)))
    later = paired(trials, "log_epochs", kind, "labels", "none")
    return [
        _all_fitted(trials[trials[kind].isin(["none", "labels", "gaussian_inputs"])]),
        Margin("log of epochs, random labels / true labels", later),
        Margin("log of 10 - log of epochs, random labels / true labels", np.log(10) - later),
        Margin(
            "log of epochs, random labels / Gaussian", paired(trials, "log_epochs", kind, "labels", "gaussian_inputs")
        ),
    ]


def corruption_curve(rows: pd.DataFrame) -> Sequence[Evidence]:
    """Returns the rise of test error with the share of random labels, and its distance from guessing at share 1."""
    trials = rows[rows[random_labels.KIND].isin(["none", "labels"])]
    trials = trials.assign(error=random_labels.error(trials, "test"))
    by_seed = trials.pivot_table(index="seed", columns=random_labels.FRACTION, values="error", dropna=False)
    if not {0.0, 1.0} <= set(by_seed) or by_seed.shape[1] < 3:
        raise MissingTrialsError("no test errors of true labels, of random ones, and of shares between")
    rises = by_seed.diff(axis=1).iloc[:, 1:].min(axis=1).to_numpy(float)
    guessing = 1 - 1 / float(trials["class_count"].max())
    return [
        Margin("smallest rise of test error between neighbouring shares", rises),
        *within("test error of random labels - guessing", by_seed[1.0].to_numpy() - guessing, GUESSING_MARGIN),
        _all_fitted(trials),
    ]


def _all_fitted(trials: pd.DataFrame) -> Margin:
    """Returns a margin that each seed misses less than one label in a thousand."""
    worst = random_labels.error(trials, "train").groupby(trials["seed"]).max()
    return Margin("0.001 - largest training error", 0.001 - worst.to_numpy(float))


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


def within(what: str, difference: np.ndarray, margin: float) -> list[Evidence]:
    """Returns margins that a difference is 0 within a margin: two one-sided tests."""
    return [
        Margin(f"{margin:g} + ({what})", margin + difference),
        Margin(f"{margin:g} - ({what})", margin - difference),
    ]


def bits_of_cells(rows: pd.DataFrame) -> Sequence[Evidence]:
    """Returns bits a parameter of each cell against 2 and 6, and the ratio of ReLU to tanh against 0.6 and 0.9."""
    ratios = of_cells(rows, (*CELLS, "irnn"), "ratio")
    ratio = ratios.groupby(["model_cell", "seed"])["ratio"].max().unstack()
    parts: list[Evidence] = []
    for cell in CELLS:
        parts.append(Margin(f"bits a parameter - 2, {cell}", ratio.loc[cell].to_numpy() - 2))
        parts.append(Margin(f"6 - bits a parameter, {cell}", 6 - ratio.loc[cell].to_numpy()))
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
        raise ImpossibleError(f"trial {trial_id} holds {share.max():.3g} times the bits of its own weights")
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
