"""What the claims of the background are tested on: margins, facts and their thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from scipy.linalg import solve_triangular

from analysis.claims.claim import (
    Evidence,
    Fact,
    ImpossibleError,
    Margin,
    MissingTrialsError,
    Tested,
    paired,
)
from analysis.core import frames
from analysis.questions import (
    capacity,
    cover,
    random_labels,
    reconstruction,
    sequence_capacity,
    sequences,
    trainability,
)

CELLS = ("rnn", "gru", "lstm")
"""Those of Collins et al. that are compared, from no gate to most."""
DRAWS = 60
COVER_MARGIN, GUESSING_MARGIN = 0.05, 0.02
"""How far a share of labellings may lie from Cover's count, and test error at full corruption from guessing. Fewer
labellings or seeds than can tell so little leave a claim undecided."""
LENGTHS = (1, 5, 10)
"""Steps of unrolling that claim 8 compares."""
UNGATED, GATED = ("rnn", "irnn"), ("gru", "lstm")
RECONSTRUCTION_MARGIN = 0.05
"""Of the squared error of a number of variance 1, as the brief of claim 9 has it for the line; for cells it is ours."""
LIKE_BUDGETS = 1.3
"""Claim 14 compares cells where the larger of two has at most so many times the parameters of the smaller."""
USABLE_BITS = {"float32": 32.0, "float64": 64.0}
"""A weight can't carry more than its own bits."""


def two_n_plus_d(inputs: np.ndarray, labels: np.ndarray, direction: np.ndarray) -> tuple[float, int]:
    """Zhang et al.'s network of one hidden layer that tells any labels: its largest error, and its weights.

    c(x) = sum_j w_j relu(<a, x> - b_j), with a bias between any two neighbours <a, x_i>, so that w follows by forward
    substitution. inputs: [n, d].  labels: [n].  direction: [d], a.
    """
    along = inputs @ direction
    order = np.argsort(along)
    sorted_along = along[order]
    first = sorted_along[0] - (sorted_along[-1] - sorted_along[0]) / len(along)
    biases = np.concatenate([[first], (sorted_along[1:] + sorted_along[:-1]) / 2])
    weights = solve_triangular(np.maximum(sorted_along[:, None] - biases, 0), labels[order], lower=True)
    told = np.maximum(along[:, None] - biases, 0) @ weights
    return float(np.abs(told - labels).max()), direction.size + biases.size + weights.size


def constructed(rows: pd.DataFrame) -> Sequence[Evidence]:
    """No trials: the network is built, not trained."""
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
    own = cover.fitted(rows)
    parts: list[Evidence] = []
    shares: dict[int, dict[float, tuple[int, int]]] = {}
    for _, group in own.groupby([cover.WEIGHTS, "data_examples"]):
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
    # with a success and a failure added, so that 0 and 1 have a variance too
    smooth = [((count + 1) / (n + 2), n) for pair in ends for count, n in pair]
    variance = sum(share * (1 - share) / n for share, n in smooth)
    steeper, error = falls[0] - falls[1], float(np.sqrt(variance))
    low, high = stats.norm.interval(0.95, steeper, error)
    least = min(n for of_weights in shares.values() for _, n in of_weights.values())
    p = float(stats.norm.sf(steeper / error))
    what = f"fall of the share from 1.8 to 2.2 points a weight, {many} weights - {few}"
    return [*parts, Tested(what, steeper, float(low), float(high), p, 1 - p, least)]


def _within_share(what: str, count: int, n: int, expected: float, margin: float) -> list[Evidence]:
    """A share equal to what is expected, within a margin: two one-sided exact binomial tests, where they can fail."""
    parts: list[Evidence] = []
    low, high = stats.binomtest(count, n).proportion_ci(method="wilson")
    for bound, (more, less) in ((expected - margin, ("greater", "less")), (expected + margin, ("less", "greater"))):
        if 0 < bound < 1:
            p, against = (float(stats.binomtest(count, n, bound, side).pvalue) for side in (more, less))
            parts.append(Tested(f"{what}, {more} than {bound:.2f}", count / n, low, high, p, against, n, bound))
    return parts


def random_fitted(rows: pd.DataFrame) -> Sequence[Evidence]:
    kind = random_labels.KIND
    own = rows[rows[random_labels.FRACTION].isin([0.0, 1.0])]
    own = own.assign(log_epochs=np.log(random_labels.epochs(own)))
    later = paired(own, "log_epochs", kind, "labels", "none")
    return [
        _all_fitted(own[own[kind].isin(["none", "labels", "gaussian_inputs"])]),
        Margin("log of epochs, random labels / true labels", later),
        Margin("log of 10 - log of epochs, random labels / true labels", np.log(10) - later),
        Margin("log of epochs, random labels / Gaussian", paired(own, "log_epochs", kind, "labels", "gaussian_inputs")),
    ]


