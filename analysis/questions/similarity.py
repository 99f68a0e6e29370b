"""Do networks that learn end up alike, and networks that memorize each in their own way? After Gu & Tresp 2019."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from memsweep.analysis.core import comparisons, frames, series

QUERY = """select w.trial_id, w.setting_id, w.seed, t.status, t.train_correct_count, t.train_count,
b.* exclude (trial_id, attempt_id)
from wanted w left join trials t using (trial_id) left join representations b using (trial_id)
where w.sweep = '{sweep}' order by w.position, b.step, b.part, b.layer"""
"""Outputs of networks; a trial that is not stored is one row without step."""

TRUE, SHARED, SEPARATE = "true labels", "one random labelling", "separate random labels"
FITTED = 0.99
"""Training accuracy below which a network is not compared: it has neither learned nor memorized."""
UNITS = 16
"""Number of units compared, the first of each network, at any width: PWCCA depends on this number, not on the
choice."""

KAPPA, AGREEMENT, CKA, PWCCA, COSINE = (
    *("kappa of predictions", "agreement on training examples", "linear CKA"),
    *("PWCCA similarity", "cosine of input gradients"),
)


def labelled(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows with `group`, the labels of a network's training, by noise fraction and noise seed."""
    fraction = rows["data_noise_fraction"]
    partly = fraction.map({value: f"random share {value}" for value in fraction.unique()})
    names = {seed: _labelling(i) for i, seed in enumerate(_shared_seeds(rows))}
    random_group = rows["seeds_noise"].map(names).where(rows["seeds_noise"] != rows["seed"], SEPARATE)
    return rows.assign(group=np.select([fraction == 0, fraction < 1], [TRUE, partly], random_group))


def labellings(rows: pd.DataFrame) -> list[str]:
    """Returns the groups of networks that share a random labelling, SHARED first."""
    return [_labelling(i) for i in range(max(1, len(_shared_seeds(rows))))]


def _shared_seeds(rows: pd.DataFrame) -> list[int]:
    is_shared = (rows["data_noise_fraction"] == 1) & (rows["seeds_noise"] != rows["seed"])
    return sorted(rows.loc[is_shared, "seeds_noise"].unique())


def _labelling(number: int) -> str:
    return f"random labelling {number + 1}" if number else SHARED


def partly_random(fraction: float) -> str:
    """Returns the group of a share of random labels."""
    return TRUE if fraction == 0 else SHARED if fraction == 1 else f"random share {fraction}"


