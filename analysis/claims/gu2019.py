"""Gu & Tresp 2019, Neural Network Memorization Dissection: one way to learn, N ways to memorize.

Only the abstract was available. Its statements are tested by measures of our own choice, and by those of Morcos, Raghu
& Bengio (2018), who studied the same question on convolutional networks.

Networks are compared in pairs, which are not independent. Differences between two groups are tested by exchanging,
within each seed, the two networks that began with the same weights (a permutation test over all pairs), and by the
jackknife over seeds; bounds by the sign test over disjoint pairs. Networks that fit fewer than 99 % of their labels are
left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from scipy import stats

from memsweep.analysis.claims.claim import Basis, Claim, Evidence, Margin, MissingTrialsError, Paper, Tested
from memsweep.analysis.core import comparisons, frames
from memsweep.analysis.questions import similarity
from memsweep.analysis.questions.similarity import (
    AGREEMENT,
    CKA,
    COSINE,
    KAPPA,
    PWCCA,
    SEPARATE,
    SHARED,
    TRUE,
    compared,
    of_pairs,
)

EXCHANGES = 9999
EXAMPLES = frames.beside("examples", "b.example", "examples")
LABELS = ("data_noise_kind", "data_noise_fraction", "seeds_noise")
"""Columns that identify the labels a network was trained on."""


def exchanged(what: str, alike: np.ndarray, one: int = 0, other: int = 1) -> Tested:
    """Returns the test that networks of one group are more alike than networks of another, by exchange within seeds.

    alike: [G, S, G, S].  one, other: indices of groups.  Estimate: difference of the means over all pairs within a
    group; its interval at 95 % is that of the jackknife over seeds.  Seeds without a network in either group are left
    out.
    p is the larger of two p-values: that of the exchange, whose null is that groups differ in nothing, not even in how
    their networks differ; and that of the jackknife's t, which assumes that means of seeds are about normal.
    Raises MissingTrialsError for fewer than 3 seeds.
    """
    both = alike[[one, other]][:, :, [one, other]]  # [2, S, 2, S]
    itself = both.reshape(2 * both.shape[1], -1).diagonal().reshape(2, -1)
    is_complete = ~np.isnan(itself).any(0)
    seeds = int(is_complete.sum())
    if seeds < 3:
        raise MissingTrialsError(f"{what}: {seeds} seeds with fitted networks of both groups, of 3 at least")
    both = both[:, is_complete][:, :, :, is_complete].reshape(2 * seeds, 2 * seeds)
    np.fill_diagonal(both, 0)
    is_other = np.random.default_rng(0).random((EXCHANGES + 1, seeds)) < 0.5
    is_other[0] = False
    means = [_within(both, np.hstack(chosen)) for chosen in ((~is_other, is_other), (is_other, ~is_other))]
    differences = means[0] - means[1]
    without = ~np.eye(seeds, dtype=bool)
    empty = np.zeros_like(without)
    left = _within(both, np.hstack((without, empty))) - _within(both, np.hstack((empty, without)))
    error = np.sqrt((seeds - 1) / seeds * ((left - left.mean()) ** 2).sum())
    if np.isnan(differences).any():
        raise MissingTrialsError(f"{what}: not defined for all pairs")
    half, estimate = float(stats.t.ppf(0.975, seeds - 1) * error), float(differences[0])
    p, against = (
        max(
            float(np.mean(sign * (differences - estimate) >= -1e-12)),
            float(stats.t.sf(sign * estimate / error, seeds - 1)) if error else 0.0,
        )
        for sign in (1, -1)
    )
    return Tested(what, estimate, estimate - half, estimate + half, p, against, seeds)


def _within(alike: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Returns [R], the mean over all pairs of the chosen networks.

    alike: [n, n], 0 on the diagonal.  chosen: [R, n] bool.
    """
    weights = chosen.astype(float)
    counts = weights.sum(1)
    mean: np.ndarray = ((weights @ alike) * weights).sum(1) / (counts * (counts - 1))
    return mean


