"""Claims of Yun, Sra and Jadbabaie (2019), Small ReLU networks are powerful memorizers."""

from __future__ import annotations

import numpy as np
import pandas as pd

from memsweep.analysis.claims.claim import (
    Basis,
    Claim,
    Evidence,
    Fact,
    ImpossibleError,
    Margin,
    MissingTrialsError,
    Paper,
    within,
)
from memsweep.analysis.core import frames
from memsweep.analysis.questions import construction, largest_set, memorizer_width, sgd_near_memorizer

SLOPES = {2: (2.0, 0.25), 1: (1.0, 0.15)}
"""Hidden layers -> claimed slope of log N* against log d, and its tolerance. A network whose N* is proportional to its
parameters has a smaller slope at small widths, that of the parameters: it lies within the claim too."""
COLLAPSE_FROM = 1000
"""Examples from which on single precision loses labels (our derivation)."""


def sufficiency(trials: pd.DataFrame) -> list[Evidence]:
    """Returns the labels lost, the error of the loss and the surplus units of networks constructed in float64."""
    rows = construction.with_measures(trials[trials["compute_dtype"] == "float64"])
    if rows.empty:
        raise MissingTrialsError("no trial in float64")
    examples, classes = rows["data_examples"].to_numpy(float), rows["data_classes"].to_numpy(float)
    allowed = np.maximum(1e-9, 1e-13 * examples**2)
    surplus = rows["model_width"] - np.maximum(2 * np.ceil(np.sqrt(examples)) + 2, 4 * classes)
    lost, error = 1 - rows["held_share"], rows["error"]
    return [
        Fact("largest share of labels that are lost", float(lost.max()), bool((lost == 0).all()), len(rows)),
        Fact(f"largest {construction.ERROR}", float(error.max()), bool((error <= allowed).all()), len(rows)),
        Fact("units a layer beyond those that suffice", float(surplus.max()), bool((surplus <= 0).all()), len(rows)),
    ]


def impossibility(trials: pd.DataFrame) -> list[Evidence]:
    """Returns the fact that no network with too few linear pieces fits all alternating labels.

    Raises ImpossibleError where a network does.
    """
    rows = trials[(trials["data_task"] == "alternating") & (trials["model_activation"] == "relu")]
    pieces = (rows["model_width"].astype(float) + 1) ** rows["model_depth"].astype(float)
    beyond = rows[pieces < rows["data_examples"] - 1]
    if beyond.empty:
        raise MissingTrialsError("no trial on alternating labels has fewer linear pieces than they need")
    fitted = beyond[(beyond["train_correct_count"] == beyond["train_count"]) | beyond["fitted_step"].notna()]
    if len(fitted):
        raise ImpossibleError(
            f"trials {', '.join(fitted['trial_id'])} hold more alternations than linear pieces allow."
        )
    return [Fact("networks with too few linear pieces that fit all labels", 0.0, True, len(beyond))]


def width_law(trials: pd.DataFrame) -> list[Evidence]:
    """Returns slopes of log N* against log d, less those claimed, for one and two hidden layers."""
    fitted = memorizer_width.largest(trials)
    fitted["fitted_size"] = fitted["fitted_size"].where(fitted["at_least"] == 0)
    evidence: list[Evidence] = []
    for depth, (claimed, tolerance) in SLOPES.items():
        networks = fitted[(fitted["task"] == "gaussian") & (fitted["depth"] == depth)]
        slope = _slopes(networks, depth)
        parameters = networks.groupby("width")["parameters"].max().to_frame().T
        least = min(claimed, float(_log_slopes(parameters)[0]))
        what = f"slope of log N* against log d, {depth} hidden layer{'s' * (depth > 1)}"
        evidence += [
            Margin(what, slope, least - tolerance),
            Margin(f"minus the {what}", -slope, -claimed - tolerance),
        ]
    return evidence