def corruption_curve(rows: pd.DataFrame) -> Sequence[Evidence]:
    own = rows[rows[random_labels.KIND].isin(["none", "labels"])]
    own = own.assign(error=random_labels.error(own, "test"))
    by_seed = own.pivot_table(index="seed", columns=random_labels.FRACTION, values="error", dropna=False)
    if not {0.0, 1.0} <= set(by_seed) or by_seed.shape[1] < 3:
        raise MissingTrialsError("no test errors of true labels, of random ones, and of shares between")
    rises = by_seed.diff(axis=1).iloc[:, 1:].min(axis=1).to_numpy(float)
    guessing = 1 - 1 / float(own["class_count"].max())
    return [
        Margin("smallest rise of test error between neighbouring shares", rises),
        *within("test error of random labels - guessing", by_seed[1.0].to_numpy() - guessing, GUESSING_MARGIN),
        _all_fitted(own),
    ]


def _all_fitted(trials: pd.DataFrame) -> Margin:
    """Less than one label in a thousand is missed, by each seed."""
    worst = random_labels.error(trials, "train").groupby(trials["seed"]).max()
    return Margin("0.001 - largest training error", 0.001 - worst.to_numpy(float))


def per_parameter(rows: pd.DataFrame, task: str) -> pd.DataFrame:
    """Trials of one task with `bits`, `ratio` (bits a parameter) and `set_bits`, whatever shuffled fields say."""
    own = rows[rows["data_task"] == task]
    if own.empty:
        raise MissingTrialsError(f"no trial of task {task}")
    own = own.assign(data_examples=own["train_count"])
    held = sequence_capacity.DEFINITIONS[task].bits(own)
    return held.assign(ratio=held["bits"] / held["parameter_count"].astype(float))


def best(held: pd.DataFrame, value: str, by: Sequence[str]) -> pd.DataFrame:
    """A row a group: the largest value over set sizes and ways to train."""
    return held.groupby([*by], sort=True)[value].max().reset_index()


def of_cells(rows: pd.DataFrame, cells: Sequence[str], value: str, size: str = "model_width") -> pd.DataFrame:
    """A row a cell, size and seed: its largest value on random labels, at the length at which cells are compared."""
    held = per_parameter(rows, "random_sequences")
    held = held[held["data_sequence_length"] == sequence_capacity.COMPARED_AT]
    for cell in cells:
        if not (held["model_cell"] == cell).any():
            raise MissingTrialsError(f"no trial with cell {cell}")
    return best(held[held["model_cell"].isin(cells)], value, ["model_cell", size, "seed"])


def linear_in_parameters(rows: pd.DataFrame) -> Sequence[Evidence]:
    held = of_cells(rows, CELLS, "bits", "parameter_count")
    parts: list[Evidence] = []
    for cell, own in held.groupby("model_cell", sort=True):
        slopes = np.array([_slope(of_seed) for _, of_seed in own.groupby("seed")])
        parts += within(f"log-log slope of bits in parameters - 1, {cell}", slopes - 1, 0.1)
    return parts


def within(what: str, difference: np.ndarray, margin: float) -> list[Evidence]:
    """Equal within a margin: two one-sided tests."""
    return [
        Margin(f"{margin:g} + ({what})", margin + difference),
        Margin(f"{margin:g} - ({what})", margin - difference),
    ]


def bits_of_cells(rows: pd.DataFrame) -> Sequence[Evidence]:
    held = of_cells(rows, (*CELLS, "irnn"), "ratio")
    ratio = held.groupby(["model_cell", "seed"])["ratio"].max().unstack()
    parts: list[Evidence] = []
    for cell in CELLS:
        parts.append(Margin(f"bits a parameter - 2, {cell}", ratio.loc[cell].to_numpy() - 2))
        parts.append(Margin(f"6 - bits a parameter, {cell}", 6 - ratio.loc[cell].to_numpy()))
    relu = (ratio.loc["irnn"] / ratio.loc["rnn"]).to_numpy()
    return [*parts, Margin("bits of ReLU / tanh - 0.6", relu - 0.6), Margin("0.9 - bits of ReLU / tanh", 0.9 - relu)]


def gating_order(rows: pd.DataFrame) -> Sequence[Evidence]:
    mean = of_cells(rows, CELLS, "ratio").groupby(["model_cell", "seed"])["ratio"].mean().unstack()
    rnn, gru, lstm = (mean.loc[cell].to_numpy() for cell in CELLS)
    return [
        Margin("bits a parameter, rnn - gru", rnn - gru),
        Margin("bits a parameter, gru - lstm", gru - lstm),
        Margin("0.3 - share that lstm holds less than rnn", 0.3 - (1 - lstm / rnn)),
    ]