def _function(rows: pd.DataFrame) -> list[Evidence]:
    alike = compared(rows, KAPPA, (TRUE, SHARED, SEPARATE))
    return [
        exchanged("kappa, true labels less one random labelling", alike, 0, 1),
        exchanged("kappa, true labels less separate random labels", alike, 0, 2),
        Margin("kappa of a pair, true labels", of_pairs(alike, 0, 0), 0.5),
        Margin("0.15 less |kappa| of a pair, one random labelling", 0.15 - np.abs(of_pairs(alike, 1, 1))),
    ]


def _training(rows: pd.DataFrame) -> list[Evidence]:
    alike = compared(rows, AGREEMENT, (TRUE, SHARED))
    return [
        Margin(f"agreement of a pair on training examples, {group}", of_pairs(alike, i, i), 0.95)
        for i, group in enumerate((TRUE, SHARED))
    ]


def _layers(rows: pd.DataFrame) -> list[int]:
    if not (layers := similarity.hidden_layers(rows)):
        raise MissingTrialsError("no hidden layer is stored")
    return layers


def _hidden(rows: pd.DataFrame) -> list[Evidence]:
    alike = compared(rows, CKA, (TRUE, SHARED), layer=_layers(rows)[-1])
    return [exchanged("linear CKA of the last hidden layer, true labels less one random labelling", alike)]


def _between(rows: pd.DataFrame) -> list[Evidence]:
    alike = compared(rows, CKA, (TRUE, SHARED), layer=_layers(rows)[-1])
    learners, memorizers, between = (of_pairs(alike, *groups) for groups in ((0, 0), (1, 1), (0, 1)))
    quarter = (learners - between) / 4
    return [
        Margin(f"a quarter of (within true - between) {sign} (within random - between), CKA", quarter + difference)
        for sign, difference in (("less", between - memorizers), ("plus", memorizers - between))
    ]


def _early(rows: pd.DataFrame) -> list[Evidence]:
    layers = _layers(rows)
    if len(layers) < 3:
        raise MissingTrialsError(f"{len(layers)} hidden layers; the claim requires 3")
    gaps = []
    for layer in (layers[0], layers[-1]):
        alike = compared(rows, CKA, (TRUE, SHARED), layer=layer)
        gaps.append(of_pairs(alike, 0, 0) - of_pairs(alike, 1, 1))
    return [
        Margin("gap of the last hidden layer, CKA", gaps[1]),
        Margin("half of the last hidden layer's gap less the first one's, CKA", gaps[1] / 2 - gaps[0]),
    ]


def _shrinking(rows: pd.DataFrame) -> list[Evidence]:
    fractions = similarity.fractions(rows)
    if len(fractions) < 5:
        raise MissingTrialsError(f"{len(fractions)} shares of random labels; the claim requires 5")
    groups, last = [similarity.partly_random(fraction) for fraction in fractions], _layers(rows)[-1]
    margins: list[Evidence] = []
    for measure in (KAPPA, CKA):
        alike = compared(rows, measure, groups, layer=last)
        by_fraction = np.stack([of_pairs(alike, i, i) for i in range(len(groups))], axis=1)
        falls = -_rank_correlations(fractions, by_fraction)
        margins.append(Margin(f"-Spearman of {measure} of a pair and the share of random labels", falls, 0.9))
    return margins


def _rank_correlations(x: Sequence[float], values: np.ndarray) -> np.ndarray:
    """Returns Spearman's correlation of each row [R, n] with x; NaN where a row has a hole."""
    return np.array([np.nan if np.isnan(row).any() else stats.spearmanr(x, row).statistic for row in values])