def optimisation_gap(trials: pd.DataFrame) -> list[Evidence]:
    """Returns log2 of N* over d^2/4 for two hidden layers, on random and on alternating labels."""
    fitted = memorizer_width.largest(trials)
    two = fitted[(fitted["depth"] == 2)].assign(doublings=lambda f: np.log2(f["fitted_size"] / (f["width"] ** 2 / 4)))
    by_task = two.pivot_table(index="seed", columns="task", values="doublings")
    for task in ("gaussian", "alternating"):
        if task not in by_task:
            raise MissingTrialsError(f"no network with two hidden layers on task {task}")
    what = "log2 of N* over d^2/4, mean over widths"
    return [
        Margin(f"{what}, random labels", by_task["gaussian"].to_numpy()),
        Margin(f"minus {what}, alternating labels", -by_task["alternating"].to_numpy()),
    ]


def parameters_not_depth(trials: pd.DataFrame) -> list[Evidence]:
    """Returns the ratio of largest to smallest N* over depths with equal numbers of hidden weights."""
    fitted = memorizer_width.largest(trials)
    equal = fitted[memorizer_width.have_equal_weights(fitted)]
    by_depth = equal.pivot_table(index="seed", columns="depth", values="fitted_size", dropna=False)
    if by_depth.shape[1] < 2:
        raise MissingTrialsError("no two depths with as many hidden weights")
    ratio = by_depth.max(axis=1, skipna=False) / by_depth.min(axis=1, skipna=False)
    return [Margin("minus the ratio of largest to smallest N* over depths", -ratio.to_numpy(), -2.0)]


def precision(trials: pd.DataFrame) -> list[Evidence]:
    """Returns the smallest fall of labels held from a size to the next, in float32, from COLLAPSE_FROM examples on."""
    rows = construction.with_measures(trials)
    rows = rows[(rows["compute_dtype"] == "float32") & (rows["data_examples"] >= COLLAPSE_FROM)]
    shares = rows.pivot_table(
        index=["seed", "data_classes"], columns="data_examples", values="held_share", dropna=False
    )
    if shares.shape[1] < 2:
        raise MissingTrialsError(f"no two sizes of {COLLAPSE_FROM} examples or more in float32")
    fall = -shares.diff(axis=1).iloc[:, 1:].max(axis=1, skipna=False)
    return [Margin("smallest fall of labels held from a size to the next", fall.groupby("seed").min().to_numpy())]


def classes_add(trials: pd.DataFrame) -> list[Evidence]:
    """Returns slopes of log N* against log K, for two hidden layers, and for three less two."""
    two, three = (_log_slopes(_largest(trials, "classes", "classes", 3, depth)) for depth in (2, 3))
    what = "slope of log N* against log K"
    return [
        Margin(f"minus the {what}, two hidden layers", -two, 0.5),
        Margin(f"{what}, three hidden layers less two", three - two),
    ]


def input_dimension(trials: pd.DataFrame) -> list[Evidence]:
    """Returns by how much the slope of log N* against log D differs from 1."""
    slope = _log_slopes(_largest(trials, "dimension", "dimension", 3))
    return within("slope of log N* against log D, less 1", slope - 1, 0.2)


def nonlinearity(trials: pd.DataFrame) -> list[Evidence]:
    """Returns log2 of the ratios of N* of hardtanh to ReLU and leaky ReLU."""
    sets = _largest(trials, "activation", "activation", 3)
    most = SLOPES[2][0] + SLOPES[2][1]  # of two layers of twice the units
    evidence: list[Evidence] = []
    for other in ("relu", "leaky_relu"):
        doublings = np.log2((sets["hardtanh"] / sets[other]).to_numpy(float))
        what = f"log2 of the ratio of N*, hardtanh to {other}"
        evidence += [
            Margin(what, doublings, ideal=2.0),
            Margin(f"{most:g} less {what}", most - doublings, ideal=most - 2.0),
        ]
    return evidence


def _largest(trials: pd.DataFrame, block: str, column: str, settings: int, depth: int = 0) -> pd.DataFrame:
    """Returns N* in a block of the sweep, [seeds, values of the column]; NaN where it lies beyond the sizes."""
    sets = largest_set.largest(trials)
    sets = sets[(sets["block"] == block) & ((sets["depth"] == depth) | (depth == 0))]
    table = sets.pivot_table(index="seed", columns=column, values="fitted_size", aggfunc="first", dropna=False)
    if table.notna().any().sum() < settings:
        raise MissingTrialsError(f"fewer than {settings} values of {column} with a largest set within the sizes")
    return table


