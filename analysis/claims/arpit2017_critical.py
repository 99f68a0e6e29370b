"""Evidence for the claims of Arpit et al. (2017) about critical samples."""

from __future__ import annotations

import numpy as np
import pandas as pd

from memsweep.analysis.claims.arpit2017_noise import (
    CLEAN,
    KINDS,
    NOISES,
    by_fraction,
    fractions,
    rank_correlation,
    shares,
    values,
    with_noise,
)
from memsweep.analysis.claims.claim import Margin, Trend, paired
from memsweep.analysis.core import frames, statistics
from memsweep.analysis.questions import learning_curves
from memsweep.analysis.questions.critical_samples import MULTIPLE
from memsweep.analysis.questions.learning_curves import FIT, PEAK, TRAIN, VALIDATION


def _critical(rows: pd.DataFrame, part: str) -> pd.DataFrame:
    """Returns the share of critical samples of trained networks, by noise, seed and step."""
    chosen = rows[(rows["part"] == part) & (rows["radius_multiple"] == MULTIPLE) & (rows["step"] > 0)]
    return with_noise(chosen.assign(critical=frames.share(chosen["critical_count"], chosen["example_count"])))


def _at_end(rows: pd.DataFrame) -> pd.DataFrame:
    shares_by_step = _critical(rows, "validation")
    last: pd.DataFrame = shares_by_step[shares_by_step["step"] == shares_by_step["step"].max()]
    return last


def noise_is_denser(rows: pd.DataFrame) -> list[Margin]:
    """Returns critical validation samples at the end of training, each full noise less clean data."""
    last = _at_end(rows)
    return [
        Margin(f"critical validation samples (share), {noise} - clean", paired(last, "critical", "noise", noise, CLEAN))
        for noise in NOISES
    ]


def rises_then_stays(rows: pd.DataFrame) -> list[Margin]:
    """Returns how critical validation samples rise in the first half of training, and how the slope levels off."""
    rises = statistics.by_group(_critical(rows, "validation"), ["noise", "seed"], _rise)
    return [
        part
        for noise in (CLEAN, *NOISES)
        for part in (
            Margin(f"rank correlation with step in the first half, {noise}", values(rises, noise, "rise")),
            Margin(f"a tenth of the first quarter's slope - the last's, {noise}", values(rises, noise, "levels")),
        )
    ]


def _rise(curve: pd.DataFrame) -> dict[str, float]:
    step, share = curve["step"].to_numpy(float), curve["critical"].to_numpy(float)
    part = step / step.max()
    first, last = (np.polyfit(part[which], share[which], 1)[0] for which in (part <= 0.25, part >= 0.75))
    return {"rise": rank_correlation(step[part <= 0.5], share[part <= 0.5]), "levels": abs(first) / 10 - abs(last)}


def rises_then_falls(rows: pd.DataFrame) -> list[Margin]:
    """Returns how far the peak of critical training samples lies above their first and last share."""
    peaks = statistics.by_group(_critical(rows, "train"), ["noise", "seed"], _peak)
    return [
        Margin(
            f"critical training samples (share), peak - {end} - 2 standard errors, {noise}", values(peaks, noise, end)
        )
        for noise in (CLEAN, *NOISES)
        for end in ("first", "last")
    ]


def _peak(curve: pd.DataFrame) -> dict[str, float]:
    curve = curve.sort_values("step")
    share = curve["critical"].to_numpy(float)
    variance = share * (1 - share) / curve["example_count"].to_numpy(float)
    peak = int(share.argmax())
    return {
        name: share[peak] - share[end] - 2 * np.sqrt(variance[peak] + variance[end])
        for name, end in (("first", 0), ("last", -1))
    }


def denser_with_noise(rows: pd.DataFrame) -> list[Trend]:
    """Returns how critical validation samples at the end rise with the fraction of noise, of each kind."""
    last = _at_end(rows)
    return [
        Trend(f"critical validation samples (share) by the fraction of {name}", by_fraction(last, kind, "critical"))
        for kind, name in KINDS.items()
    ]


def denser_as_noise_is_fitted(rows: pd.DataFrame) -> list[Margin]:
    """Returns the rise of critical validation samples while noisy labels are fitted, also less the clean run's."""
    named = with_noise(shares(rows).assign(critical=frames.share(rows["critical_count"], rows["example_count"])))
    named = named[["noise", "seed", "epoch", "critical", VALIDATION, TRAIN]]  # cheap to group
    curves = {key: curve.sort_values("epoch") for key, curve in named.groupby(["noise", "seed"])}
    rises = pd.DataFrame(
        [
            {"noise": noise, "seed": seed, **_fitting(curve, curves.get((CLEAN, seed)))}
            for (noise, seed), curve in curves.items()
        ]
    )
    return [
        Margin(f"{what}, {noise}", values(rises, noise, column))
        for noise in fractions(rises, "labels")
        for what, column in (
            ("critical validation samples (share), when fitted - at best validation", "rise"),
            ("the same, above the clean run's over these epochs", "excess"),
        )
    ]


def _fitting(curve: pd.DataFrame, clean: pd.DataFrame | None) -> dict[str, float]:
    """Returns the rise from the epoch of best validation to that of fit; NaN where 90 % are never fitted."""
    turns = learning_curves.turns(curve)
    if turns["censored"]:
        return {"rise": np.nan, "excess": np.nan}

    def rise(of: pd.DataFrame) -> float:
        epoch, critical = (of[name].to_numpy(float) for name in ("epoch", "critical"))
        is_sought = ~np.isnan(critical)
        at = np.interp([turns[PEAK], turns[FIT]], epoch[is_sought], critical[is_sought])
        return float(at[1] - at[0])

    return {"rise": rise(curve), "excess": rise(curve) - rise(clean) if clean is not None else np.nan}
