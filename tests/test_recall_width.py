"""The least width that recalls so many pairs: by hand-made trials, and claim 12 of the background."""

import numpy as np
import pytest

from memsweep.analysis.claims.background import PAPER
from memsweep.analysis.claims.verdicts import Verdict
from memsweep.analysis.core import figures
from memsweep.analysis.questions import recall_width
from tests.claims import judged, seeds_of
from tests.test_analysis import drawn, only, trials

SEEDS = range(seeds_of("recall_width"))
WIDTHS, PAIRS, RATES = (8, 16, 32, 64), (2, 4, 8), (0.003, 0.01)
GROWING, FLAT = {2: 8, 4: 16, 8: 32}, {2: 16, 4: 16, 8: 16}


def recalls(**needed):
    """Trials of networks that recall all pairs from a width on: name -> pairs -> width; at the second rate alone."""
    rows = []
    for name, width_of in needed.items():
        is_cell = name in ("gru", "lstm")
        for pairs in PAIRS:
            for width in WIDTHS:
                for rate in RATES:
                    for seed in SEEDS:
                        right = 100 if width >= width_of[pairs] and rate == RATES[1] else 40
                        rows.append(
                            {
                                **{"data_task": "recall", "data_items": pairs, "model_width": width, "seed": seed},
                                **{"model_cell": name if is_cell else "none", "optimizer_learning_rate": rate},
                                **{"model_family": "recurrent" if is_cell else name, "data_vocabulary": 40},
                                **{"validation_target_correct_count": right, "validation_target_count": 100},
                            }
                        )
    return trials(*rows)


@pytest.mark.parametrize(
    ("needed", "verdict"),
    [
        ({"gru": GROWING, "lstm": GROWING, "transformer": FLAT}, Verdict.REPRODUCED),
        ({"gru": FLAT, "lstm": GROWING, "transformer": FLAT}, Verdict.CONTRADICTED),
        ({"gru": GROWING, "lstm": GROWING, "transformer": {2: 8, 4: 16, 8: 64}}, Verdict.CONTRADICTED),
        # beyond both ends of the grid a slope is a lower bound, which contradicts nothing
        ({"gru": {2: 8, 4: 8, 8: 8}, "lstm": GROWING, "transformer": FLAT}, Verdict.UNDECIDED),
        ({"gru": GROWING, "lstm": {2: 32, 4: 128, 8: 128}, "transformer": FLAT}, Verdict.REPRODUCED),
        ({"gru": GROWING, "lstm": {2: 128, 4: 128, 8: 128}, "transformer": FLAT}, Verdict.UNDECIDED),
        ({"gru": GROWING, "lstm": GROWING}, Verdict.NOT_RUN),
    ],
)
def test_width_by_pairs(needed, verdict):
    assert judged(PAPER, 12, recalls(**needed))["verdict"] == verdict


def test_the_least_width_is_that_of_the_best_rate_and_an_end_of_the_grid_is_marked():
    summary = recall_width.summarize(recalls(gru=GROWING, transformer={2: 8, 4: 128, 8: 128}))
    row = only(summary, quantity=recall_width.LEAST, model_cell="gru", data_items=4)
    assert (row["estimate"], row["at_least"], row["at_most"], row["seeds"]) == (16, 0, 0, len(SEEDS))
    assert only(summary, quantity=recall_width.LEAST, model_cell="gru", data_items=2)["at_most"] == len(SEEDS)
    beyond = only(summary, quantity=recall_width.LEAST, model_cell="transformer", data_items=8)
    assert (beyond["estimate"], beyond["at_least"]) == (128, 1)
    share = only(summary, quantity=recall_width.ACCURACY, model_cell="gru", data_items=4, model_width=8)
    assert share["estimate"] == pytest.approx(0.4)
    missing = recalls(gru=GROWING).assign(status=lambda rows: np.where(rows["model_width"] == 8, "failed", "finished"))
    hole = only(recall_width.summarize(missing), quantity=recall_width.LEAST, model_cell="gru", data_items=4)
    assert np.isnan(hole["estimate"]) and hole["missing"] == len(SEEDS)


def test_figures_are_drawn_of_whole_and_of_missing_sweeps():
    rows = recalls(gru=GROWING, lstm={2: 32, 4: 128, 8: 128}, transformer=FLAT)
    for shown in (rows, rows.assign(status="missing"), rows[:1], rows[:0]):
        summary = recall_width.summarize(shown)
        for figure in recall_width.FIGURES:
            with figures.canvas() as ax:
                figure.draw(summary, ax)
                assert ax.get_xlabel() or ax.texts
    names = {trace["name"] for trace in drawn(recall_width.draw_widths, recall_width.summarize(rows))["data"]}
    assert {"gru", "lstm", "transformer", "beyond the grid"} <= names