def _gradients(rows: pd.DataFrame) -> list[Evidence]:
    alike = compared(rows, COSINE, (TRUE, SHARED, SEPARATE))
    before = compared(rows, COSINE, (TRUE,), end=False)[0, :, 0]
    floor = np.nanmean(before[~np.eye(len(before), dtype=bool)]) if np.isfinite(before).any() else np.nan
    return [
        exchanged("cosine of input gradients, true labels less one random labelling", alike, 0, 1),
        exchanged("cosine of input gradients, true labels less separate random labels", alike, 0, 2),
        Margin("cosine of a pair, true labels, less the mean before training", of_pairs(alike, 0, 0) - floor),
    ]


def _order(rows: pd.DataFrame) -> list[Evidence]:
    rows = similarity.labelled(rows)
    width = rows.loc[rows["data_noise_fraction"] > 0, "model_width"].min()
    rows = rows[rows["group"].isin((TRUE, SHARED)) & (rows["model_width"] == width)]
    learned = rows.assign(step=rows["first_learned_step"].astype(float).fillna(np.inf))
    by_network = learned.pivot(index=["group", "seed"], columns="example", values="step")
    seeds = sorted(set(rows["seed"]))
    index = pd.MultiIndex.from_product([(TRUE, SHARED), seeds])
    steps = by_network.reindex(index)
    is_complete = steps.notna().all(axis=1).to_numpy()
    correlations = np.full((len(index), len(index)), np.nan)
    correlations[np.ix_(is_complete, is_complete)] = comparisons.order_correlation(steps[is_complete].to_numpy())
    alike = correlations.reshape(2, len(seeds), 2, len(seeds))
    return [exchanged("Spearman of first learned steps, true labels less one random labelling", alike)]


def _simple_first(rows: pd.DataFrame) -> list[Evidence]:
    rows = similarity.labelled(rows).dropna(subset="step")
    rows = rows[rows["model_width"] == rows.loc[rows["data_noise_fraction"] > 0, "model_width"].min()]
    reached = rows[rows["train_correct_count"] >= 0.9 * rows["train_count"]]
    first = reached.groupby(["group", "seed"])["step"].min()
    seeds = sorted(rows.loc[rows["group"] == TRUE, "seed"].unique())
    true, random = (first.reindex([(group, seed) for seed in seeds]).to_numpy(float) for group in (TRUE, SHARED))
    is_trained = pd.MultiIndex.from_frame(rows[["group", "seed"]]).unique()
    late = [np.inf if (SHARED, seed) in is_trained else np.nan for seed in seeds]
    partly = rows[(rows["data_noise_fraction"] > 0) & (rows["data_noise_fraction"] < 1)]
    ahead = frames.share(partly["clean_correct_count"], partly["clean_count"]) - frames.share(
        partly["corrupted_correct_count"], partly["corrupted_count"]
    )
    area = ahead.groupby([partly["group"], partly["seed"]]).mean().groupby("seed").mean()
    return [
        Margin(
            "steps to 0.9 training accuracy, random over true labels",
            np.where(np.isnan(random), late, random) / true,
            1,
        ),
        Margin("accuracy on clean less on corrupted examples, mean over measurements", area.to_numpy(float)),
    ]


def _width(rows: pd.DataFrame) -> list[Evidence]:
    widths = sorted(rows.loc[rows["data_noise_fraction"] == 0, "model_width"].unique())
    if len(widths) < 4:
        raise MissingTrialsError(f"{len(widths)} widths; the claim requires 4")
    trained, untrained = (
        np.stack(
            [
                of_pairs(compared(rows, PWCCA, (TRUE,), layer=_layers(rows)[-1], width=width, end=end), 0, 0)
                for width in widths
            ],
            axis=1,
        )
        for end in (True, False)
    )
    rise, before = (likeness[:, -1] - likeness[:, 0] for likeness in (trained, untrained))
    return [
        Margin("Spearman of PWCCA similarity of a pair and width", _rank_correlations(widths, trained), 0.8),
        Margin("rise of PWCCA similarity from the narrowest to the widest, less before training", rise - before),
    ]