def unrolling(rows: pd.DataFrame) -> Sequence[Evidence]:
    """Of the cells and widths that have trials of all LENGTHS."""
    held = per_parameter(rows, "random_sequences")
    networks = ["model_cell", "model_width", "seed"]
    held = best(held[held["model_cell"].isin(CELLS)], "ratio", [*networks, "data_sequence_length"])
    logs = held.assign(log=np.log(held["ratio"])).pivot(index=networks, columns="data_sequence_length", values="log")
    whole = logs.reindex(columns=[*LENGTHS]).dropna()
    if whole.empty:
        raise MissingTrialsError(f"no cell with trials of {', '.join(map(str, LENGTHS))} steps")
    one, five, ten = whole.groupby("seed").mean().to_numpy(float).T
    return [
        Margin("log of bits at 5 steps / bits at 1", five - one),
        Margin("0.1 - change of bits from 5 steps to 10 (share)", 0.1 - np.abs(np.expm1(ten - five))),
    ]


def transformer_plateau(rows: pd.DataFrame) -> Sequence[Evidence]:
    held = per_parameter(rows, "strings")
    held = held[held["model_family"] == "attention"]
    if held.empty:
        raise MissingTrialsError("no trial of strings by an attention network")
    networks = ["model_width", "data_vocabulary", "data_sequence_length", "seed"]
    by_size = held.groupby([*networks, "data_examples"])[["bits", "set_bits", "ratio"]].max().reset_index()
    by_size = by_size.assign(plateau=by_size.groupby(networks)["bits"].transform("max"))
    expected = by_size[["plateau", "set_bits"]].min(axis=1)
    worst = (by_size["bits"] / expected - 1).abs().groupby(by_size["seed"]).max().to_numpy(float)
    alpha = best(held, "ratio", networks).groupby("seed")["ratio"].mean().to_numpy(float)
    return [
        Margin("0.1 - largest deviation from min(H, capacity) (share)", 0.1 - worst),
        Margin("bits a parameter - 3", alpha - 3),
        Margin("4 - bits a parameter", 4 - alpha),
    ]


def numbers_come_back(rows: pd.DataFrame) -> Sequence[Evidence]:
    known = reconstruction.errors(rows).dropna(subset=reconstruction.ERROR)
    units = reconstruction.UNITS
    by_size = known.pivot_table(
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
    known = rows.assign(diverged=trainability.diverged(rows))
    by_cell = known.pivot_table(index="seed", columns=sequences.CELL, values="diverged", aggfunc="mean", dropna=False)
    if missing := [cell for cell in (*UNGATED, *GATED) if cell not in by_cell]:
        raise MissingTrialsError(f"no trial with cell {missing[0]}")
    ahead = by_cell[[*UNGATED]].mean(axis=1, skipna=False) - by_cell[[*GATED]].mean(axis=1, skipna=False)
    return [Margin("share that diverges, without gates - with gates", ahead.to_numpy(float).round(12))]


def solves_longer(rows: pd.DataFrame) -> Sequence[Evidence]:
    """Share of lengths of copying and adding that a seed solves, each gated cell less the tanh RNN of like size."""
    own = rows[rows["data_task"].isin(("copy", "adding")) & rows["model_cell"].isin(CELLS)]
    known = own.assign(solved=sequences.solved(own), size=np.log(own["parameter_count"].astype(float)))
    known = known.dropna(subset="solved")
    plain, *gated = (known[known["model_cell"] == cell] for cell in CELLS)
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
    """Random labels as they are given, and random strings, against the bits of all weights. Raises ImpossibleError."""
    parts = []
    for task, own in rows.groupby("data_task"):
        if task == "strings":
            parts.append(per_parameter(own, str(task))["ratio"])
        elif len(noise := own[own["data_label_scheme"] == "random"]):
            parts.append(_ratio(noise, noise["train_correct_count"], noise["train_count"], noise["class_count"]))
        elif len(noise := own[own["data_noise_kind"] == "labels"]):
            # a wrong label is one of the K - 1 others
            others = noise["class_count"] - 1
            parts.append(_ratio(noise, noise["memorized_count"], noise["label_changed_count"], others))
    if not parts:
        raise MissingTrialsError("no trial of random labels, label noise or random strings")
    ratio = pd.concat(parts)
    share = (ratio / rows.loc[ratio.index, "compute_dtype"].map(USABLE_BITS)).dropna()
    if (share > 1).any():
        found = rows.loc[share.idxmax(), "trial_id"]
        raise ImpossibleError(f"trial {found} holds {share.max():.3g} times the bits of its own weights")
    return [Fact("largest share of the weights' bits that a trial's labels fill", float(share.max()), True, len(share))]


def _ratio(
    rows: pd.DataFrame, right: pd.Series[Any], asked: pd.Series[Any], classes: pd.Series[Any]
) -> pd.Series[float]:
    """Bits of labels a parameter."""
    accuracy = frames.share(right, asked)
    bits = capacity.bits(asked.to_numpy(float), accuracy.to_numpy(float), classes.to_numpy(float))
    return pd.Series(bits, rows.index) / rows["parameter_count"].astype(float)


def _slope(own: pd.DataFrame) -> float:
    known = own[own["bits"] > 0]
    if known["parameter_count"].nunique() < 2:
        return np.nan
    return float(np.polyfit(np.log(known["parameter_count"].astype(float)), np.log(known["bits"]), 1)[0])
