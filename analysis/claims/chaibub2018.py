"""Claims of Chaibub Neto (2018): permuted labels separate learning and memorization of one network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from memsweep.analysis.claims import nulls
from memsweep.analysis.claims.claim import (
    Basis,
    Claim,
    Evidence,
    Fact,
    Margin,
    MissingTrialsError,
    Paper,
    Tested,
    Trend,
)
from memsweep.analysis.claims.verdicts import as_tested
from memsweep.analysis.core import frames
from memsweep.analysis.questions import permutation

SWEEPS = ("permutation",)
LEVEL = 0.05
"""Significant below this: p_learn and p_beyond_class, as in the examples of the author's earlier work."""
ERRORS = 2.0
"""Standard errors within which an uninformative area, or a median of such areas, counts as 0.5."""
FRACTIONS = 5
"""Fewest fractions of noisy labels that make a trend."""
CONSTANT = 0.02
"""Smaller changes of M count as no change."""
EFFECT = 0.1
"""Change of M that `_changed` makes."""
COST = 0.01
"""Largest loss of area on held-out examples that a regularizer may cause."""
DRAWS = 50

_BASE = "is of the width with real labels"
_MLP = {"model_family": "mlp", _BASE: True, "regularization_dropout": 0.0}
_FAMILIES = {"MLP": _MLP, "convolutional network": {**_MLP, "model_family": "cnn"}}
_REAL = {"data_noise_kind": "none"}
_NOISE_INPUTS = {"data_noise_kind": "gaussian_inputs", "data_noise_fraction": 1.0}
_NEAR = {"features": "hidden", "validation": "copies", "rho": permutation.RHO}
_FAR = {**_NEAR, "rho": 0.0}
_HELD_OUT = {"features": "hidden", "validation": "held_out"}
_WORDS = {"m": "M", "ahead": "area of the labels minus the median of permuted ones"}
_KEYS = ("features", "validation", "rho")


def _selected(rows: pd.DataFrame, *values: dict[str, Any], step: int | None = None) -> pd.DataFrame:
    """Returns rows with these values, by seed, at a step or at the end; with M, and `ahead`. Raises MissingTrialsError.

    ahead: how much better the labels are predicted than permuted ones, as an area.
    """
    wanted = {name: value for part in values for name, value in part.items()}
    rows = rows.dropna(subset="step")
    base = rows[rows["data_noise_kind"] == "none"].groupby("model_family")["model_width"].min()
    rows = rows.assign(**{_BASE: rows["model_width"] == rows["model_family"].map(base)})
    at = rows["step"] == (rows["step_count"] if step is None else step)
    chosen = frames.having(rows[at], wanted)
    if chosen.empty:
        raise MissingTrialsError("no row of permutations with " + ", ".join(f"{k} {v}" for k, v in wanted.items()))
    ahead = chosen["observed_auc"] - chosen["null_median"]
    return chosen.assign(m=permutation.amount(chosen), ahead=ahead).set_index("seed").sort_index()


def _learns(cell: pd.DataFrame, name: str) -> Margin:
    return Margin(f"{LEVEL:g} minus p_learn, {name}", (LEVEL - cell["p_learn"]).to_numpy(float))


def _is_chance(cell: pd.DataFrame, column: str, name: str) -> Margin:
    variance = cell["variance" if column == "observed_auc" else "median_variance"]
    off = (cell[column] - 0.5).abs() / variance**0.5
    return Margin(f"{ERRORS:g} minus standard errors between 0.5 and {name}", (ERRORS - off).to_numpy(float))


def _gain(rows: pd.DataFrame, what: str, name: str, *values: dict[str, Any]) -> Margin:
    """Returns a quantity at the end less that of the same networks before training."""
    end, start = (_selected(rows, *values, step=step)[what] for step in (None, 0))
    return Margin(f"{_WORDS[what]}, at the end minus at step 0, {name}", (end - start).to_numpy(float))


def _learn_on_real(rows: pd.DataFrame, name: str) -> list[Evidence]:
    near = _selected(rows, _FAMILIES[name], _REAL, _NEAR)
    return [_learns(near, name), _gain(rows, "ahead", name, _FAMILIES[name], _REAL, _NEAR)]


def _coexist(rows: pd.DataFrame, name: str) -> list[Evidence]:
    near = _selected(rows, _FAMILIES[name], _REAL, _NEAR)
    held_out = _selected(rows, _FAMILIES[name], _REAL, _HELD_OUT)
    return [
        *_learn_on_real(rows, name),
        Margin(f"{LEVEL:g} minus p_beyond_class, {name}", (LEVEL - near["p_beyond_class"]).to_numpy(float)),
        _gain(rows, "m", name, _FAMILIES[name], _REAL, _NEAR),
        _is_chance(held_out, "null_median", f"held-out median, {name}"),
    ]


def _learn_noise(rows: pd.DataFrame, name: str) -> list[Evidence]:
    near, fresh = (_selected(rows, _FAMILIES[name], _NOISE_INPUTS, part) for part in (_NEAR, _FAR))
    return [_learns(near, f"noise inputs, {name}"), _is_chance(fresh, "observed_auc", f"area on fresh noise, {name}")]