_claim = partial(Claim, sweeps=("similarity",), rows=similarity.QUERY, shuffled=LABELS)
_EXCHANGE = "networks exchanged within seeds, and jackknife over seeds: both"
_SIGN = "sign test over disjoint pairs of networks"

PAPER = Paper(
    "gu2019",
    "Gu & Tresp 2019, Neural Network Memorization Dissection",
    "Only the abstract could be read: measures are ours, or those of Morcos et al. 2018, without any magnitude.",
    (
        _claim(
            1,
            "Networks trained on true labels predict alike on unseen inputs; trained on random labels they do not.",
            Basis.ABSTRACT,
            f"kappa larger with true labels than with one or with separate random labellings ({_EXCHANGE}); above 0.5 "
            f"with true labels, below 0.15 in size with one random labelling ({_SIGN}); all bounds ours",
            measure=_function,
        ),
        _claim(
            2,
            "On training inputs both kinds of networks predict alike, as all fit their labels.",
            Basis.RECONSTRUCTION,
            f"agreement on training examples above 0.95 in each group ({_SIGN}; bound ours, direction Morcos et al.)",
            measure=_training,
        ),
        _claim(
            3,
            "Last hidden layers are more alike between networks trained on true labels than on one random labelling.",
            Basis.ABSTRACT,
            f"linear CKA ({_EXCHANGE}); the direction is that of Morcos et al., who use PWCCA",
            measure=_hidden,
        ),
        _claim(
            4,
            "Networks with random labels are as far from each other as from a network with true labels.",
            Basis.RECONSTRUCTION,
            "|within random - between| below a quarter of (within true - between), CKA of the last hidden layer "
            f"({_SIGN}, twice; bound ours, direction of Morcos et al.)",
            measure=_between,
        ),
        _claim(
            5,
            "First hidden layers hardly distinguish the two kinds of networks.",
            Basis.RECONSTRUCTION,
            "there is a gap of CKA, true less random labels, in the last hidden layer, and the first one's is below "
            f"half of it ({_SIGN}; bound ours, direction of Morcos et al.)",
            measure=_early,
        ),
        _claim(
            6,
            "The more labels are random, the less alike are networks that share them.",
            Basis.EXTENSION,
            f"Spearman of the share with kappa, and CKA of the last hidden layer, below -0.9 ({_SIGN}; bound ours)",
            measure=_shrinking,
        ),
        _claim(
            7,
            "Input gradients are more alike between networks trained on true than on random labels, or not trained.",
            Basis.ABSTRACT,
            "mean cosine of the gradient of the predicted class's logit, where predictions agree, above that with one "
            f"and with separate random labellings ({_EXCHANGE}), and above its mean before training ({_SIGN}); measure "
            "ours",
            measure=_gradients,
        ),
        _claim(
            8,
            "Networks learn examples in a more similar order with true labels than with one random labelling.",
            Basis.RECONSTRUCTION,
            f"Spearman of the first measured steps at which examples are right ({_EXCHANGE}); ours",
            rows=EXAMPLES,
            measure=_order,
        ),
        _claim(
            9,
            "Simple patterns come first: true labels are fitted sooner than random ones, clean before corrupted.",
            Basis.ABSTRACT,
            "ratio of steps to 0.9 training accuracy above 1; mean over measurements of accuracy on clean less "
            "corrupted examples above 0, over all shares of random labels (sign test over seeds; measures ours)",
            rows=frames.CURVES,
            measure=_simple_first,
        ),
        _claim(
            10,
            "The wider networks with true labels are, the more alike; not so, or less, before training.",
            Basis.EXTENSION,
            f"Spearman of width with PWCCA similarity of the last hidden layer's first {similarity.UNITS} units above "
            f"0.8, and its rise larger than before training ({_SIGN}; bound ours, direction of Morcos et al.)",
            measure=_width,
            shuffled=("model_width",),
        ),
    ),
)
