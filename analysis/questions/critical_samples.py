"""Do networks that fit noise draw boundaries closer to the data, and when? After Arpit et al. 2017, figures 7 to 9."""

from __future__ import annotations

import pandas as pd

from memsweep.analysis.core import frames, series

QUERY = frames.beside("critical_samples", "b.step, b.part, b.radius_multiple", "critical_samples")
RATIO = "critical sample ratio"
MULTIPLE = 10.0
"""Box in figures and in tests of claims. Within the paper's own box, a few in a hundred examples of digits are
critical, too few to distinguish settings."""


def summarize(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the share of examples that are critical per noise, part, box and step, over seeds.

    rows: of the table `critical_samples` with the fields of their trials (`frames.read`).
    Returns quantity, part, radius_multiple, kind and fraction of noise (the clean set is of every kind), step,
    estimate, low, high, seeds, missing, is_end.
    """
    rows = rows.assign(kind=rows["data_noise_kind"].str.replace("_", " "), fraction=rows["data_noise_fraction"])
    rows = series.at_every(rows, ["kind", "fraction"], ["step", "part", "radius_multiple"])
    ratio = frames.share(rows["critical_count"], rows["example_count"])
    by = ["part", "radius_multiple", "kind", "fraction", "step"]
    summary = series.of_every_kind(series.summarize(rows, {RATIO: ratio}, by))
    return summary.assign(is_end=summary["step"] == summary["step"].max())


_AROUND = (
    f"Share of examples near which LASS finds an input that is predicted otherwise, within {MULTIPLE:g} times the "
)

FIGURES = (
    *(
        series.figure(
            f"{part}-{kind.replace(' ', '-')}",
            f"Critical samples around {part} examples, noisy {kind.removeprefix('gaussian ')}",
            f"{_AROUND}paper's box. Step 0 is the untrained network. Curves: share of training examples with {kind} "
            "drawn at random.",
            (RATIO, "step", "fraction"),
            {"part": part, "radius_multiple": MULTIPLE, "kind": kind},
            xscale="symlog",
            xlabel="steps",
            ylim=(0, None),
        )
        for part in ("validation", "train")
        for kind in ("labels", "gaussian inputs")
    ),
    series.figure(
        "fractions",
        "Critical samples at the end, by share of noise",
        f"{_AROUND}paper's box, around validation examples, which are never noise.",
        (RATIO, "fraction", "kind"),
        {"part": "validation", "radius_multiple": MULTIPLE, "is_end": True},
        xlabel="noisy training examples (share)",
        ylim=(0, None),
    ),
    series.figure(
        "boxes",
        "Critical samples at the end, by size of the box",
        "Around validation examples, labels noisy. Multiple 1 is the paper's box: 0.3/255 of the inputs' range to each "
        "side. Curves: share of noisy training labels.",
        (RATIO, "radius_multiple", "fraction"),
        {"part": "validation", "is_end": True, "kind": "labels"},
        xscale="log",
        xlabel="box (multiples of the paper's)",
        ylim=(0, 1.02),
    ),
)