def descent(curves: pd.DataFrame) -> list[Evidence]:
    """Returns slopes of losses against the perturbation, and how far SGD descends and moves."""
    seeds = sgd_near_memorizer.of_seeds(curves)
    columns = ["start", "soon", "least", "farthest"]
    tables = [seeds.pivot_table(index="seed", columns="perturbation", values=name, dropna=False) for name in columns]
    if min(len(table.columns) for table in tables) < 3:
        raise MissingTrialsError("fewer than three perturbations with trained and untrained networks")
    start, soon, least, farthest = tables
    first, last = (_log_slopes(table) for table in (start, least))
    left = (soon / start).max(axis=1, skipna=False)
    what = "slope of log loss against log perturbation"
    return [
        Margin(f"{what}, before training", first, 1.8),
        Margin(f"minus the {what}, before training", -first, -2.2),
        Margin("minus the largest share of the first loss that two epochs leave", -left.to_numpy(), -0.1),
        Margin(
            "minus the largest distance, over the perturbation's",
            -farthest.max(axis=1, skipna=False).to_numpy(),
            -2.0,
        ),
        Margin(f"{what}, least of the run", last, 3.0),
    ]


def _log_slopes(table: pd.DataFrame) -> np.ndarray:
    """Returns [S], least-squares slope of each row's log against the log of its columns; NaN if a value is missing."""
    x = np.log(table.columns.to_numpy(float))
    slopes: np.ndarray = np.log(table.to_numpy(float)) @ (x - x.mean()) / np.square(x - x.mean()).sum()
    return slopes


def _slopes(fitted: pd.DataFrame, depth: int) -> np.ndarray:
    """Returns [S], slope of each seed over all widths; NaN where a width has no result."""
    sizes = fitted.pivot_table(index="seed", columns="width", values="fitted_size", dropna=False)
    if sizes.shape[1] < 3:
        raise MissingTrialsError(f"fewer than three widths with {depth} hidden layers on random labels")
    return _log_slopes(sizes)


_SEARCHED = ("data_examples",)
"""What `memorizer_width` chooses by bisection. The sizes that were tried hold the result: on random labels nearly all
lie above d^2/4, so that any of them, fitted by chance, passes claim 4. Its controls exchange whole bisections."""