def compared(
    rows: pd.DataFrame,
    measure: str,
    groups: Sequence[str],
    *,
    layer: int = 0,
    width: int | None = None,
    end: bool = True,
) -> np.ndarray:
    """Returns the similarity of each two networks: [G, S, G, S], groups and seeds in order; NaN if missing or unfitted.

    rows: QUERY's, of any number of groups.  layer: of hidden units, for CKA and PWCCA.  width: of networks; default:
    the least width with random labels.  end: at the end of training, else before training.  PWCCA is computed only for
    the pairs of `of_pairs`.
    """
    rows = labelled(rows)
    seeds = sorted(rows["seed"].unique())
    width = width or int(rows.loc[rows["data_noise_fraction"] > 0, "model_width"].min())
    rows = rows[(rows["model_width"] == width) & ((rows["step"] > 0) == end) & frames.usable(rows)]
    if measure != AGREEMENT:
        rows = rows[rows["train_correct_count"] >= FITTED * rows["train_count"]]
    part = "train" if measure == AGREEMENT else "validation"
    outputs = _outputs(rows, part, "hidden" if measure in (CKA, PWCCA) else "logits", layer)
    places = [(group, seed) for group in groups for seed in seeds]
    is_stored = np.array([place in outputs for place in places])
    matrix = np.full((len(places), len(places)), np.nan)
    if is_stored.any():
        units = UNITS if measure == PWCCA else None
        values = np.stack([outputs[place][:, :units] for place in places if place in outputs])
        if measure == COSINE:
            gradients = _outputs(rows, part, "gradient", 0)
            stacked = np.stack([gradients[place] for place in places if place in outputs])
            alike = comparisons.gradient_cosine(stacked, values.argmax(2))
        elif measure == KAPPA:
            alike = comparisons.kappa(values.argmax(2))
        elif measure == AGREEMENT:
            alike = comparisons.agreement(values.argmax(2))
        else:
            pair = np.tile(np.arange(len(seeds)) // 2, len(groups))[is_stored]
            alike = comparisons.cka(values) if measure == CKA else comparisons.pwcca(values, pair[:, None] == pair)
        matrix[np.ix_(is_stored, is_stored)] = alike
    return matrix.reshape(len(groups), len(seeds), len(groups), len(seeds))


def of_pairs(alike: np.ndarray, one: int, other: int) -> np.ndarray:
    """Returns [S // 2], similarity of disjoint pairs of seeds, which are independent, within a group or between two.

    alike: [G, S, G, S].  Between two groups it is the mean of both ways; networks of one seed began alike and don't
    pair.
    """
    first = np.arange(0, alike.shape[1] - 1, 2)
    pairs: np.ndarray = (alike[one, first, other, first + 1] + alike[one, first + 1, other, first]) / 2
    return pairs


def hidden_layers(rows: pd.DataFrame) -> list[int]:
    """Returns the indices of stored hidden layers."""
    return sorted(rows.loc[rows["quantity"] == "hidden", "layer"].dropna().astype(int).unique())


def fractions(rows: pd.DataFrame) -> list[float]:
    """Returns shares of random labels, from 0 to 1."""
    return sorted(rows["data_noise_fraction"].unique())


def summarize(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the mean over disjoint pairs of networks per measure, networks compared, and axis.

    rows: QUERY's (`frames.read`).  Returns quantity, axis (layer, share of random labels, or width), x, networks,
    estimate, low, high, seeds (pairs), missing.
    """
    layers, parts = hidden_layers(rows), []
    widths = sorted(rows.loc[rows["data_noise_fraction"] == 0, "model_width"].unique())

    def append(measure: str, axis: str, x: float, networks: str, values: np.ndarray) -> None:
        frame = pd.DataFrame({"seed": range(len(values)), "value": values, "status": "finished"})
        parts.append(frame.assign(quantity=measure, axis=axis, x=x, networks=networks))

    for measure in (CKA, PWCCA):
        for layer in layers:
            alike = compared(rows, measure, (TRUE, SHARED, SEPARATE), layer=layer)
            for i, group in enumerate((TRUE, SHARED, SEPARATE)):
                append(measure, "layer", layer, group, of_pairs(alike, i, i))
            append(measure, "layer", layer, "one of true, one of random labels", of_pairs(alike, 0, 1))
    for measure in (KAPPA, COSINE):
        for fraction in fractions(rows):
            append(measure, "share", fraction, "shared labels", _of_group(rows, measure, partly_random(fraction)))
        append(measure, "share", 1.0, SEPARATE, _of_group(rows, measure, SEPARATE))
    for width in widths if layers else ():
        for moment in ("trained", "untrained"):
            values = _of_group(rows, PWCCA, TRUE, layer=layers[-1], width=width, end=moment == "trained")
            append(PWCCA, "width", width, moment, values)
    pairs = pd.concat(parts, ignore_index=True).groupby("quantity", sort=False)
    pieces = [
        series.summarize(of_measure, {str(name): of_measure["value"]}, ["axis", "x", "networks"])
        for name, of_measure in pairs
    ]
    summary = pd.concat(pieces, ignore_index=True)
    return summary[summary["seeds"] > 0].reset_index(drop=True)


def _of_group(rows: pd.DataFrame, measure: str, group: str, **where: Any) -> np.ndarray:
    return of_pairs(compared(rows, measure, (group,), **where), 0, 0)


def _outputs(rows: pd.DataFrame, part: str, quantity: str, layer: int) -> dict[tuple[str, int], np.ndarray]:
    """Returns (group, seed) -> values of a quantity of each example, [E, H]."""
    at_layer = {"layer": layer} if quantity == "hidden" else {}
    chosen = frames.having(rows, {"part": part, "quantity": quantity, **at_layer})
    columns = (chosen[name] for name in ("group", "seed", "numbers", "width"))
    return {(group, seed): np.asarray(n, float).reshape(-1, int(w)) for group, seed, n, w in zip(*columns, strict=True)}


_ABOUT = (
    "On 200 validation examples. Two networks differ by first weights and order of examples; each is in one pair, and "
    "a pair counts as a seed."
)

FIGURES = (
    *(
        series.figure(
            name,
            f"{measure} of hidden layers",
            f"{_ABOUT}{about}",
            (measure, "x", "networks"),
            {"axis": "layer"},
            xlabel="hidden layer",
            ylim=(0, 1.02),
        )
        for name, measure, about in (("cka", CKA, ""), ("pwcca", PWCCA, f" The first {UNITS} units of each network."))
    ),
    *(
        series.figure(
            name,
            title,
            _ABOUT,
            (measure, "x", "networks"),
            {"axis": "share"},
            xlabel="random labels (share)",
            ylim=(-0.1, 1.02),
        )
        for name, title, measure in (
            ("kappa", "Agreement of predictions beyond chance", KAPPA),
            ("gradients", "Likeness of input gradients", COSINE),
        )
    ),
    series.figure(
        "width",
        "PWCCA of the last hidden layer, by width",
        f"{_ABOUT} True labels; the first {UNITS} units of each network.",
        (PWCCA, "x", "networks"),
        {"axis": "width"},
        xscale="log",
        xlabel="width (units a layer)",
        ylim=(0, 1.02),
    ),
)