def _in_families(measure: Any, *names: str) -> Any:
    return lambda rows: [part for name in names for part in measure(rows, name)]


def _change(rows: pd.DataFrame) -> list[Evidence]:
    steps = rows.loc[rows["step"] > 0, "step"]
    if steps.empty:
        raise MissingTrialsError("no row of permutations while networks train")
    first, last = (_selected(rows, _MLP, _REAL, _NEAR, step=step)["m"] for step in (int(steps.min()), None))
    return [two_sided(f"M at the end minus M after {int(steps.min())} steps", (last - first).to_numpy(float))]


def _changed(rows: pd.DataFrame, generator: np.random.Generator) -> pd.DataFrame:
    """Returns rows of networks whose M grows by EFFECT until the end, and is that of step 0 until then."""
    rows = nulls.untrained(rows, _KEYS)
    grown = EFFECT / 2 * (rows["step"] == rows["step_count"])
    return rows.assign(null_median=rows["null_median"] + grown)


def two_sided(what: str, values: np.ndarray) -> Tested:
    """Returns the test that the median differs from 0; against it, that the median lies within CONSTANT of 0."""
    up, down = as_tested(Margin(what, values)), as_tested(Margin(what, -values))
    within = (as_tested(Margin(what, CONSTANT + change)).p for change in (values, -values))
    return replace(up, p=min(1.0, 2 * min(up.p, down.p)), p_against=max(within))


def _by_fraction(rows: pd.DataFrame, part: dict[str, Any], column: str, sign: int) -> list[Evidence]:
    mlp = rows[rows["data_noise_kind"].isin(("none", "labels"))]
    cells = _selected(mlp, _MLP, part).reset_index()
    by_seed = cells.pivot_table(index="seed", columns="data_noise_fraction", values=column, dropna=False)
    if by_seed.shape[1] < FRACTIONS:
        raise MissingTrialsError(f"{by_seed.shape[1]} fractions of noisy labels; the trend requires {FRACTIONS}")
    words = "" if sign > 0 else "minus "
    return [Trend(f"{words}{column} by the fraction of noisy labels", sign * by_seed.to_numpy(float))]


def _dropout(rows: pd.DataFrame) -> list[Evidence]:
    noisy = {"data_noise_kind": "labels", "data_noise_fraction": 0.5}
    dropped = {**_MLP, "regularization_dropout": 0.5}
    less = _selected(rows, _MLP, noisy, _NEAR)["m"] - _selected(rows, dropped, noisy, _NEAR)["m"]
    gained = (
        _selected(rows, dropped, noisy, _HELD_OUT)["observed_auc"]
        - _selected(rows, _MLP, noisy, _HELD_OUT)["observed_auc"]
    )
    return [
        Margin("M without dropout minus M with it", less.to_numpy(float)),
        Margin("area on held-out examples gained by dropout", gained.to_numpy(float), -COST),
    ]


def _width(rows: pd.DataFrame) -> list[Evidence]:
    noisy = rows[(rows["data_noise_kind"] == "labels") & (rows["data_noise_fraction"] == 1.0)]
    mlps = {**_NEAR, "model_family": "mlp", "regularization_dropout": 0.0}
    end, start = (
        _selected(noisy, mlps, step=step).reset_index().pivot_table(index="seed", columns="model_width", values="m")
        for step in (None, 0)
    )
    change = end - start
    if change.shape[1] < 2:
        raise MissingTrialsError("random labels at a single width; the claim requires two or more")
    widest, narrowest = change.columns.max(), change.columns.min()
    gained = (change[widest] - change[narrowest]).to_numpy(float)
    return [Margin(f"gain of M by training, width {widest:g} minus {narrowest:g}", gained)]


def _controls(rows: pd.DataFrame) -> list[Evidence]:
    fresh, near = (_selected(rows, _MLP, _NOISE_INPUTS, part) for part in (_FAR, _NEAR))
    inputs = {**_NEAR, "features": "inputs"}
    raw = {rho: _selected(rows, _MLP, _REAL, {**inputs, "rho": rho}, step=0)["m"] for rho in (0.5, 0.8, 0.95)}
    at_end = rows[(rows["step"] == rows["step_count"]) & (rows["features"] == "hidden")]
    draws = frames.having(at_end, {"validation": "copies", "rho": permutation.RHO})["p_chance"].dropna()
    if len(draws) < DRAWS:
        raise MissingTrialsError(f"{len(draws)} draws of p_chance; the control requires {DRAWS}")
    p = float(stats.kstest(draws, "uniform").pvalue)
    return [
        _is_chance(fresh, "independent_median", "median on fresh noise, labels permuted independently"),
        _is_chance(fresh, "observed_auc", "area on fresh noise"),
        _is_chance(near, "independent_median", "median on copies, labels permuted independently"),
        Margin("M of the inputs", raw[0.95].to_numpy(float)),
        Margin("M of the inputs, correlation 0.95 minus 0.8", (raw[0.95] - raw[0.8]).to_numpy(float)),
        Margin("M of the inputs, correlation 0.8 minus 0.5", (raw[0.8] - raw[0.5]).to_numpy(float)),
        Fact("p of a uniform p_learn where a permutation takes the place of the labels", p, p > 0.01, len(draws)),
    ]