PAPER = Paper(
    "yun2019",
    "Yun, Sra and Jadbabaie (2019), Small ReLU networks are powerful memorizers",
    "Only the abstract and the opening of its first section could be read: theorems follow secondary sources, proofs "
    "and bounds are derived anew, and questions about trained networks are ours.",
    (
        Claim(
            1,
            "Two hidden ReLU layers of about 2 sqrt(N) units, and 4K more units for K classes, hold any N points.",
            Basis.RECONSTRUCTION,
            "Without a step of training, constructed weights in float64 predict every label, their mean loss is that "
            "of one-hot outputs to max(1e-9, 1e-13 N^2) nats, and no layer has more than max(2 ceil(sqrt N) + 2, 4K) "
            "units (thresholds ours); without exception, over sizes, classes and seeds.",
            ("construction",),
            sufficiency,
            is_check=True,
        ),
        Claim(
            2,
            "A network with fewer linear pieces than alternating labels on a line need cannot hold them.",
            Basis.RECONSTRUCTION,
            "No trained ReLU network of d units in each of l hidden layers with (d + 1)^l < N - 1 fits every label; "
            "one that does is an error of the program.",
            ("memorizer_width",),
            impossibility,
            is_check=True,
        ),
        Claim(
            3,
            "Trained on random labels, what a network fits grows like d^2 with two hidden layers and like d with one.",
            Basis.EXTENSION,
            "A seed's slope of log N* against log d, N* the largest set fitted to every label: with two hidden "
            "layers at most 2.25 and at least 0.25 below the slope of the parameters over the same widths (1.65 "
            "here: capacity proportional to parameters lies within the claim), with one hidden layer the same with "
            "1.15 and 0.15 (tolerances ours); one that fits the largest set it was given has no result. Four "
            "one-sided sign tests over seeds.",
            ("memorizer_width",),
            width_law,
            shuffled=("model_width", "parameter_count"),
            searched=_SEARCHED,
        ),
        Claim(
            4,
            "Trained networks fit more random labels than the construction holds of any set, and fewer alternating.",
            Basis.EXTENSION,
            "A seed's mean over widths of log2(N* / (d^2/4)), two hidden layers: above 0 on random labels, below 0 on "
            "alternating ones (ours); sign tests over seeds.",
            ("memorizer_width",),
            optimisation_gap,
            shuffled=("data_task", "data_label_scheme", "data_input_dim", "data_classes"),
            searched=_SEARCHED,
        ),
        Claim(
            5,
            "What a network holds depends on its hidden weights and hardly on its depth.",
            Basis.EXTENSION,
            "A seed's largest N* is less than twice its smallest over two to five hidden layers with as many weights "
            "between them to 5 %, on random labels (factor ours); sign test over seeds. The paper bounds N by the "
            "order of the weights for every fixed depth. Exchanged depths would be alike, so no shuffles.",
            ("memorizer_width",),
            parameters_not_depth,
        ),
        Claim(
            6,
            "With a fourth layer the number of classes adds to the units that are needed instead of multiplying them.",
            Basis.RECONSTRUCTION,
            "Slope of the log of a seed's N* against log K, N* the largest set of random labels that 16 units a layer "
            "fit, squared loss: below -0.5 with two hidden layers, half of what d1 d2 ~ N K gives at fixed widths, and "
            "larger with three (ours; what training holds is no consequence of the theorem, and the converse is open); "
            "a seed that fits the largest set or none has no result; sign tests over seeds.",
            ("largest_set",),
            classes_add,
            shuffled=("data_classes", "model_depth"),
            searched=_SEARCHED,
        ),
        Claim(
            7,
            "For points in general position one hidden layer needs about N / D units.",
            Basis.RECONSTRUCTION,
            "Slope of the log of a seed's N* against log D, 16 to 128 inputs, within 0.2 of 1, N* the largest set of "
            "random labels that 4 units fit (tolerance ours; the parameters' slope, 0.92, lies within it); a seed that "
            "fits the largest set or none has no result; two one-sided sign tests over seeds.",
            ("largest_set",),
            input_dimension,
            shuffled=("data_input_dim",),
            searched=_SEARCHED,
        ),
        Claim(
            8,
            "Hard-tanh needs half as many units a layer as ReLU and leaky ReLU, by construction.",
            Basis.EXTENSION,
            "Ratio of a seed's N*, the largest set of random labels that two hidden layers of 12 units fit, hard-tanh "
            "to ReLU and leaky ReLU: above 1, and below 4.76, since N* ~ d^2 makes it 4 for half as many units, and "
            "d^2.25 (the largest slope of claim 3) makes it 4.76 (ours); a seed that fits the largest set or none has "
            "no result; sign tests over seeds, in which equal sets speak for neither side.",
            ("largest_set",),
            nonlinearity,
            shuffled=("model_activation",),
            searched=_SEARCHED,
        ),
        Claim(
            9,
            "Started close to weights that hold the data, SGD soon finds a much smaller loss without going far.",
            Basis.CONFIRMED,
            "Of a seed, at the best of several rates, squared loss: slope of the log of the first loss against that of "
            "the perturbation within 0.2 of 2; at every perturbation a tenth of the first loss or less in two epochs, "
            "and never farther than twice the perturbation from zero loss; slope of the least loss above 3, in runs "
            "of 2 epochs and 16 more for each tenfold smaller perturbation. Rates are recalled, not read (4 for the "
            "last slope), sizes and thresholds ours; five one-sided sign tests over seeds.",
            ("sgd_near_memorizer",),
            descent,
            rows=frames.CURVES,
            shuffled=("model_perturbation", "optimizer_epochs"),
        ),
        Claim(
            10,
            "Constructed weights in single precision lose more and more labels from 1,000 examples on.",
            Basis.EXTENSION,
            "A seed's share of labels held in float32 falls from each size of 1,000 or more to the next, with every "
            "number of classes (ours); sign test over seeds.",
            ("construction",),
            precision,
            shuffled=("model_width", "data_examples"),
        ),
    ),
)
