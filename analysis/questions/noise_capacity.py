"""Does noise need more units and time than real data? After Arpit et al. 2017, figures 5 and 6."""

from __future__ import annotations

import pandas as pd

from memsweep.analysis.core import frames, series

QUERY = """select w.trial_id, w.setting_id, w.seed, t.status, t.step_count, t.fitted_step,
max(s.validation_correct_count) as best_count, max(s.validation_count) as best_of
from wanted w left join trials t using (trial_id) left join steps s using (trial_id)
where w.sweep = '{sweep}' group by all order by min(w.position)"""
"""Steps at which a sweep's trials fit, and their best validation accuracy until then."""

BEST, EPOCHS = "best validation accuracy", "epochs until all is fitted"


def examples_of_widths(rows: pd.DataFrame) -> int:
    """Returns the number of training examples at which most widths are compared, the largest of several."""
    widths = rows.groupby("data_examples")["model_width"].nunique()
    return int(widths[widths == widths.max()].index.max())


def summarize(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns best accuracy and epochs to fit per noise, width and number of examples, over seeds.

    A training that never fits counts with its length. rows: of QUERY, with the fields of their trials (`frames.read`).
    Returns quantity, kind and fraction of noise (the clean set is of every kind), model_width, data_examples, estimate,
    low, high, seeds, missing, is_width (of the examples of most widths) and is_examples (of the widths with several
    numbers).
    """
    steps = rows["fitted_step"].astype(float).fillna(rows["step_count"])
    rows = rows.assign(kind=rows["data_noise_kind"].str.replace("_", " "), fraction=rows["data_noise_fraction"])
    quantities = {
        BEST: frames.share(rows["best_count"], rows["best_of"]),
        EPOCHS: steps * rows["optimizer_batch_size"] / rows["data_examples"],
    }
    by = ["kind", "fraction", "model_width", "data_examples"]
    summary = series.of_every_kind(series.summarize(rows, quantities, by))
    sizes = summary.groupby("model_width")["data_examples"].transform("nunique")
    is_width = summary["data_examples"] == examples_of_widths(summary) if len(summary) else False
    return summary.assign(is_width=is_width, is_examples=sizes > 1)


FIGURES = tuple(
    series.figure(
        f"{name}-{kind.replace(' ', '-')}",
        f"{title}, noisy {kind.removeprefix('gaussian ')}",
        f"{note} Curves: share of training examples with {kind} drawn at random.",
        (quantity, x, "fraction"),
        {"kind": kind, flag: True},
        xscale="log",
        **axis,
    )
    for kind in ("labels", "gaussian inputs")
    for name, title, note, quantity, x, flag, axis in (
        (
            *("validation", "Accuracy by width", "Best over epochs, until all is fitted; validation data are clean."),
            *(BEST, "model_width", "is_width", {"xlabel": "width"}),
        ),
        (
            *(
                "width",
                "Time to fit, by width",
                "A training that never fits counts with its length, less than the truth.",
            ),
            *(EPOCHS, "model_width", "is_width", {"xlabel": "width", "yscale": "log"}),
        ),
        (
            *("examples", "Time to fit, by examples", "A training that never fits counts with its length."),
            *(EPOCHS, "data_examples", "is_examples", {"xlabel": "training examples", "yscale": "log"}),
        ),
    )
)