_OVER, _TREND = "sign test over seeds", "Page's trend test over seeds"
_OURS = "thresholds ours"


def _claim(number: int, statement: str, basis: Basis, test: str, measure: Any, *shuffled: str) -> Claim:
    return Claim(number, statement, basis, test, SWEEPS, measure, permutation.QUERY, shuffled, untrained=_KEYS)


PAPER = Paper(
    key="chaibub2018",
    title="Chaibub Neto 2018, Detecting Learning vs Memorization in Deep Neural Networks using Shared Structure "
    "Validation Sets",
    caveat="Of the paper only the abstract and the first sentences could be read: the procedure is reconstructed from "
    "the author's work on repeated measurements, all magnitudes and thresholds are ours.",
    claims=(
        _claim(
            1,
            "Networks trained on real images and labels learn.",
            Basis.ABSTRACT,
            f"p_learn < {LEVEL:g} at the end, and the area of the labels lies further above the median of permuted "
            f"ones than in the untrained network, for the MLP and the convolutional network; {_OVER}; {_OURS}",
            _in_families(_learn_on_real, *_FAMILIES),
        ),
        _claim(
            2,
            "Learning and memorization occur in one network, and can be distinguished.",
            Basis.ABSTRACT,
            f"MLP, real labels, at the end: p_learn and p_beyond_class < {LEVEL:g}, both amounts (the area of the "
            "labels above the median of permuted ones, and M) larger than in the untrained network, and held-out "
            f"examples with labels permuted on their own give a median of 0.5 within {ERRORS:g} of its standard "
            f"errors; {_OVER}; {_OURS}",
            _in_families(_coexist, "MLP"),
        ),
        replace(
            _claim(
                3,
                "Memorization changes as training goes on.",
                Basis.ABSTRACT,
                "MLP, real labels: M at the end is not M after the first steps, whichever way; two-sided sign test "
                f"over seeds; against it, that the change lies within {CONSTANT:g}; ours",
                _change,
            ),
            injected=_changed,
        ),
        _claim(
            4,
            "Networks whose inputs are Gaussian noise still learn.",
            Basis.ABSTRACT,
            f"MLP, at the end: p_learn < {LEVEL:g} on copies, and an area of 0.5 on fresh noise within {ERRORS:g} "
            f"standard errors; {_OVER}; {_OURS}",
            _in_families(_learn_noise, "MLP"),
        ),
        _claim(
            5,
            "The more labels are noise, the more is memorized.",
            Basis.RECONSTRUCTION,
            f"MLP, at the end: M rises along the fractions; {_TREND}",
            lambda rows: _by_fraction(rows, _NEAR, "m", 1),
            "data_noise_fraction",
            "data_noise_kind",
        ),
        _claim(
            6,
            "The more labels are noise, the less is learned.",
            Basis.RECONSTRUCTION,
            "MLP, at the end: the area on held-out examples, the classifier fitted with true labels, falls along the "
            f"fractions; {_TREND}",
            lambda rows: _by_fraction(rows, _HELD_OUT, "observed_auc", -1),
            "data_noise_fraction",
            "data_noise_kind",
        ),
        _claim(
            7,
            "Regularization lowers memorization at little cost.",
            Basis.EXTENSION,
            "MLP, half of the labels noisy, at the end: a dropout of 0.5 lowers M, and costs the area on held-out "
            f"examples at most {COST:g}; {_OVER}; {_OURS}",
            _dropout,
            "regularization_dropout",
        ),
        _claim(
            8,
            "The more capacity for each example, the more is memorized.",
            Basis.EXTENSION,
            "MLPs, random labels: M gains more by training in the widest than in the narrowest (with more units, "
            f"labels are predicted better even before training); {_OVER}; ours",
            _width,
            "model_width",
        ),
        _claim(
            9,
            "Claims 1, 2 and 4 hold for MLPs and for convolutional networks.",
            Basis.ABSTRACT,
            f"the tests of these claims, gains over step 0 included, for both; {_OVER}; {_OURS}",
            lambda rows: [
                part for measure in (_coexist, _learn_noise) for part in _in_families(measure, *_FAMILIES)(rows)
            ],
        ),
        replace(
            _claim(
                10,
                "The procedure's negative controls find nothing.",
                Basis.RECONSTRUCTION,
                f"0.5 within {ERRORS:g} standard errors, of an area or of a median, where nothing is shared; M of the "
                f"inputs above 0, and smaller the farther copies are; {_OVER}; p_learn of permutations uniform "
                "(Kolmogorov and Smirnov's p > 0.01, over trials); ours. A test of the program checks that features "
                "which hold only the class have M = 0",
                _controls,
            ),
            untrained=(),  # what nothing is shared with, nothing memorizes, trained or not
        ),
    ),
)
